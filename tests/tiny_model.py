"""A seeded tiny model and pictures for it, known to all tests."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import nn

from stfpm_edge.checkpoint import Checkpoint
from stfpm_edge.networks import Pyramid, new_student, teacher_of
from stfpm_edge.teacher import fingerprint
from stfpm_runtime.artifact.spec import Spec

SIZE = 64


def settle(pyramid: Pyramid, seed: int) -> Pyramid:
    """Give batch norm statistics and gains that folding has to get right, and freeze."""
    generator = torch.Generator().manual_seed(seed)
    for module in pyramid.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(0.1 * torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
            with torch.no_grad():
                module.weight.copy_(0.8 + 0.4 * torch.rand(module.num_features, generator=generator))
                module.bias.copy_(0.1 * torch.randn(module.num_features, generator=generator))
    return pyramid.eval().requires_grad_(False)


def make_images(count: int, height: int = SIZE, width: int = SIZE, seed: int = 0) -> np.ndarray:
    """Smooth random pictures, uint8 [count, height, width, 3]."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in small])


def make_checkpoint(
    backbone: str = "resnet18", blocks: tuple[int, ...] = (2, 3, 4), height: int = SIZE, width: int = SIZE, **spec
) -> Checkpoint:
    """A checkpoint of random weights, its threshold in the middle of its images' scores."""
    teacher = settle(new_student(teacher_of(backbone), blocks, 1), 1)
    student = settle(new_student(backbone, blocks, 2, teacher), 2)
    fields = {"name": "tiny", "teacher": "random", "teacher_sha256": fingerprint(teacher), "threshold": 0.1}
    images = make_images(4, height, width)
    return Checkpoint(
        Spec(height=height, width=width, backbone=backbone, blocks=blocks, **{**fields, **spec}),
        teacher, student, train_images=list(images[:2]), held_out_images=list(images[2:]),
    )  # fmt: skip
