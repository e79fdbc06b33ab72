"""Scores of good images, for the threshold of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from stfpm_edge.model import Stfpm
from stfpm_runtime.imaging.preprocessing import Image

KEPT_HELD_OUT_IMAGES = 200
"""Held-out images stored with a checkpoint, at the most: an exported graph's threshold is calibrated on them."""
BATCH = 16


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


def subsample_evenly(indices: Sequence[int], most: int) -> list[int]:
    """Return at most `most` of the indices, at equal distances."""
    if len(indices) <= most:
        return list(indices)
    return [indices[i] for i in np.linspace(0, len(indices) - 1, most).round().astype(int)]
