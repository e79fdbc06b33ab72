"""Labelled pictures to pre-train a teacher on: class folders, and torchvision's MNIST, SVHN, CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from stfpm_edge.model import normalise_images
from stfpm_runtime.errors import DataError, ImageError, first_line
from stfpm_runtime.imaging.images import find_images, read_image
from stfpm_runtime.imaging.preprocessing import Image, preprocess

SETS = ("mnist", "svhn", "cifar10", "cifar100")
"""The data sets of the paper's Table 4 that torchvision reads."""
UNMIRRORED = ("mnist", "svhn")
"""Digits are not the same mirrored."""
MARGIN = 8 / 7
"""A picture's side before a random crop, over the side that is left."""
HELD_OUT_EVERY = 10
"""Of each class folder the first picture of so many is kept for the accuracy; none of a folder with fewer."""
MAX_HELD_OUT = 2000
"""Pictures that the accuracy is measured on, at most."""


@dataclass(frozen=True)
class Labelled:
    """Pictures with a class each; `read` brings one as uint8 [H, W, 3], BGR."""

    classes: int
    train: list[int]
    held_out: list[int]
    """Pictures that are never trained on; may be empty."""
    labels: list[int]
    """The class of each picture, 0 to classes - 1."""
    read: Callable[[int], Image]
    mirrored: bool = True

    def draw(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw random crops, mirrored by chance: float32 [count, 3, side, side], normalised for ImageNet, and labels.

        Both lie on the generator's device. Raises ImageError for a picture that cannot be read.
        """
        device = generator.device
        drawn = torch.randint(len(self.train), (count,), generator=generator, device=device).tolist()
        chosen = [self.train[number] for number in drawn]
        pictures = self._pictures(chosen, round(side * MARGIN), device)
        room = pictures.shape[-1] - side
        corners = torch.randint(room + 1, (count, 2), generator=generator, device=device).tolist()
        mirror = torch.rand(count, generator=generator, device=device).lt(0.5 if self.mirrored else 0).tolist()
        crops = [
            picture[:, top : top + side, left : left + side]
            for picture, (top, left) in zip(pictures, corners, strict=True)
        ]
        turned = [crop.flip(2) if flip else crop for crop, flip in zip(crops, mirror, strict=True)]
        return torch.stack(turned), torch.tensor([self.labels[number] for number in chosen], device=device)

    def held_out_batches(self, count: int, side: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield whole held-out pictures in the format of `draw`, chosen at equal distances where they are many."""
        step = -(-len(self.held_out) // MAX_HELD_OUT) or 1
        numbers = self.held_out[::step]
        for start in range(0, len(numbers), count):
            batch = numbers[start : start + count]
            labels = torch.tensor([self.labels[number] for number in batch], device=device)
            yield self._pictures(batch, side, device), labels

    def _pictures(self, numbers: list[int], side: int, device: torch.device) -> Tensor:
        """Resize whole pictures: shrink them as every stage does, enlarge small ones on the device."""
        frames = [self.read(number) for number in numbers]
        if len({frame.shape for frame in frames}) == 1 and frames[0].shape[0] < side:
            x = normalise_images(torch.from_numpy(np.stack(frames)).to(device))
            return F.interpolate(x, size=(side, side), mode="bilinear")
        resized = np.stack([preprocess(frame, side, side) for frame in frames])
        return normalise_images(torch.from_numpy(resized).to(device))


def open_labelled(images: str, root: Path, download: bool) -> Labelled:
    """Open one of SETS, which torchvision looks for in `root`, or a folder with a folder for each class.

    Raises DataError for what is not there or does not fit; fetches nothing unless `download`.
    """
    return _data_set(images, root, download) if images in SETS else _class_folders(Path(images))


def _class_folders(folder: Path) -> Labelled:
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; expected procedural, {', '.join(SETS)} "
            "or a folder with one folder for each class"
        )
    found = {path.name: find_images(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    if len(found) < 2:
        raise DataError(
            f"{folder}: {len(found)} class folders in it; expected two or more, each with the pictures of one class"
        )
    if empty := [name for name, paths in found.items() if not paths]:
        raise DataError(f"{folder / empty[0]}: no pictures in it; expected those of one class, or no such folder")
    paths: list[Path] = []
    labels: list[int] = []
    held_out: list[int] = []
    for label, members in enumerate(found.values()):
        kept = len(members) // HELD_OUT_EVERY * HELD_OUT_EVERY
        held_out += range(len(paths), len(paths) + kept, HELD_OUT_EVERY)
        paths += members
        labels += [label] * len(members)

    train = sorted(set(range(len(paths))) - set(held_out))
    return Labelled(len(found), train, held_out, labels, lambda number: read_picture(paths[number]))


def read_picture(path: Path) -> Image:
    """Read a picture as uint8 [H, W, 3], BGR. Raise DataError where that fails."""
    try:
        return read_image(path)
    except ImageError as error:
        raise DataError(f"{error}, or remove it") from None


def _data_set(name: str, root: Path, download: bool) -> Labelled:
    halves = [_half(name, root, is_train, download) for is_train in (True, False)]
    pixels, labels = [half[0] for half in halves], [*halves[0][1], *halves[1][1]]
    first = len(pixels[0])

    def read(number: int) -> Image:
        picture: Image = pixels[0][number] if number < first else pixels[1][number - first]
        return picture

    train, held_out = list(range(first)), list(range(first, len(labels)))
    return Labelled(1 + max(labels), train, held_out, labels, read, name not in UNMIRRORED)


def _half(name: str, root: Path, is_train: bool, download: bool) -> tuple[Image, list[int]]:
    """Return pictures uint8 [N, H, W, 3], BGR, and labels of the training or the test half."""
    sets = torchvision.datasets
    try:
        if name == "svhn":
            half = sets.SVHN(root, split="train" if is_train else "test", download=download)
            pixels, labels = half.data.transpose(0, 2, 3, 1), half.labels
        else:
            kind = {"mnist": sets.MNIST, "cifar10": sets.CIFAR10, "cifar100": sets.CIFAR100}[name]
            half = kind(root, train=is_train, download=download)
            pixels, labels = np.asarray(half.data), half.targets
    except (RuntimeError, OSError, ValueError, EOFError, ModuleNotFoundError) as error:
        reason = first_line(error).rstrip(". ")
        raise DataError(
            f"{name} in {root}: cannot be read ({reason}); expected the files as torchvision lays them there, "
            "say where with --root, or fetch them with --download"
        ) from None
    if pixels.ndim == 3:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    return np.ascontiguousarray(pixels[..., ::-1]), [int(label) for label in labels]
