"""Scores of good images, for the threshold of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch

from stfpm_edge.model import Stfpm
from stfpm_runtime.imaging.preprocessing import Image

KEPT_HELD_OUT_IMAGES = 200
"""Held-out images stored with a checkpoint, at the most: an exported graph's threshold is calibrated on them."""
BATCH = 16
T = TypeVar("T")


@torch.inference_mode()
def score_images(model: Stfpm, images: Image, report: Callable[[int], None] = lambda done: None) -> list[float]:
    """Compute the scores of images uint8 [N, H, W, 3], in their order, on the model's device.

    `report` gets the number of images that are done.
    """
    device = next(model.teacher.parameters()).device
    scores: list[float] = []
    for start in range(0, len(images), BATCH):
        scores += model(torch.from_numpy(images[start : start + BATCH]).to(device))[1].tolist()
        report(len(scores))
    return scores


def subsample_evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most `most` of the items, at equal distances, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]
