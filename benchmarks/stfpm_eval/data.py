"""Labelled test images in MVTec AD's folders: which are good, which defect the others have, and where.

CATEGORY/test/good/000.png                          a good part
CATEGORY/test/scratch/000.png                       a part with a scratch
CATEGORY/ground_truth/scratch/000_mask.png          where; or 000.png, or several masks in a folder 000/
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stfpm_runtime.errors import DataError
from stfpm_runtime.imaging.images import find_images

from .masks import Mask, read_mask, read_mask_frame

GOOD = "good"
PARTS = ("train", "test", "ground_truth")
"""A folder with one of these in it is a category."""


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
    frame: int = 0
    """Which frame of a .npy mask is this image's."""

    @property
    def is_defective(self) -> bool:
        """Return whether the label names a defect."""
        return self.kind != GOOD

    @property
    def masks(self) -> tuple[Path, ...]:
        """Return all files of its mask."""
        return (*((self.mask,) if self.mask else ()), *self.more_masks)


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
        """Return the names of the defects, sorted."""
        return tuple(sorted({sample.kind for sample in self.samples if sample.is_defective}))


def find_categories(data: Path) -> list[Category]:
    """Return the categories that `data` holds, sorted by name; or `data` itself, where it is one.

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
        for key, image in defective.items():
            first, *more = found.get(key, (None,))
            samples.append(Sample(image, kind, first, tuple(path for path in more if path)))
    if masks and (orphans := {kind: files for kind, files in masks.items() if kind != GOOD}):
        kind, files = orphans.popitem()
        raise DataError(f"{next(iter(files.values()))}: a mask of no image; expected images in {test / kind}")
    return Category(folder.resolve().name, folder, tuple(samples), has_masks=masks is not None)


def sample_mask(sample: Sample, rows: int, columns: int) -> Mask:
    """Return the mask of a sample, all of its files joined, bool [rows, columns]. Raises what `read_mask` raises."""
    mask: Mask = np.zeros((rows, columns), np.bool_)
    for path in sample.masks:
        if path.suffix == ".npy":
            mask |= read_mask_frame(path, sample.frame, rows, columns)
        else:
            mask |= read_mask(path, rows, columns)
    return mask


def _is_category(folder: Path) -> bool:
    return any((folder / part).is_dir() for part in PARTS)


def _by_kind(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the pictures in folder/<kind>, by kind and then by their path in it without the suffix."""
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


def _match(images: dict[str, Path], masks: dict[str, Path], folder: Path) -> dict[str, tuple[Path, ...]]:
    """Return the masks by their image's key: those named KEY_mask, or else KEY, or else all in the folder KEY."""
    left, found = dict(masks), {}
    for key, image in images.items():
        inside = sorted(name for name in left if name.startswith(f"{key}/"))
        names = next(([name] for name in (f"{key}_mask", key) if name in left), inside)
        if not names:
            raise DataError(
                f"{image}: has no mask, so there is no telling which pixels are defective; "
                f"expected {folder / key}_mask.png, or no ground_truth folder at all for image AUROC alone"
            )
        found[key] = tuple(left.pop(name) for name in names)
    for mask in left.values():
        raise DataError(f"{mask}: a mask of no image; expected <image>_mask.png for an image in test/{folder.name}")
    return found
