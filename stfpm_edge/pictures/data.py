"""Good images for training: finding, reading and splitting them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stfpm_runtime.errors import DataError, ImageError, OptionError
from stfpm_runtime.imaging.images import find_images, read_image
from stfpm_runtime.imaging.preprocessing import Image, preprocess

MIN_TRAIN = 2
"""Training images that batch norm needs at the least."""


@dataclass(frozen=True)
class Split:
    """Which images train the student, which choose its epoch or its head, and which set the threshold."""

    train: list[int]
    validation: list[int]
    calibration: list[int]


def find_good_images(data: Path) -> list[Path]:
    """Find the good images of an MVTec-style category (its train/good) or of a plain folder, sorted.

    Raises DataError for a folder that is missing, empty, or so laid out that defective parts might be among them.
    """
    if not data.is_dir():
        raise DataError(f"{data}: no such folder; expected good images, or an MVTec-style category with train/good")
    folder = data / "train" / "good"
    if not folder.is_dir():
        folder = data
        if doubtful := [name for name in ("train", "test", "ground_truth") if (data / name).is_dir()]:
            raise DataError(
                f"{data}: has {doubtful[0]}/ but no train/good/; expected a category with both, or good images alone"
            )
    paths = find_images(folder)
    if not paths:
        raise DataError(f"{folder}: no pictures in it; expected PNG, JPEG, BMP, TIFF or WebP files of good parts")
    return paths


def read_images(
    paths: Sequence[Path],
    height: int,
    width: int,
    *,
    bits: int | None = None,
    skip_unreadable: bool,
    report: Callable[[str], None],
    on_read: Callable[[Path, Image], None] | None = None,
) -> tuple[Image, list[Path]]:
    """Read pictures as uint8 [N, height, width, 3], BGR, and return the paths of those that could be read.

    Each that cannot be read is named to `report`. Unless they may be skipped, they are a DataError. `bits` is the
    number of bits that the values of 16-bit pictures use. `on_read` is called with the path and the full picture, uint8
    [H, W, 3], BGR, of each that can be read.
    """
    images, read = [], []
    for path in paths:
        try:
            frame = read_image(path, bits=bits)
            images.append(preprocess(frame, height, width))
            read.append(path)
            if on_read:
                on_read(path, frame)
        except ImageError as error:
            reason = str(error) if str(path) in str(error) else f"{path}: {error}"
            report(f"{'skipped' if skip_unreadable else 'unreadable'}: {reason}")
    if len(read) < len(paths) and not skip_unreadable:
        raise DataError(
            f"{len(paths) - len(read)} of {len(paths)} pictures cannot be read, they are named above; "
            "repair or remove them, or leave them out with --skip-unreadable"
        )
    if not images:
        raise DataError(f"none of the {len(paths)} pictures can be read; expected good images")
    return np.stack(images), read


def check_fractions(val_fraction: float, train_fraction: float) -> None:
    """Raise OptionError for a fraction out of range."""
    if not 0 < val_fraction < 1:
        raise OptionError(f"got a validation fraction of {val_fraction}; expected one between 0 and 1, say 0.2")
    if not 0 < train_fraction <= 1:
        raise OptionError(f"got a training fraction of {train_fraction}; expected one above 0 and up to 1")


def split_images(
    count: int,
    val_fraction: float,
    train_fraction: float,
    seed: int,
    trained_on: Collection[int] = (),
    chosen_on: Collection[int] = (),
) -> Split:
    """Split `count` images at random, the same for the same seed. Half of those held out serve the calibration.

    `trained_on` are the images that an earlier student, which is trained on further, has learnt from, and `chosen_on`
    those that have chosen its score. Neither set the threshold: their scores are too low. Only where there are no other
    images the first do, and the caller has to refuse.

    Few-shot (`train_fraction` below 1) keeps that share of all images, as if there were no more, and splits those.
    Raises OptionError for a fraction out of range and DataError for too few images.
    """
    check_fractions(val_fraction, train_fraction)
    kept = max(round(count * train_fraction), 1)
    order = np.random.default_rng(seed).permutation(count)[:kept].tolist()
    held_out = max(round(kept * val_fraction), 2)
    if kept - held_out < MIN_TRAIN:
        raise DataError(
            f"{kept} images are too few to hold {held_out} out and train on the rest; "
            f"expected at least {MIN_TRAIN} for training: add good images or change the fractions"
        )
    half = held_out // 2
    learnt = [i for i in order if i in trained_on]
    chosen = [i for i in order if i in chosen_on and i not in trained_on]
    fresh = [i for i in order if i not in trained_on and i not in chosen_on]
    wanted = held_out - half
    start = max(0, min(half - len(chosen), len(fresh) - wanted))  # the threshold needs fresh images most
    calibration = fresh[start : start + wanted] or learnt[:wanted]
    validation = [*chosen, *fresh[:start], *(i for i in learnt if i not in calibration)][:half]
    used = {*validation, *calibration}
    train = [i for i in order if i not in used]
    return Split(train=sorted(train), validation=sorted(validation), calibration=sorted(calibration))


def batches(indices: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return one epoch's shuffled batches, the same for the same seed and epoch.

    A last batch of one image goes into the batch before it: batch norm would take that image's statistics for all.
    """
    order = np.random.default_rng([seed, epoch]).permutation(np.asarray(indices)).tolist()
    result = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if len(result) > 1 and len(result[-1]) == 1:
        last = result.pop()
        result[-1] += last
    return result
