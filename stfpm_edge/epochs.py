"""The epochs: the student learns the teacher's unit features; after each, the state of the training is on disk."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Protocol

import torch

from stfpm_runtime.imaging.preprocessing import Image

from .checkpoint import Progress, load_progress, resume_path, save_progress
from .data import Split, batches
from .features import TeacherFeatures
from .model import Pyramid, distance, loss, normalise_images, unit
from .options import TrainOptions

EVAL_BATCH = 16


class Reporter(Protocol):
    """Output of a training: texts and progress."""

    def say(self, text: str) -> None:
        """Print a line for a person."""

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` images or epochs of a stage are finished."""


def fit(
    student: Pyramid,
    features: TeacherFeatures,
    images: Image,
    split: Split,
    options: TrainOptions,
    identity: dict[str, object],
    reporter: Reporter,
) -> tuple[Progress, int]:
    """Run the epochs that are left; returns the progress and the epoch whose loss was not finite, or 0."""
    optimizer = torch.optim.SGD(
        student.parameters(), lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay
    )
    path = resume_path(options.output)
    progress = Progress()
    if path.exists():
        progress = load_progress(path, student, optimizer, identity)
        reporter.say(f"continuing after epoch {progress.epoch} of {options.epochs}")
    elif options.resume:
        reporter.say("no unfinished training lies next to the output: starting from the beginning")
    while progress.epoch < options.epochs:
        started, epoch = time.perf_counter(), progress.epoch + 1
        epoch_loss = train_epoch(student, optimizer, features, images, split.train, options, epoch)
        error = _error(student, features, images, split.held_out, options) if math.isfinite(epoch_loss) else math.nan
        if not math.isfinite(error):
            return progress, epoch
        progress.epoch = epoch
        progress.losses.append(epoch_loss)
        progress.errors.append(error)
        progress.seconds += time.perf_counter() - started
        if error < progress.best_error:
            progress.best_error, progress.best_epoch = error, epoch
            progress.best = {name: tensor.detach().clone() for name, tensor in student.state_dict().items()}
        save_progress(path, progress, student, optimizer, identity)
        best = f"best {progress.best_error:.4f} (epoch {progress.best_epoch})"
        reporter.step("student", epoch, options.epochs, f"loss {epoch_loss:.4f}, validation {error:.4f}, {best}")
    return progress, 0


def train_epoch(
    student: Pyramid,
    optimizer: torch.optim.Optimizer,
    features: TeacherFeatures,
    images: Image,
    indices: Sequence[int],
    options: TrainOptions,
    epoch: int,
) -> float:
    """Run one pass over the training images; return the mean loss, or NaN after a batch whose loss is not finite."""
    student.train()
    total = 0.0
    for batch in batches(indices, options.batch_size, options.seed, epoch):
        value = _loss(student, features, images, batch, options)
        if not math.isfinite(value.item()):
            return math.nan
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += value.item() * len(batch)
    return total / len(indices)


@torch.inference_mode()
def _error(
    student: Pyramid, features: TeacherFeatures, images: Image, indices: Sequence[int], options: TrainOptions
) -> float:
    """Compute the mean loss over images, in evaluation mode."""
    student.eval()
    total = 0.0
    for start in range(0, len(indices), EVAL_BATCH):
        batch = indices[start : start + EVAL_BATCH]
        total += _loss(student, features, images, batch, options).item() * len(batch)
    return total / len(indices)


def _loss(
    student: Pyramid, features: TeacherFeatures, images: Image, batch: Sequence[int], options: TrainOptions
) -> torch.Tensor:
    device = next(student.parameters()).device
    x = normalise_images(torch.from_numpy(images[batch]).to(device))
    if options.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=options.mixed_precision):
        seen = student(x)
    pairs = zip(features.batch(batch, device), seen, strict=True)  # compared in float32 all the same
    return loss([distance(teacher, unit(own.float())) for teacher, own in pairs], options.weights)
