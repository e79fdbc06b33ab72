"""The method: Wang, Han, Ding, Huang, Student-Teacher Feature Pyramid Matching for Anomaly Detection, BMVC 2021."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import Pyramid

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


def anomaly_map(distances: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Compute equation 4: the product of the blocks' maps, bilinearly upsampled: [N, height, width], at least 0."""
    result = None
    for distance in distances:
        upsampled = F.interpolate(distance.unsqueeze(1), (height, width), mode="bilinear", align_corners=False)
        result = upsampled if result is None else result * upsampled
    assert result is not None, "a pyramid has at least one block"
    return result.squeeze(1)


class Stfpm(nn.Module):
    """Teacher and student as one detector: what the exported graph computes, in PyTorch."""

    def __init__(self, teacher: Pyramid, student: Pyramid, channel_order: str = "BGR") -> None:
        super().__init__()
        self.teacher = teacher
        self.student = student
        self.channel_order = channel_order
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return anomaly maps float32 [N, H, W] and their maxima float32 [N] for frames uint8 [N, H, W, 3]."""
        x = normalise_images(images, self.channel_order)
        pairs = zip(self.teacher(x), self.student(x), strict=True)
        distances = [distance(unit(t), unit(s)) for t, s in pairs]
        maps = anomaly_map(distances, images.shape[1], images.shape[2])
        return maps, maps.amax(dim=(1, 2))
