"""Regions and tiles of a frame: cut out for one batch of the engine, and merged to one map per region."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stfpm_runtime.errors import ImageError

from .overlay import AnomalyMap, cover
from .preprocessing import Image

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tiling:
    """Positions of square tiles in a picture of height x width pixels: all tiles are whole, at equal distances."""

    height: int
    width: int
    side: int
    """Side of a tile, in pixels of the picture."""
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Return (top, left) of each tile, row by row."""
        return [(top, left) for top in self.tops for left in self.lefts]


@dataclass(frozen=True, eq=False)
class Cut:
    """A region of one frame: the pictures that the engine is to see."""

    image: Image
    """uint8 [H, W, 3]: the region's rectangle."""
    crops: tuple[Image, ...]
    """That image, or its tiles."""
    tiling: Tiling | None
    polygon: npt.NDArray[np.int32] | None
    """Corners [n, 2], x and y in the image; None: all of it counts."""

    def merge(self, maps: Sequence[AnomalyMap]) -> AnomalyMap:
        """Merge the crops' maps, each float32 [h, w], to the region's: tiles blended, 0 outside the polygon."""
        merged = maps[0] if self.tiling is None else blend(maps, self.tiling)
        if self.polygon is None:
            return merged
        return np.where(_mask(self.polygon, self.image.shape[:2], merged.shape), merged, np.float32(0))

    def inside(self, cells: Sequence[int]) -> npt.NDArray[np.bool_] | None:
        """Return the cells of the merged map, bool [h, w], that count; None for all of them."""
        return None if self.polygon is None else _mask(self.polygon, self.image.shape[:2], cells)

    def windows(self, rows: int, columns: int) -> list[tuple[slice, slice]]:
        """Return where the map of each crop, [rows, columns], lies in the merged one."""
        if self.tiling is None:
            return [(slice(0, rows), slice(0, columns))]
        tops, _ = _shares(self.tiling.tops, self.tiling.side, rows)
        lefts, _ = _shares(self.tiling.lefts, self.tiling.side, columns)
        return [(slice(top, top + rows), slice(left, left + columns)) for top in tops for left in lefts]


def cut(
    frame: Image,
    name: str,
    rectangle: tuple[int, int, int, int] | None = None,
    polygon: Sequence[tuple[int, int]] = (),
    tile: int | None = None,
    overlap: int = 0,
) -> Cut:
    """Cut a region out of a frame uint8 [H, W, 3], without copying; all lengths are in pixels of the frame.

    `rectangle` is x, y, width and height (None: the polygon's, or the whole frame), `polygon` its corners x, y, `tile`
    the side of the square tiles (None: one picture), and `overlap` the least that neighbouring tiles share. `name`
    stands in the messages. Raises ImageError where the frame does not hold the region, or the region its tiles.
    """
    height, width = frame.shape[:2]
    left, top, right, bottom = _bounds(rectangle, polygon, height, width)
    if right > width or bottom > height:
        raise ImageError(
            f"region {name} reaches to {right}, {bottom}, the frame is {width}x{height}; "
            "expected a frame that holds it: correct the region, or the camera's resolution"
        )
    image = frame[top:bottom, left:right]
    corners = np.array([(x - left, y - top) for x, y in polygon], np.int32) if polygon else None
    if tile is None:
        return Cut(image, (image,), None, corners)
    if min(image.shape[:2]) < tile:
        raise ImageError(
            f"region {name} is {image.shape[1]}x{image.shape[0]}, its tiles {tile}x{tile}; "
            "expected tiles that fit: make them smaller, or leave them out"
        )
    tiling = lay_tiles(image.shape[0], image.shape[1], tile, overlap)
    crops = tuple(image[top : top + tile, left : left + tile] for top, left in tiling.corners)
    return Cut(image, crops, tiling, corners)


@functools.lru_cache(maxsize=64)
def lay_tiles(height: int, width: int, side: int, overlap: int) -> Tiling:
    """Lay as few tiles as cover the picture with at least that overlap; the last row and column end where it does."""
    return Tiling(height, width, side, _starts(height, side, overlap), _starts(width, side, overlap))


def blend(maps: Sequence[AnomalyMap], tiling: Tiling) -> AnomalyMap:
    """Merge tiles' maps, each float32 [h, w] in the order of `tiling.corners`, to one map of the whole picture.

    Where tiles overlap it is their weighted mean: a tile counts most at its middle and least at its border, where
    the network saw half of what is there and zeros beyond. Elsewhere a tile's map is taken as it is.
    """
    rows, columns = maps[0].shape
    tops, vertical = _shares(tiling.tops, tiling.side, rows)
    lefts, horizontal = _shares(tiling.lefts, tiling.side, columns)
    merged = np.zeros((tops[-1] + rows, lefts[-1] + columns), np.float32)
    tiles = iter(maps)
    for top, down in zip(tops, vertical, strict=True):
        for left, across in zip(lefts, horizontal, strict=True):
            merged[top : top + rows, left : left + columns] += next(tiles) * (down[:, None] * across)
    return merged


def _bounds(
    rectangle: tuple[int, int, int, int] | None, polygon: Sequence[tuple[int, int]], height: int, width: int
) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) in pixels of the frame, the last two exclusive."""
    if rectangle is not None:
        x, y, region_width, region_height = rectangle
        return x, y, x + region_width, y + region_height
    if polygon:
        xs, ys = zip(*polygon, strict=True)
        return min(xs), min(ys), max(xs) + 1, max(ys) + 1
    return 0, 0, width, height


def _starts(length: int, side: int, overlap: int) -> tuple[int, ...]:
    """Return where tiles begin along one side: as few as possible, at equal distances."""
    count = 1 + max(0, -(-(length - side) // (side - overlap)))
    return tuple(round(k * (length - side) / (count - 1)) for k in range(count)) if count > 1 else (0,)


def _shares(starts: Sequence[int], side: int, cells: int) -> tuple[list[int], list[Weights]]:
    """Return, along one side, the cell where each tile begins, and its share float32 [cells] in each of its cells.

    All tiles' shares of a cell add up to 1. A tile's weight rises linearly from its border to its middle.
    """
    begins = [(2 * start * cells + side) // (2 * side) for start in starts]  # rounded, and half always up: no gaps
    ramp = np.minimum(np.arange(1, cells + 1), np.arange(cells, 0, -1)).astype(np.float64)
    total = np.zeros(begins[-1] + cells)
    for begin in begins:
        total[begin : begin + cells] += ramp
    return begins, [(ramp / total[begin : begin + cells]).astype(np.float32) for begin in begins]


def _mask(corners: npt.NDArray[np.int32], size: Sequence[int], cells: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return the cells, bool [h, w], that the polygon overlaps; `size` is the image's height and width."""
    return _mask_of(corners.tobytes(), (size[0], size[1]), (cells[0], cells[1]))


@functools.lru_cache(maxsize=64)
def _mask_of(corners: bytes, size: tuple[int, int], cells: tuple[int, int]) -> npt.NDArray[np.bool_]:
    painted = np.zeros(size, np.uint8)
    cv2.fillPoly(painted, [np.frombuffer(corners, np.int32).reshape(-1, 2)], 1)
    return cover(painted > 0, *cells)
