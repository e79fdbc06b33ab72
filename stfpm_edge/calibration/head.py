"""The head of a product: chosen among a few, from its good pictures and synthetic defects drawn into them.

No picture of a real defect takes part, and none of the pictures that set the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stfpm_edge.model import Head, Stfpm
from stfpm_edge.pictures.synthetic_defects import DEFECTS_PER_KIND_AND_SIZE, SIZES, draw_defects
from stfpm_runtime.imaging.preprocessing import Image

from .threshold import BATCH, subsample_evenly

SIGMA = 1 / 32
"""Standard deviation of the Gaussian that smooths what is usual at a place, as a share of the map's long side."""
MAX_CHOICE_IMAGES = 60
"""Good images that heads are compared on, at the most."""
GOOD_QUANTILE = 0.95
"""Score and map are put on one scale where this share of good parts is below."""
MARGIN = 0.005
"""Heads whose AUROC is within this of the highest one are alike: the first of them in the list is kept."""


@dataclass(frozen=True)
class HeadChoice:
    """One of the heads that are compared."""

    top_share: float | None
    """See `Head`."""
    place_floor: float | None
    """The map is divided by max(1, what is usual at a place / this quantile of it over all places).

    0 divides by what is usual at each place; None does not divide.
    """

    def __str__(self) -> str:
        score = "maximum" if self.top_share is None else f"mean of the highest {self.top_share:.1%}"
        if self.place_floor is None:
            return score
        return f"{score}, divided by what is usual at each place (floor {self.place_floor:g})"


CHOICES = tuple(
    HeadChoice(top_share, floor) for floor in (0.9, 0.5, 0.0) for top_share in (0.01, 0.001, None)
)  # fmt: skip
"""The heads of the recipe `plus`. The order matters where two are alike: the simpler one stands first."""


def usual_values(maps_mean: npt.NDArray[np.float32], floor: float) -> npt.NDArray[np.float32]:
    """Return what maps of good parts are divided by at each place, [H, W], from their mean, [H, W].

    A Gaussian smooths the mean; it is then divided by its quantile `floor` and not less than 1, or, for a floor of 0,
    divided by its own mean.
    """
    sigma = SIGMA * max(maps_mean.shape)
    smooth = cv2.GaussianBlur(maps_mean, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    smooth = np.maximum(smooth, np.float32(1e-3 * smooth.mean() + 1e-12))
    if floor == 0:
        return np.asarray(smooth / smooth.mean(), np.float32)
    return np.asarray(np.maximum(smooth / np.quantile(smooth, floor), 1), np.float32)


def choose_head(
    model: Stfpm,
    train: Image,
    validation: Image,
    seed: int,
    report: Callable[[int, int], None],
    choices: Sequence[HeadChoice] = CHOICES,
) -> tuple[Head, dict[str, object]]:
    """Return the best head for a product and what was measured, from good images uint8 [N, H, W, 3].

    Training images say what is usual at each place. Validation images, as they are and with synthetic defects, compare
    the choices by image AUROC. The blur and the smallest area are those of the model's head; an area above 1 pixel
    leaves the choices whose score is the map's maximum.
    """
    if model.head.min_area > 1:
        choices = [choice for choice in choices if choice.top_share is None]
    train, validation = (at_most(images) for images in (train, validation))
    mean = _mean_map(model, train)
    heads = [_head(choice, mean, model.head) for choice in choices]
    pictures = np.stack([defect.image for defect in draw_defects(validation, SIZES, DEFECTS_PER_KIND_AND_SIZE, seed)])
    total = len(validation) + len(pictures)
    good_scores = _scores(model, heads, validation, lambda done: report(done, total))
    bad_scores = _scores(model, heads, pictures, lambda done: report(len(validation) + done, total))
    aurocs = [auroc(one, other) for one, other in zip(good_scores, bad_scores, strict=True)]
    best = next(number for number, value in enumerate(aurocs) if value >= max(aurocs) - MARGIN)
    head = heads[best]
    if head.top_share is not None:  # put the score on the scale of the map's pixels
        highest = np.quantile(_scores(model, [Head(place_scale=head.place_scale)], validation)[0], GOOD_QUANTILE)
        scale = float(highest / max(np.quantile(good_scores[best], GOOD_QUANTILE), 1e-12))
        head = replace(head, score_scale=scale if scale > 0 else 1.0)
    measured: dict[str, object] = {
        "chosen": str(choices[best]),
        "synthetic_auroc": {str(choice): round(value, 4) for choice, value in zip(choices, aurocs, strict=True)},
    }
    return head, measured


def score_heads(model: Stfpm, choices: Sequence[HeadChoice], train: Image, images: Image) -> npt.NDArray[np.float32]:
    """Return the scores, float32 [choices, N], of images uint8 [N, H, W, 3] by each choice of the head.

    `train`, uint8 [M, H, W, 3] with M of 1 or more, are the good images that say what is usual at each place.
    """
    mean = _mean_map(model, at_most(train))
    return _scores(model, [_head(choice, mean, model.head) for choice in choices], images)


def at_most(images: Image) -> Image:
    """Return at most `MAX_CHOICE_IMAGES` of the images, at equal distances."""
    return images[subsample_evenly(range(len(images)), MAX_CHOICE_IMAGES)]


def auroc(good: npt.NDArray[np.float32], bad: npt.NDArray[np.float32]) -> float:
    """Return the probability, 0 to 1, that a bad score exceeds a good one; ties count half. Neither may be empty."""
    ordered = np.sort(good)
    below = np.searchsorted(ordered, bad, "left") + np.searchsorted(ordered, bad, "right")
    return float(below.mean() / (2 * len(good)))


def _head(choice: HeadChoice, mean: npt.NDArray[np.float32], start: Head) -> Head:
    """Return a head of that choice, with the blur and the smallest area of `start`."""
    floor = choice.place_floor
    usual = None if floor is None else torch.from_numpy(usual_values(mean, floor))
    return Head(choice.top_share, min_area=start.min_area, blur=start.blur, place_scale=usual)


def _mean_map(model: Stfpm, images: Image) -> npt.NDArray[np.float32]:
    total = torch.stack([maps.sum(dim=0) for maps in _raw_maps(model, images)]).sum(dim=0)
    return np.asarray(total.numpy() / len(images), np.float32)


def _scores(
    model: Stfpm, heads: Sequence[Head], images: Image, report: Callable[[int], None] = lambda _: None
) -> npt.NDArray[np.float32]:
    """Return the scores of images by each head: [heads, N]."""
    scores, done = [], 0
    for maps in _raw_maps(model, images):
        scores.append(torch.stack([head.scores(head.adjusted(maps)) for head in heads]))
        done += len(maps)
        report(done)
    return torch.cat(scores, dim=1).numpy()


@torch.inference_mode()
def _raw_maps(model: Stfpm, images: Image) -> Iterator[Tensor]:
    device = next(model.teacher.parameters()).device
    for start in range(0, len(images), BATCH):
        yield model.raw_maps(torch.from_numpy(images[start : start + BATCH]).to(device)).cpu()
