"""PyTorch's results on real images: the reference that every export of a checkpoint is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from stfpm_edge.calibration.threshold import score_images, subsample_evenly
from stfpm_edge.checkpoint import Checkpoint
from stfpm_edge.pictures.synthetic_defects import DEFECTS_PER_KIND_AND_SIZE, SIZES, draw_defects
from stfpm_runtime.engines.base import Maps, Scores
from stfpm_runtime.imaging.preprocessing import Image


@dataclass(frozen=True)
class Reference:
    """Images, good ones first, and PyTorch's results on them.

    Scores of good parts alone say little about what a precision costs: what counts is which defects it still finds.
    """

    images: list[Image]
    """uint8 [H, W, 3]."""
    good: int
    """The number of good parts; the others are as many of the defects."""
    maps: Maps
    """float32 [N, H, W]."""
    scores: Scores
    """float32 [N]."""
    defects: list[Image]
    """Good parts with synthetic defects of all kinds and sizes, uint8 [H, W, 3]; maps would need too much memory."""
    defect_scores: Scores
    """float32 [M]."""


def make_reference(checkpoint: Checkpoint, images: Sequence[Image]) -> Reference:
    """Run good images uint8 [H, W, 3] through PyTorch, as they are and with synthetic defects drawn into them."""
    assert images, "a comparison needs at least one image"
    defects = [
        defect.image for defect in draw_defects(images, SIZES, DEFECTS_PER_KIND_AND_SIZE, seed=0) if defect.mask.any()
    ]
    compared = [*images, *(defects[i] for i in subsample_evenly(range(len(defects)), len(images)))]
    model = checkpoint.model()
    with torch.inference_mode():
        results = [model(torch.from_numpy(image[np.newaxis])) for image in compared]
    maps, scores = (np.concatenate([result[k].numpy() for result in results]) for k in (0, 1))
    defect_scores = np.asarray(score_images(model, np.stack(defects)), np.float32)
    return Reference(compared, len(images), maps, scores, defects, defect_scores)
