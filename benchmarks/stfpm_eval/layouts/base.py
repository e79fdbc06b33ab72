"""The listing of a data set: its products, and the files that do not fit the layout, each with its reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from stfpm_eval.data import GOOD, Category, Sample
from stfpm_runtime.errors import DataError
from stfpm_runtime.files import sha256
from stfpm_runtime.imaging.images import is_image

SHOWN = 5
"""Misfits that an error names; `python -m stfpm_eval.layouts ROOT` lists them all."""


@dataclass(frozen=True)
class Product:
    """One product of a data set: good pictures to train on, labelled ones to judge."""

    name: str
    train: tuple[Path, ...]
    """Sorted."""
    category: Category

    def digest(self) -> str:
        """Return the SHA-256 of all files and their labels, in hexadecimal: the same wherever the data set lies.

        Raises DataError for a file that cannot be read.
        """
        digest = hashlib.sha256()
        listed: list[tuple[str, int, tuple[Path, ...]]] = [("train", 0, (path,)) for path in self.train]
        listed += [(one.kind, one.frame, (one.image, *one.masks)) for one in self.category.samples]
        for kind, frame, paths in listed:
            digest.update(f"\n{kind} {frame} ".encode())
            for path in paths:
                try:
                    digest.update(sha256(path).encode())
                except OSError as error:
                    raise DataError(f"{path}: cannot be read ({error.strerror}); copy it again") from None
        return digest.hexdigest()


@dataclass
class Listing:
    """The products found in a root folder, and what does not fit."""

    layout: str
    root: Path
    products: list[Product] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)
    """`PATH: what is wrong; expected what`, one for each file or folder."""

    def check(self) -> list[Product]:
        """Return the products. Raises DataError, which names the first misfits, where there are any, or no product."""
        if self.misfits:
            shown, more = self.misfits[:SHOWN], len(self.misfits) - SHOWN
            rest = f"; and {more} more, all listed by: python -m stfpm_eval.layouts {self.root}" if more > 0 else ""
            raise DataError(
                f"{self.root}: {len(self.misfits)} misfits in the layout {self.layout}: {'; '.join(shown)}{rest}"
            )
        if not self.products:
            raise DataError(f"{self.root}: holds no product in the layout {self.layout}; give the data set's own root")
        return self.products

    def add(self, name: str, folder: Path, train: list[Path], samples: list[Sample], *, has_masks: bool) -> None:
        """Add a product, or add the misfits that name what it lacks."""
        good = sum(not sample.is_defective for sample in samples)
        for count, what in ((len(train), "training"), (good, "good test"), (len(samples) - good, "defective test")):
            if not count:
                self.misfits.append(f"{folder}: no {what} pictures; expected at least one in the layout {self.layout}")
        if train and good and good < len(samples):
            ordered = sorted(samples, key=lambda sample: (sample.is_defective, sample.kind, sample.image))
            category = Category(name, folder, tuple(ordered), has_masks=has_masks)
            self.products.append(Product(name, tuple(sorted(train)), category))


def pictures(folder: Path) -> list[Path]:
    """Return the picture files straight in a folder, sorted; none where it is missing, and no hidden ones."""
    return sorted(path for path in folder.iterdir() if is_image(path)) if folder.is_dir() else []


def folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted; none where it is missing, and no hidden ones."""
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())


def pair(listing: Listing, kind: str, images: list[Path], masks: Path, name_of: Callable[[Path], str]) -> list[Sample]:
    """Return defective images with their masks in one folder, by the stem that `name_of` gives, and add misfits."""
    found = {path.stem: path for path in pictures(masks)}
    samples = []
    for image in images:
        mask = found.pop(name_of(image), None)
        if mask is None:
            listing.misfits.append(f"{image}: has no mask; expected {masks / name_of(image)}.png")
        else:
            samples.append(Sample(image, kind, mask))
    listing.misfits += [f"{mask}: a mask of no image; remove it, or bring its image" for mask in found.values()]
    return samples


def check_folders(listing: Listing, folder: Path, allowed: set[str]) -> None:
    """Add misfits for folders of other names than the layout's, and for pictures between them."""
    for path in folders(folder):
        if path.name not in allowed:
            listing.misfits.append(f"{path}: unknown to the layout; expected one of {', '.join(sorted(allowed))}")
    listing.misfits += [f"{path}: lies in {folder.name}/ itself; expected it one folder lower"
                        for path in pictures(folder)]  # fmt: skip


def good_samples(images: list[Path]) -> list[Sample]:
    """Return samples without a defect."""
    return [Sample(image, GOOD) for image in images]
