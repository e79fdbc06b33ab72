"""PyTorch's results on real images: the reference that every export of a checkpoint is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from stfpm_edge.checkpoint import Checkpoint
from stfpm_runtime.engines.base import Maps, Scores
from stfpm_runtime.imaging.preprocessing import Image

PATCH = (0.05, 0.2)
"""Sides of a pasted patch, as shares of the image's."""


@dataclass(frozen=True)
class Reference:
    """Images, good ones first, and PyTorch's results on them."""

    images: list[Image]
    """uint8 [H, W, 3]."""
    good: int
    """The number of good parts; the others are the same with a patch pasted in."""
    maps: Maps
    """float32 [N, H, W]."""
    scores: Scores
    """float32 [N]."""


def make_reference(checkpoint: Checkpoint, images: Sequence[Image]) -> Reference:
    """Run good images uint8 [H, W, 3] through PyTorch, each as it is and with a patch pasted in."""
    assert images, "a comparison needs at least one image"
    rng = np.random.default_rng(0)
    everything = [*images, *(paste_patch(image, rng) for image in images)]
    model = checkpoint.model()
    with torch.inference_mode():
        results = [model(torch.from_numpy(image[np.newaxis])) for image in everything]
    maps, scores = (np.concatenate([result[k].numpy() for result in results]) for k in (0, 1))
    return Reference(everything, len(images), maps, scores)


def paste_patch(image: Image, rng: np.random.Generator) -> Image:
    """Return a copy of the image with a small piece of it pasted, turned, at another place: similar to a defect.

    After CutPaste (Li et al., CVPR 2021). Scores of good parts alone say little about what a precision costs: it is
    the order of good and bad ones that counts.
    """
    sides = [max(2, round(side * rng.uniform(*PATCH))) for side in image.shape[:2]]
    rows, columns = (rng.integers(0, side - part + 1, 2) for side, part in zip(image.shape[:2], sides, strict=True))
    piece = image[rows[0] : rows[0] + sides[0], columns[0] : columns[0] + sides[1]]
    pasted = image.copy()
    pasted[rows[1] : rows[1] + sides[0], columns[1] : columns[1] + sides[1]] = piece[::-1, ::-1]
    return pasted
