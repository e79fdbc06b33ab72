"""Reading masks: which pixels of a picture are defective, from whatever kind of picture people keep that in.

Read are 0 and 255, 0 and 1, other labels (0, 1, 2 ..., each above 0 is a defect), 16 bits, float, palettes, colours on
a black or plain background, a mask in the alpha channel, and JPEG masks with their ringing. A mask that can be read in
two ways is refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stfpm_runtime.errors import DataError, ImageError
from stfpm_runtime.imaging.images import read_image

Mask = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.float32]

MAX_LABELS = 16
"""A lossless mask of at most so many levels may consist of labels."""
MAX_LABEL = 64
"""The highest label, for levels that would be too faint for a picture of 0 and 255."""
NOISE = 0.05
"""Levels up to this share of the peak are compression noise in a lossy picture, and in doubt in a lossless one."""
RINGING = 0.12
"""JPEG's ringing at an edge stays below this share of the peak over an area of `AREA` x `AREA` pixels."""
AREA = 7
_REMEDY = "save it with 0 for good and 255 for defective pixels"


def read_mask(path: Path, rows: int, columns: int) -> Mask:
    """Read a mask as bool [rows, columns], True for defective. `rows` and `columns` are its image's size.

    Raises DataError, naming the file, for a mask that cannot be read, has another size, marks nothing or everything,
    looks inverted (its whole border and more than half of it are defective) or has levels of two meanings.
    """
    pixels, is_lossy = _decode(path)
    if pixels.shape[:2] != (rows, columns):
        raise DataError(
            f"{path}: the mask has {pixels.shape[1]}x{pixels.shape[0]} pixels, its image {columns}x{rows}; "
            "expected the same size"
        )
    levels = _levels(pixels)
    if not np.isfinite(levels).all():
        raise DataError(f"{path}: the mask has values that are no numbers; {_REMEDY}")
    if not levels.any():
        raise DataError(
            f"{path}: all pixels have the same value, {pixels.max():g}, so that it marks nothing or everything; "
            f"{_REMEDY}"
        )
    try:
        mask = _threshold(levels, is_lossy=is_lossy, is_integer=pixels.dtype.kind == "u")
    except ValueError as error:
        raise DataError(f"{path}: {error}; {_REMEDY}") from None
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if border.all() and mask.mean() > 0.5:
        raise DataError(
            f"{path}: marks {mask.mean():.0%} of the picture and all of its border, as an inverted mask does; {_REMEDY}"
        )
    return mask


def resize_mask(mask: Mask, height: int, width: int) -> Mask:
    """Resize a mask bool [H, W] to the anomaly map's size, bool [height, width], by nearest neighbour.

    Pixel centres lie on pixel centres, as they do when the image is resized: OpenCV's plain INTER_NEAREST would shift
    the mask by half a pixel of the map. A defect smaller than a pixel of the map may vanish.
    """
    resized = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, np.bool_)


def read_mask_frame(path: Path, frame: int, rows: int, columns: int) -> Mask:
    """Read one frame of a video's masks, a .npy file [frames, rows, columns], as bool; it may mark nothing.

    Raises DataError, naming the file, for one that cannot be read or has another shape.
    """
    try:
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as an array ({error}); copy it again") from None
    if frames.ndim != 3 or frame >= len(frames) or frames.shape[1:] != (rows, columns):
        raise DataError(
            f"{path}: has the shape {list(frames.shape)}; expected more than {frame} frames of {rows} x {columns}"
        )
    return np.asarray(frames[frame] > 0, np.bool_)


def _decode(path: Path) -> tuple[npt.NDArray[Any], bool]:
    """Return the picture as it is stored, [H, W] or [H, W, channels], and whether its format loses detail."""
    try:
        data = path.read_bytes()
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
        if pixels is None or pixels.dtype in (np.uint8, np.uint16):
            read_image(path, bits=16)  # it refuses a damaged file
    except (ImageError, OSError, cv2.error) as error:
        raise DataError(f"{path}: {str(error).removeprefix(f'{path}: ')}; it is the mask of a test image") from None
    if pixels is None:
        raise DataError(f"{path}: cannot be decoded; {_REMEDY} as PNG; it is the mask of a test image")
    return pixels, data.startswith((b"\xff\xd8", b"RIFF", b"\0\0\0\x0cjP")) or data[4:8] == b"ftyp"


def _levels(pixels: npt.NDArray[Any]) -> Levels:
    """Return how far each pixel is from the background, float32 [H, W]: 0 is good."""
    values = pixels.astype(np.float32).reshape(*pixels.shape[:2], -1)
    colours, alpha = (values[..., :3], values[..., 3]) if values.shape[2] == 4 else (values, None)
    if alpha is not None and (alpha != alpha.flat[0]).any():
        opaque = alpha > 0
        seen = colours[opaque]
        if (seen == seen[0]).all():  # one colour, or none: the mask is the alpha channel
            return np.asarray(alpha - alpha.min())
        colours = np.where(opaque[..., np.newaxis], colours, 0)
    if (colours == colours[..., :1]).all():
        return np.asarray(colours[..., 0] - colours.min())
    if (colours == 0).all(axis=2).any():
        return np.asarray(colours.max(axis=2))
    border = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    found, counts = np.unique(border, axis=0, return_counts=True)
    return np.asarray(np.abs(colours - found[counts.argmax()]).max(axis=2))


def _threshold(levels: Levels, *, is_lossy: bool, is_integer: bool) -> Mask:
    """Return which levels are defective. Raises ValueError, with the reason, where they are ambiguous."""
    peak, found = float(levels.max()), np.unique(levels)
    if not is_lossy and is_integer and peak <= MAX_LABEL:
        return np.asarray(levels > 0)
    mask: Mask = levels > peak / 2
    if is_lossy or len(found) > MAX_LABELS:
        between = ((levels > RINGING * peak) & ~mask).astype(np.uint8)
        if cv2.erode(between, np.ones((AREA, AREA), np.uint8), borderValue=0).any():
            raise ValueError("has areas that are neither good nor defective, as a photograph or a heat map has")
        return mask
    areas = _areas(levels, mask)
    if (areas & (levels <= NOISE * peak)).any():
        raise ValueError(f"the levels {found[1]:g} and {peak:g} are side by side; {found[1]:g} may be a label or noise")
    return np.asarray(levels > 0) if areas.any() else mask


def _areas(levels: Levels, mask: Mask) -> Mask:
    """Return the pixels that are not the soft edge of a marked area, but an area of a lower level."""
    square = np.ones((3, 3), np.uint8)
    is_flat = cv2.erode(levels, square) == cv2.dilate(levels, square)
    count, component = cv2.connectedComponents((levels > 0).astype(np.uint8), connectivity=8)
    is_marked = np.zeros(count, np.bool_)
    is_marked[component[mask]] = True
    return np.asarray((levels > 0) & ~mask & (is_flat | ~is_marked[component]))
