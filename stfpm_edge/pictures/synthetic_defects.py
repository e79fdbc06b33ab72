"""Synthetic defects, drawn into pictures of good parts: no real defect is needed to compare settings of a detector.

Four kinds: `patch` is a piece of the picture, turned and pasted at another place (CutPaste, Li et al., CVPR 2021);
`texture` is a stain whose outline is thresholded smooth noise, as DRAEM's (Zavrtanik et al., ICCV 2021); `scratch` is a
curved line; `missing` is a piece that shows the background, or, where the part fills the picture, a flat colour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stfpm_runtime.imaging.preprocessing import Image

Plane = npt.NDArray[Any]
"""Floating-point numbers, [H, W]; of a cover, the share of each pixel that a defect covers, 0 to 1."""
Colour = npt.NDArray[Any]
"""B, G, R, 0 to 255."""

SIZES = (0.03, 0.06, 0.12)
"""Sizes that heads and models are tried on, as shares of the picture's short side: a strip shows several parts."""
SIZES_LEARNT = (*SIZES, 0.2)
"""Sizes of the defects that a denoising student learns from."""
MAX_DEFECTS = 2
"""In one picture that it learns from."""
DEFECTS_PER_KIND_AND_SIZE = 12
"""The number of defects of each kind and size that they are tried on."""
MIN_CONTRAST = 8.0
"""A defect changes the pixels that it covers by so many grey levels on average, or it is drawn again elsewhere."""
ATTEMPTS = 20
BACKGROUND_DISTANCE = 24.0
"""A pixel is part of the product where a channel differs so much from the colour of the picture's border."""
MIN_PRODUCT_SHARE, MAX_PRODUCT_SHARE = 0.05, 0.95
"""Outside these shares of the picture the product cannot be told from its background and is the whole picture."""


@dataclass(frozen=True)
class SyntheticDefect:
    """A picture with one defect drawn into it."""

    kind: str
    size: float
    """The defect's extent as a share of the picture's short side."""
    image: Image
    """Uint8 [H, W, 3]."""
    mask: npt.NDArray[np.bool_]
    """The pixels that were changed, [H, W]."""


def draw_defects(
    images: Sequence[Image] | Image, sizes: Sequence[float], count: int, seed: int
) -> list[SyntheticDefect]:
    """Draw `count` defects of each kind and size into good pictures uint8 [H, W, 3], taken in turn.

    The same pictures and the same seed give the same defects.
    """
    drawn: list[SyntheticDefect] = []
    for kind in KINDS:
        for size in sizes:
            for number in range(count):
                key = [seed, KINDS.index(kind), round(size * 1e6), number]
                image = images[len(drawn) % len(images)]
                drawn.append(draw_defect(image, kind, size, np.random.default_rng(key)))
    return drawn


def draw_into(images: Image, share: float, random: np.random.Generator) -> Image:
    """Return pictures uint8 [N, H, W, 3] with one or two defects of any kind in about this share of them, 0 to 1."""
    drawn = images.copy()
    for number in np.flatnonzero(random.random(len(images)) < share):
        for _ in range(random.integers(1, MAX_DEFECTS + 1)):
            kind, size = KINDS[random.integers(len(KINDS))], float(random.choice(SIZES_LEARNT))
            drawn[number] = draw_defect(drawn[number], kind, size, random).image
    return drawn


def draw_defect(image: Image, kind: str, size: float, random: np.random.Generator) -> SyntheticDefect:
    """Draw one defect of `size`, a share of the short side, into a copy of a picture uint8 [H, W, 3].

    Of at most `ATTEMPTS` places and appearances the first one with enough contrast is kept, else the one with most.
    """
    extent = max(size * min(image.shape[:2]), 1.0)
    product, background = find_product(image)
    places = np.argwhere(product)
    best, best_contrast = image, -1.0
    for _ in range(ATTEMPTS):
        row, column = places[random.integers(len(places))]
        changed, cover = _DRAW[kind](image, (int(row), int(column)), extent, places, background, random)
        mixed = np.clip(np.rint(image + cover[..., None] * (changed - image)), 0, 255).astype(np.uint8)
        changes = _largest_channel(np.abs(mixed.astype(np.float32) - image))
        contrast = float((changes * cover).sum() / max(cover.sum(), 1e-6))
        if contrast > best_contrast:
            best, best_contrast = mixed, contrast
        if contrast >= MIN_CONTRAST:
            break
    return SyntheticDefect(kind, size, best, _largest_channel(best != image))


def find_product(image: Image) -> tuple[npt.NDArray[np.bool_], Colour | None]:
    """Return the pixels of the product, [H, W], and the background's colour, [3].

    The background has the colour of the picture's border. Where that does not divide the picture, all of it is the
    product and there is no background.
    """
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    colour = np.median(border, axis=0).astype(np.float32)
    product = _largest_channel(np.abs(image - colour)) > BACKGROUND_DISTANCE
    product = cv2.morphologyEx(product.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0
    if MIN_PRODUCT_SHARE <= product.mean() <= MAX_PRODUCT_SHARE:
        return product, colour
    return np.ones(product.shape, np.bool_), None


Places = npt.NDArray[np.int64]
"""Row and column of each pixel of the product, [N, 2]."""
Drawing = tuple[npt.NDArray[Any], Plane]
"""The picture as it is inside the defect, float32 [H, W, 3], and what the defect covers."""


def _patch(
    image: Image, place: tuple[int, int], extent: float, places: Places, background: Colour | None,
    random: np.random.Generator,
) -> Drawing:  # fmt: skip
    """Turn a piece of the picture and move it from another place of the product."""
    source = places[random.integers(len(places))]
    moved = _affine(image, source[::-1], place[::-1], random.uniform(0, 360))
    cover = _ellipse_or_box(image.shape, place, extent, random)
    return moved.astype(np.float32), cover


def _texture(
    image: Image, place: tuple[int, int], extent: float, places: Places, background: Colour | None,
    random: np.random.Generator,
) -> Drawing:  # fmt: skip
    """Mix the picture with a stain of another colour, whose outline and surface are smooth noise."""
    colour = random.uniform(0, 255, 3).astype(np.float32)
    if random.random() < 0.5:
        colour[:] = colour.mean()
    surface = _smooth_noise(image.shape[:2], max(extent / 6, 1.0), random)[..., None] * 30 + colour
    share = np.float32(random.uniform(0.2, 0.8))
    mixed = image * (1 - share) + surface * share
    outline = _smooth_noise(image.shape[:2], max(extent / 4, 1.0), random)
    return mixed.astype(np.float32), _soft(outline - 2 * _distance(image.shape, place, extent / 2) + 1.5)


def _scratch(
    image: Image, place: tuple[int, int], extent: float, places: Places, background: Colour | None,
    random: np.random.Generator,
) -> Drawing:  # fmt: skip
    """Draw a curved line, lighter or darker than what it crosses."""
    angle, bend = random.uniform(0, 2 * np.pi), random.uniform(-0.3, 0.3)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    t = np.linspace(-0.5, 0.5, 17)
    points = np.array(place[::-1]) + extent * (t[:, None] * along + bend * (1 - 4 * t[:, None] ** 2) * across)
    cover = np.zeros(image.shape[:2], np.uint8)
    width = max(round(extent * random.uniform(0.02, 0.08)), 1)
    fixed_point = np.rint(points * 16).astype(np.int32)
    cv2.polylines(cover, [fixed_point], False, 255, width, cv2.LINE_AA, shift=4)
    change = random.uniform(15, 90) * (1 if random.random() < 0.5 else -1)
    return image + np.float32(change), cover.astype(np.float32) / 255


def _missing(
    image: Image, place: tuple[int, int], extent: float, places: Places, background: Colour | None,
    random: np.random.Generator,
) -> Drawing:  # fmt: skip
    """Show the background, or a colour of the picture, in place of a piece with a ragged outline."""
    colour = (
        image[random.integers(image.shape[0]), random.integers(image.shape[1])] if background is None else background
    )
    outline = _smooth_noise(image.shape[:2], max(extent / 4, 1.0), random)
    cover = _soft(0.7 * outline - 3 * _distance(image.shape, place, extent / 2) + 3)
    return np.broadcast_to(np.asarray(colour, np.float32), image.shape).copy(), cover


_DRAW: dict[str, Callable[..., Drawing]] = {
    "patch": _patch, "texture": _texture, "scratch": _scratch, "missing": _missing,
}  # fmt: skip
KINDS = tuple(_DRAW)


def _largest_channel(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the largest of the three channels, [H, W]: many times as fast as NumPy's maximum along the last axis."""
    return np.asarray(np.maximum(np.maximum(values[..., 0], values[..., 1]), values[..., 2]))


def _affine(
    image: Image, source: npt.NDArray[np.int64], target: Sequence[int], degrees: float
) -> npt.NDArray[np.uint8]:
    """Turn a picture round `source` (x, y) and move that point to `target`."""
    matrix = cv2.getRotationMatrix2D((float(source[0]), float(source[1])), degrees, 1.0)
    matrix[:, 2] += np.asarray(target) - source
    height, width = image.shape[:2]
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved, np.uint8)


def _ellipse_or_box(shape: Sequence[int], place: tuple[int, int], extent: float, random: np.random.Generator) -> Plane:
    """Return a turned ellipse or box round a place (row, column)."""
    cover = np.zeros(shape[:2], np.uint8)
    sides = (extent, max(extent * random.uniform(0.4, 1.0), 1.0))
    centre, degrees = (float(place[1]), float(place[0])), random.uniform(0, 180)
    if random.random() < 0.5:
        cv2.ellipse(cover, (centre, sides, degrees), 255, -1, cv2.LINE_AA)
    else:
        corners = cv2.boxPoints((centre, sides, degrees))
        cv2.fillPoly(cover, [np.rint(corners * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return cover.astype(np.float32) / 255


def _distance(shape: Sequence[int], place: tuple[int, int], radius: float) -> Plane:
    """Return the distance of each pixel from a place, in units of `radius`."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(np.hypot(rows - place[0], columns - place[1]) / max(radius, 0.5), np.float32)


def _smooth_noise(shape: Sequence[int], scale: float, random: np.random.Generator) -> Plane:
    """Return Gaussian noise, blurred with a sigma of `scale` pixels, of mean 0 and standard deviation 1."""
    coarse = (max(round(shape[1] / scale), 2), max(round(shape[0] / scale), 2))
    coarse_noise = random.standard_normal(coarse[::-1]).astype(np.float32)
    noise = cv2.resize(coarse_noise, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray((noise - noise.mean()) / max(float(noise.std()), 1e-6), np.float32)


def _soft(level: Plane) -> Plane:
    """Return the part of a level above 0, as a cover with an edge about one pixel soft."""
    return np.asarray(cv2.GaussianBlur((level > 0).astype(np.float32), (3, 3), 0.6), np.float32)
