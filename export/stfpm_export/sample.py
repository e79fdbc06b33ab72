"""A model without any training, for finding out what a machine does with one: real size, real arithmetic, real images.

The teacher is the one that ships, the student is the teacher with its weights shaken a little, as a student that has
nearly learnt is; the pictures are the demo's gears. What it finds is of no use; how long it takes, and how far engines
are apart on it, is.
"""

from __future__ import annotations

import copy

import numpy as np
import torch

from examples.gears.parts import draw_part
from stfpm_edge.checkpoint import Checkpoint
from stfpm_edge.teacher import PROCEDURAL, fingerprint, load_teacher
from stfpm_edge.threshold import calibrated
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.imaging.preprocessing import preprocess

BLOCKS = (2, 3, 4)
SHAKE = 0.5
"""Of a weight tensor's standard deviation."""
IMAGES = 16


def sample_checkpoint(side: int = 256, seed: int = 0) -> Checkpoint:
    """A ResNet-18 checkpoint for images of side x side pixels, the same for the same seed."""
    teacher = load_teacher(PROCEDURAL, "resnet18", BLOCKS)
    student = copy.deepcopy(teacher)
    generator = torch.Generator().manual_seed(seed)
    for parameter in student.parameters():
        if parameter.dim() > 1:
            parameter.add_(SHAKE * parameter.std() * torch.randn(parameter.shape, generator=generator))
    images = [preprocess(draw_part((seed, 0, number))[0], side, side) for number in range(IMAGES)]
    half = IMAGES // 2
    spec = Spec(
        name="sample", height=side, width=side, backbone="resnet18", blocks=BLOCKS, teacher=PROCEDURAL,
        teacher_sha256=fingerprint(teacher),
    )  # fmt: skip
    checkpoint = Checkpoint(spec, teacher, student, images[:half], images[half:])
    spec = calibrated(spec, checkpoint.model(), np.stack(images[half:]), 0.2, lambda text: None)
    return Checkpoint(spec, teacher, student, images[:half], images[half:])
