"""A model without training, to find out what a machine does with one of real size.

The teacher is the one that ships. The student is the teacher with noise on its weights, as close to it as a student
that has nearly learnt. The pictures are those of the teacher's pre-training. The verdicts mean nothing; the
latency, and how far the engines' results are apart, are those of a trained model.
"""

from __future__ import annotations

import copy

import numpy as np
import torch

from stfpm_edge.calibration.threshold import score_images
from stfpm_edge.checkpoint import Checkpoint
from stfpm_edge.model import IMAGENET_MEAN, IMAGENET_STD
from stfpm_edge.pretrain.scenes import SceneFormulas
from stfpm_edge.teacher import PROCEDURAL, fingerprint, load_teacher
from stfpm_runtime.artifact.calibration import calibrated
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.imaging.preprocessing import Image

BLOCKS = (2, 3, 4)
NOISE = 0.5
"""The noise on a weight, as a share of the standard deviation of its tensor."""
IMAGES = 16


def sample_checkpoint(side: int = 256, seed: int = 0) -> Checkpoint:
    """Return a ResNet-18 checkpoint for images of side x side pixels, the same for the same seed."""
    teacher = load_teacher(PROCEDURAL, "resnet18", BLOCKS)
    student = copy.deepcopy(teacher)
    generator = torch.Generator().manual_seed(seed)
    for parameter in student.parameters():
        if parameter.dim() > 1:
            parameter.add_(NOISE * parameter.std() * torch.randn(parameter.shape, generator=generator))
    images = _draw_images(side, seed)
    half = IMAGES // 2
    spec = Spec(
        name="sample", height=side, width=side, backbone="resnet18", blocks=BLOCKS, teacher=PROCEDURAL,
        teacher_sha256=fingerprint(teacher),
    )  # fmt: skip
    checkpoint = Checkpoint(spec, teacher, student, images[:half], images[half:])
    spec = calibrated(spec, score_images(checkpoint.model(), np.stack(images[half:])), 0.2, lambda text: None)
    return Checkpoint(spec, teacher, student, images[:half], images[half:])


def _draw_images(side: int, seed: int) -> list[Image]:
    """Return drawn scenes as uint8 [side, side, 3], BGR."""
    device = torch.device("cpu")
    scenes = SceneFormulas(side, seed, device).draw(IMAGES, torch.Generator(device).manual_seed(seed))
    pictures = scenes.pictures.permute(0, 2, 3, 1) * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)
    return list((255 * pictures).round().clamp(0, 255).to(torch.uint8).numpy()[..., ::-1].copy())
