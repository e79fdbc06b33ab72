"""Make an elongated product with small defects: strips of three parts side by side, at most one of them defective.

    python -m benchmarks.experiments.accuracy.strips DATA FOLDER

DATA is a category of square pictures with train/good, test and ground_truth; FOLDER gets the same layout. A training
picture is used once; a good test picture stands in several strips.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from stfpm_eval.data import GOOD, Sample, read_category, sample_mask
from stfpm_runtime.cli import run
from stfpm_runtime.errors import OutputError
from stfpm_runtime.imaging.images import find_images, read_image
from stfpm_runtime.imaging.preprocessing import Image

PARTS = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.accuracy.strips", description=__doc__)
    parser.add_argument("data", type=Path, help="a category of square pictures")
    parser.add_argument("folder", type=Path, help="the folder to write, which must not exist")
    arguments = parser.parse_args(argv)
    return run("strips", lambda: make_strips(arguments.data, arguments.folder))


def make_strips(data: Path, folder: Path) -> int:
    """Write the strips. Raise OutputError where the folder exists."""
    if folder.exists():
        raise OutputError(f"{folder}: exists; expected a new folder")
    random = np.random.default_rng(0)
    train = [read_image(path) for path in find_images(data / "train" / GOOD)]
    for number in range(len(train) // PARTS):
        _write(train[number * PARTS : (number + 1) * PARTS], folder / "train" / GOOD / f"{number:03d}.png")
    samples = read_category(data).samples
    good = [read_image(sample.image) for sample in samples if sample.kind == GOOD]
    for number in range(len(good)):
        parts = [good[(number + step) % len(good)] for step in range(PARTS)]
        _write(parts, folder / "test" / GOOD / f"{number:03d}.png")
    for sample in (sample for sample in samples if sample.kind != GOOD):
        _write_defective(sample, good, folder, random)
    return 0


def _write_defective(sample: Sample, good: Sequence[Image], folder: Path, random: np.random.Generator) -> None:
    """Write a strip with one defective part at a random place, and its mask."""
    image = read_image(sample.image)
    mask = sample_mask(sample, *image.shape[:2]).astype(np.uint8) * 255
    place = int(random.integers(PARTS))
    others = random.choice(len(good), PARTS - 1, replace=False)
    parts = [good[other] for other in others]
    masks = [np.zeros_like(mask) for _ in others]
    parts.insert(place, image)
    masks.insert(place, mask)
    _write(parts, folder / "test" / sample.kind / f"{sample.image.stem}.png")
    _write(masks, folder / "ground_truth" / sample.kind / f"{sample.image.stem}_mask.png")


def _write(parts: Sequence[Image], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(list(parts), axis=1))


if __name__ == "__main__":
    sys.exit(main())
