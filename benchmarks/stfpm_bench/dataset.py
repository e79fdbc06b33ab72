"""Labelled test images in MVTec AD's folders: which are good, what the others suffer from, and where.

CATEGORY/test/good/000.png                          a good part
CATEGORY/test/scratch/000.png                       a part with a scratch
CATEGORY/ground_truth/scratch/000_mask.png          where: above 127 is defective
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from stfpm_runtime.errors import DataError, ImageError
from stfpm_runtime.images import find_images, read_image

GOOD = "good"
MASK_LEVEL = 127
"""A mask's pixel above it is defective."""
PARTS = ("train", "test", "ground_truth")
"""The folders that make a folder a category."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Sample:
    """One test image and what is known of it."""

    image: Path
    kind: str
    """`good`, or the name of its defect."""
    mask: Path | None = None
    """None for a good image, and where the data set has no ground truth. A .npy file is bool [frames, H, W]."""
    more_masks: tuple[Path, ...] = ()
    """Further masks of the same image: a pixel is defective where any of them says so."""
    mask_level: int = MASK_LEVEL
    """The highest value of a mask's normal pixels."""
    frame: int = 0
    """Which frame of a .npy mask is this image's."""

    @property
    def is_defective(self) -> bool:
        """Whether the label says so."""
        return self.kind != GOOD


@dataclass(frozen=True)
class Category:
    """The test images of one product: at least one good and one defective."""

    name: str
    folder: Path
    samples: tuple[Sample, ...]
    """The good ones first, then defect by defect, sorted by path."""
    has_masks: bool
    """Whether every defective sample has a mask; otherwise none has, and there are no pixel metrics."""

    @property
    def defects(self) -> tuple[str, ...]:
        """Names of the defects, sorted."""
        return tuple(sorted({sample.kind for sample in self.samples if sample.is_defective}))


def find_categories(data: Path) -> list[Category]:
    """The categories that `data` holds, sorted by name; or `data` itself, where it is one.

    Raises DataError where there is none, and for what `read_category` refuses.
    """
    if not data.is_dir():
        raise DataError(f"{data}: no such folder; expected an MVTec-style category, or a folder of categories")
    if _is_category(data):
        return [read_category(data)]
    folders = sorted(folder for folder in data.iterdir() if folder.is_dir() and _is_category(folder))
    if not folders:
        raise DataError(f"{data}: no test folder in it nor one level below; expected test/good and test/<defect>")
    return [read_category(folder) for folder in folders]


def read_category(folder: Path) -> Category:
    """List a category; no picture is opened.

    Raises DataError, naming the file, where good or defective images are missing, an image lies outside of a
    test/<kind> folder, or images and masks do not match one to one.
    """
    test = folder / "test"
    if not test.is_dir():
        raise DataError(f"{folder}: no test folder; expected {test / GOOD} and {test}/<defect>")
    images = _by_kind(test)
    good = images.pop(GOOD, {})
    if not good:
        raise DataError(f"{test / GOOD}: no pictures of good parts; AUROC compares them with defective ones, add some")
    if not images:
        raise DataError(f"{test}: no pictures of defective parts; expected them in {test}/<defect>")
    truth = folder / "ground_truth"
    masks = _by_kind(truth) if truth.is_dir() else None
    samples = [Sample(image, GOOD) for image in good.values()]
    for kind, defective in sorted(images.items()):
        found = {} if masks is None else _match(defective, masks.pop(kind, {}), truth / kind)
        samples += [Sample(image, kind, found.get(key)) for key, image in defective.items()]
    if masks and (orphans := {kind: files for kind, files in masks.items() if kind != GOOD}):
        kind, files = orphans.popitem()
        raise DataError(f"{next(iter(files.values()))}: a mask of no image; expected images in {test / kind}")
    return Category(folder.resolve().name, folder, tuple(samples), has_masks=masks is not None)


def sample_mask(sample: Sample, rows: int, columns: int) -> Mask:
    """The mask of a sample, all of its files joined, as bool [rows, columns]. Raises DataError as `read_mask` does."""
    mask: Mask = np.zeros((rows, columns), np.bool_)
    for path in (*((sample.mask,) if sample.mask else ()), *sample.more_masks):
        if path.suffix == ".npy":
            mask |= _read_frame(path, sample.frame, rows, columns)
        else:
            mask |= read_mask(path, rows, columns, sample.mask_level)
    return mask


def read_mask(path: Path, rows: int, columns: int, level: int = MASK_LEVEL) -> Mask:
    """A mask as bool [rows, columns], True for defective: above `level`.

    `rows` and `columns` are its image's size. Raises DataError, naming the file, for a mask that cannot be read, has
    another size, or marks nothing.
    """
    try:
        levels = read_image(path).max(axis=2)
    except ImageError as error:
        raise DataError(f"{error}; it is the mask of a test image") from None
    if levels.shape != (rows, columns):
        raise DataError(
            f"{path}: the mask has {levels.shape[1]}x{levels.shape[0]} pixels, its image {columns}x{rows}; "
            "expected the same size"
        )
    mask: Mask = levels > level
    if not mask.any():
        raise DataError(
            f"{path}: marks nothing, its highest level is {levels.max()}; expected 255 where the image is defective"
        )
    return mask


def resize_mask(mask: Mask, height: int, width: int) -> Mask:
    """A mask bool [H, W] at the anomaly map's size, bool [height, width], by nearest neighbour.

    Pixel centres lie on pixel centres, as they do when the image is resized: OpenCV's plain INTER_NEAREST would shift
    the mask by half a pixel of the map. A defect smaller than a pixel of the map may vanish.
    """
    resized = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, np.bool_)


def _read_frame(path: Path, frame: int, rows: int, columns: int) -> Mask:
    """One frame of a video's mask; it may mark nothing."""
    try:
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as an array ({error}); copy it again") from None
    if frames.ndim != 3 or frame >= len(frames) or frames.shape[1:] != (rows, columns):
        raise DataError(
            f"{path}: has the shape {list(frames.shape)}; expected more than {frame} frames of {rows} x {columns}"
        )
    return np.asarray(frames[frame] > 0, np.bool_)


def _is_category(folder: Path) -> bool:
    return any((folder / part).is_dir() for part in PARTS)


def _by_kind(folder: Path) -> dict[str, dict[str, Path]]:
    """Pictures below folder/<kind>, by kind and then by their path in it without the suffix."""
    kinds: dict[str, dict[str, Path]] = {}
    for path in find_images(folder):
        kind, *rest = path.relative_to(folder).parts
        if not rest:
            raise DataError(
                f"{path}: lies in {folder.name}/ itself; expected it in a folder named good or for a defect"
            )
        key = Path(*rest).with_suffix("").as_posix()
        if other := kinds.setdefault(kind, {}).get(key):
            raise DataError(f"{path}: has the name of {other} but for the suffix; remove or rename one of them")
        kinds[kind][key] = path
    return kinds


def _match(images: dict[str, Path], masks: dict[str, Path], folder: Path) -> dict[str, Path]:
    """The masks by their image's key."""
    for key, image in images.items():
        if f"{key}_mask" not in masks:
            raise DataError(
                f"{image}: has no mask, so there is no telling which pixels are defective; "
                f"expected {folder / key}_mask.png, or no ground_truth folder at all for image AUROC alone"
            )
    for key, mask in masks.items():
        if key.removesuffix("_mask") not in images or not key.endswith("_mask"):
            raise DataError(f"{mask}: a mask of no image; expected <image>_mask.png for an image in test/{folder.name}")
    return {key: masks[f"{key}_mask"] for key in images}
