"""The teacher's features, computed once: without augmentation it sees the same images every epoch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import Tensor

from stfpm_runtime.imaging.preprocessing import Image

from .model import normalise_images, unit
from .networks import Pyramid

MEMORY_SHARE = 0.5
"""The share of free memory that features may take before they go to a file."""


class TeacherFeatures:
    """Unit features of all images, one float32 array [N, C, h, w] a block: in memory, or in memory-mapped files.

    A context manager: the files, made in `folder`, have no name where the system can do that (Linux), so that even a
    process that is killed leaves none.
    """

    def __init__(self, folder: Path, memory_limit: float | None = None) -> None:
        """Set the limit in bytes; None is half of the memory that is free now."""
        self._folder = folder
        self._limit = psutil.virtual_memory().available * MEMORY_SHARE if memory_limit is None else memory_limit
        self._files: list[IO[bytes]] = []
        self._blocks: list[npt.NDArray[np.float32]] = []

    def __enter__(self) -> TeacherFeatures:
        return self

    def __exit__(self, *_: object) -> None:
        self._blocks = []
        for file in self._files:
            file.close()

    @property
    def in_memory(self) -> bool:
        """Return whether the features are in memory."""
        return not self._files

    @torch.inference_mode()
    def compute(
        self, teacher: Pyramid, images: Image, batch_size: int, device: torch.device, on_batch: Callable[[int], None]
    ) -> None:
        """Fill the arrays from images uint8 [N, H, W, 3], BGR; `on_batch` gets the number of images that are done."""
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(images[start : start + batch_size]).to(device)
            blocks = [unit(features).cpu().numpy() for features in teacher(normalise_images(batch))]
            if not self._blocks:
                self._allocate([(len(images), *block.shape[1:]) for block in blocks])
            for whole, block in zip(self._blocks, blocks, strict=True):
                whole[start : start + len(block)] = block
            on_batch(start + len(batch))

    def batch(self, indices: Sequence[int], device: torch.device) -> list[Tensor]:
        """Return the features of some images, one tensor [n, C, h, w] a block."""
        return [torch.from_numpy(block[indices]).to(device) for block in self._blocks]

    def _allocate(self, shapes: Sequence[tuple[int, ...]]) -> None:
        if sum(4 * int(np.prod(shape)) for shape in shapes) <= self._limit:
            self._blocks = [np.empty(shape, np.float32) for shape in shapes]
            return
        for shape in shapes:
            self._files.append(tempfile.TemporaryFile(prefix="stfpm-features-", dir=self._folder))  # noqa: SIM115 (see __exit__)
            self._blocks.append(np.memmap(self._files[-1], np.float32, mode="w+", shape=shape))
