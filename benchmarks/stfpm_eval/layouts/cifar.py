"""CIFAR-10, one class against the other nine: each class is a product whose defects are all other classes.

The published archive is five pickles of pixels. `unpack_cifar10` writes them as PNG files once, when asked to; what
is listed here is that folder: train/CLASS/NNNNN.png and test/CLASS/NNNNN.png.
"""

from __future__ import annotations

from pathlib import Path

import cv2

from stfpm_eval.data import GOOD, Sample
from stfpm_runtime.errors import DataError

from .base import Listing, pictures

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE = "cifar-10-batches-py"


def list_cifar10(root: Path) -> Listing:
    """List ten products, which have no masks."""
    listing = Listing("cifar10", root)
    if not (root / "train").is_dir() and (root / ARCHIVE).is_dir():
        listing.misfits.append(
            f"{root / ARCHIVE}: pickles, not pictures; unpack them with "
            f"python -m stfpm_eval.layouts {root} --unpack-cifar10 FOLDER, and give that folder"
        )
        return listing
    test = {name: pictures(root / "test" / name) for name in CLASSES}
    listing.misfits += [f"{root / 'test' / name}: no pictures; one-class needs all ten classes"
                        for name, found in test.items() if not found]  # fmt: skip
    for name in CLASSES:
        samples = [
            Sample(image, GOOD if other == name else other) for other, images in test.items() for image in images
        ]
        listing.add(name, root, pictures(root / "train" / name), samples, has_masks=False)
    return listing


def unpack_cifar10(root: Path, target: Path) -> int:
    """Write the archive's pictures below `target`; returns how many. torchvision checks the files' hashes.

    Raises DataError for an archive that is missing, cut off, or not the published one.
    """
    from torchvision.datasets import CIFAR10

    count = 0
    for split in ("train", "test"):
        try:
            data = CIFAR10(str(root), train=split == "train", download=False)
        except (RuntimeError, OSError, EOFError) as error:
            raise DataError(
                f"{root / ARCHIVE}: missing, cut off or changed ({error}); get cifar-10-python.tar.gz and unpack it"
            ) from None
        for number, (pixels, label) in enumerate(zip(data.data, data.targets, strict=True)):
            path = target / split / CLASSES[label] / f"{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
            count += 1
    return count
