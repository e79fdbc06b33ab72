"""The threshold of a model, from the scores of good images that training did not see."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from stfpm_runtime.conformal import conformal_threshold
from stfpm_runtime.preprocessing import Image
from stfpm_runtime.spec import Spec

from .stfpm import Stfpm

KEPT_HELD_OUT_IMAGES = 200
"""Held-out images stored with a checkpoint, at the most: an exported graph's threshold is calibrated on them."""
BATCH = 16


def calibrated(
    spec: Spec, model: Stfpm, held_out: Image, false_alarm_rate: float, report: Callable[[str], None]
) -> Spec:
    """The spec with the scores of held-out good images uint8 [N, H, W, 3], and the threshold that they give.

    `report` is told where there are too few of them for the wish. Raises what `conformal_threshold` does.
    """
    scores = score_images(model, held_out)
    threshold = conformal_threshold(scores, false_alarm_rate)
    n = len(scores)
    if not threshold.meets_wish:
        report(
            f"{n} held-out images can guarantee a false-alarm rate of {threshold.guaranteed_rate:.1%} at the lowest, "
            f"not {false_alarm_rate:.1%}: the threshold is their highest score. "
            f"{math.ceil(1 / false_alarm_rate) - 1} held-out images would do"
        )
    return dataclasses.replace(
        spec,
        threshold=threshold.value,
        threshold_set_by=f"split conformal prediction on {n} held-out images, {false_alarm_rate:.2%} wished",
        false_alarm_rate=threshold.guaranteed_rate,
        held_out_scores=tuple(scores),
    )


@torch.inference_mode()
def score_images(model: Stfpm, images: Image) -> list[float]:
    """The scores of images uint8 [N, H, W, 3], in their order, on the device that the model is on."""
    device = model.student.conv1.weight.device
    scores: list[float] = []
    for start in range(0, len(images), BATCH):
        scores += model(torch.from_numpy(images[start : start + BATCH]).to(device))[1].tolist()
    return scores


def spread(indices: Sequence[int], most: int) -> list[int]:
    """At most `most` of the indices, evenly spread."""
    if len(indices) <= most:
        return list(indices)
    return [indices[i] for i in np.linspace(0, len(indices) - 1, most).round().astype(int)]
