"""Teacher and student in one network of grouped convolutions: half as many kernels, each twice as wide.

Whether that is faster than two branches is the GPU's to say (`stfpm_bench.gpu`); on a CPU it is not.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from stfpm_edge.backbone import Pyramid
from stfpm_edge.stfpm import Stfpm, anomaly_map, distance, normalise_images, unit


class SideBySide(nn.Module):
    """Computes what `Stfpm` does."""

    def __init__(self, model: Stfpm) -> None:
        super().__init__()
        self.pyramid = copy.deepcopy(model.teacher)
        self.channel_order = model.channel_order
        _merge(self.pyramid, model.teacher, model.student)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Anomaly maps float32 [N, H, W] and scores float32 [N] of frames uint8 [N, H, W, 3]."""
        features = self.pyramid(normalise_images(images, self.channel_order))
        pairs = (feature.chunk(2, dim=1) for feature in features)
        distances = [distance(unit(t), unit(s)) for t, s in pairs]
        maps = anomaly_map(distances, images.shape[1], images.shape[2])
        return maps, maps.amax(dim=(1, 2))


def _merge(merged: Pyramid, teacher: Pyramid, student: Pyramid) -> None:
    """Put both networks' convolutions and batch norms, side by side, in the place of one's."""
    for name, one in teacher.named_modules():
        other = student.get_submodule(name)
        if isinstance(one, nn.Conv2d) and isinstance(other, nn.Conv2d):
            _replace(merged, name, _convolution(one, other, groups=1 if name == "conv1" else 2))
        elif isinstance(one, nn.BatchNorm2d) and isinstance(other, nn.BatchNorm2d):
            _replace(merged, name, _batch_norm(one, other))


def _convolution(one: nn.Conv2d, other: nn.Conv2d, groups: int) -> nn.Conv2d:
    """The first convolution reads the image, which both share; the others read what is theirs."""
    size, stride, padding = one.kernel_size[0], one.stride[0], int(one.padding[0])
    width = 2 * one.out_channels
    conv = nn.Conv2d(groups * one.in_channels, width, size, stride, padding, groups=groups, bias=False)
    conv.weight = nn.Parameter(torch.cat([one.weight, other.weight]), requires_grad=False)
    return conv


def _batch_norm(one: nn.BatchNorm2d, other: nn.BatchNorm2d) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(2 * one.num_features, eps=one.eps)
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(norm, name).data = torch.cat([getattr(one, name), getattr(other, name)])
    return norm.requires_grad_(False)


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)
