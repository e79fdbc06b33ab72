"""The method: Wang, Han, Ding, Huang, Student-Teacher Feature Pyramid Matching for Anomaly Detection, BMVC 2021.

The networks are in `networks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfpm_runtime.artifact.map_score import CELL, top_count
from stfpm_runtime.artifact.min_area import area_scores

from .networks import Pyramid

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's pixels in RGB, on a scale of 0 to 1; their standard deviation is below."""
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise_images(images: Tensor, channel_order: str = "BGR") -> Tensor:
    """Convert frames uint8 [N, H, W, 3] to float32 [N, 3, H, W]: RGB, less ImageNet's mean, over its std."""
    x = images.permute(0, 3, 1, 2).to(torch.float32) / 255
    if channel_order == "BGR":
        x = x.flip(1)
    mean, std = (x.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (x - mean) / std


def unit(features: Tensor) -> Tensor:
    """Divide features [N, C, H, W] by their length at each position (a zero vector stays zero)."""
    return F.normalize(features, dim=1)


def distance(teacher: Tensor, student: Tensor) -> Tensor:
    """Compute equation 1: half the squared distance of two unit features [N, C, h, w]: [N, h, w], 0 to 2."""
    return 0.5 * (teacher - student).square().sum(dim=1)


def loss(distances: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Compute equations 2 and 3: each block's mean distance, summed with the weights alpha_l."""
    means = [weight * distance.mean() for weight, distance in zip(weights, distances, strict=True)]
    return torch.stack(means).sum()


def hard_loss(distances: Sequence[Tensor], weights: Sequence[float], share: float) -> Tensor:
    """Compute each block's mean over the share of its positions with the largest distances, summed with the weights."""
    means = []
    for weight, distance in zip(weights, distances, strict=True):
        flat = distance.flatten()
        means.append(weight * flat.topk(max(int(share * len(flat)), 1)).values.mean())
    return torch.stack(means).sum()


def anomaly_map(distances: Sequence[Tensor], height: int, width: int, blur: float = 0.0) -> Tensor:
    """Compute equation 4: the product of the blocks' maps, bilinearly upsampled: [N, height, width], at least 0.

    Each block's map is blurred after its upsampling, see `blur_matrix`; the paper does not blur.
    """
    sigma = blur * max(height, width)
    blurs = [blur_matrix(side, sigma).to(distances[0].device) for side in (height, width)] if blur else []
    result = None
    for distance in distances:
        upsampled = F.interpolate(distance.unsqueeze(1), (height, width), mode="bilinear", align_corners=False)
        if blurs:
            upsampled = blurs[0] @ upsampled @ blurs[1].T
        result = upsampled if result is None else result * upsampled
    assert result is not None, "a pyramid has at least one block"
    return result.squeeze(1)


MIN_WEIGHT = 1e-9
"""A blur leaves out weights below this share of its highest one. They change no float32 sum, and the lowest of them
would be subnormal numbers, with which a CPU multiplies many times as slowly."""


def blur_matrix(side: int, sigma: float) -> Tensor:
    """Return the matrix [side, side] that blurs a column by a Gaussian of `sigma` pixels, float32.

    At the border the weights that lie outside are left out, and the others sum to 1. Those below `MIN_WEIGHT` are 0.
    """
    places = torch.arange(side, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((places[:, None] - places[None]) / sigma) ** 2)
    weights[weights < MIN_WEIGHT] = 0
    return (weights / weights.sum(dim=1, keepdim=True)).to(torch.float32)


@dataclass(frozen=True)
class Head:
    """The last step of the detector: from the product of the blocks' maps to the anomaly map and the image score.

    The defaults are the paper's: the map is the product as it is, and the score is its maximum.
    """

    top_share: float | None = None
    """The score is the mean of this share of the cells, the highest ones; None: the map's maximum."""
    score_scale: float = 1.0
    """The score is multiplied by it."""
    min_area: int = 1
    """The score is the highest level that a connected region of so many pixels reaches; the maximum for 1."""
    blur: float = 0.0
    """Standard deviation of the Gaussian that blurs each block's map, as a share of the map's long side."""
    place_scale: Tensor | None = None
    """What is usual at each place, float32 [H, W], above 0: the map is divided by it. None: 1 everywhere."""

    def resized(self, height: int, width: int) -> Head:
        """Return the head for maps of another size."""
        if self.place_scale is None:
            return self
        scale = F.interpolate(self.place_scale[None, None], (height, width), mode="bilinear", align_corners=False)
        return replace(self, place_scale=scale[0, 0])

    def adjusted(self, maps: Tensor) -> Tensor:
        """Return maps [N, H, W] divided by what is usual at each place."""
        return maps if self.place_scale is None else maps * (1 / self.place_scale.to(maps.device))

    def scores(self, maps: Tensor) -> Tensor:
        """Return the scores [N] of maps [N, H, W] that were adjusted."""
        if self.min_area > 1:
            return torch.from_numpy(area_scores(maps.detach().cpu().numpy(), self.min_area)).to(maps.device)
        if self.top_share is None:
            return maps.amax(dim=(1, 2)) * self.score_scale
        cells = F.avg_pool2d(maps.unsqueeze(1), CELL, ceil_mode=True, count_include_pad=False).flatten(1)
        return cells.topk(top_count(self.top_share, cells.shape[1]), dim=1).values.mean(dim=1) * self.score_scale


class Stfpm(nn.Module):
    """Teacher and student as one detector: what the exported graph computes, in PyTorch."""

    def __init__(
        self, teacher: Pyramid, student: Pyramid, channel_order: str = "BGR", head: Head | None = None
    ) -> None:
        super().__init__()
        self.teacher = teacher
        self.student = student
        self.channel_order = channel_order
        self.head = head or Head()
        self.eval()

    def raw_maps(self, images: Tensor) -> Tensor:
        """Return equation 4's maps float32 [N, H, W] of frames uint8 [N, H, W, 3], not adjusted by the head."""
        x = normalise_images(images, self.channel_order)
        pairs = zip(self.teacher(x), self.student(x), strict=True)
        distances = [distance(unit(t), unit(s)) for t, s in pairs]
        return anomaly_map(distances, images.shape[1], images.shape[2], self.head.blur)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return anomaly maps float32 [N, H, W] and scores float32 [N] of frames uint8 [N, H, W, 3]."""
        maps = self.head.adjusted(self.raw_maps(images))
        return maps, self.head.scores(maps)
