"""The epochs: the student learns the teacher's unit features; after each, the state of the training is on disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from stfpm_runtime.imaging.preprocessing import Image

from .checkpoint import TrainingProgress, load_progress, resume_path, save_progress
from .features import TeacherFeatures
from .model import distance, hard_loss, loss, normalise_images, unit
from .networks import Pyramid
from .options import TrainOptions
from .pictures.data import Split, batches
from .pictures.synthetic_defects import draw_into
from .recipes import Recipe

EVAL_BATCH = 16


class Reporter(Protocol):
    """Output of a training: texts and progress."""

    def say(self, text: str) -> None:
        """Print a line for a person."""

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` images or epochs of a stage are finished."""


class SilentReporter:
    """A reporter without output, for trainings whose lines would mix with others."""

    def say(self, text: str) -> None:
        """Report nothing."""

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Report nothing."""


def fit(
    student: Pyramid,
    features: TeacherFeatures,
    images: Image,
    split: Split,
    options: TrainOptions,
    identity: dict[str, object],
    reporter: Reporter,
) -> tuple[TrainingProgress, int]:
    """Run the epochs that are left; returns the progress and the epoch whose loss was not finite, or 0."""
    recipe = options.recipe
    optimizer = make_optimizer(student, recipe)
    path = resume_path(options.output)
    progress, epochs = TrainingProgress(), recipe.epochs_for(len(split.train))
    if path.exists():
        progress = load_progress(path, student, optimizer, identity)
        reporter.say(f"continuing after epoch {progress.epoch} of {epochs}")
    elif options.resume:
        reporter.say("no unfinished training lies next to the output: starting from the beginning")
    while progress.epoch < epochs:
        started, epoch = time.perf_counter(), progress.epoch + 1
        epoch_loss = train_epoch(
            student, optimizer, features, images, split.train, options, epoch,
            lambda done, total: reporter.step("this epoch", done, total, "batches"),
        )  # fmt: skip
        error = epoch_loss
        if recipe.selects_epoch and math.isfinite(epoch_loss):
            error = validation_error(student, features, images, split.validation, options)
        if not math.isfinite(error):
            return progress, epoch
        progress.epoch = epoch
        progress.losses.append(epoch_loss)
        progress.seconds += time.perf_counter() - started
        note = f"loss {epoch_loss:.4f}"
        if recipe.selects_epoch:
            progress.errors.append(error)
            note += f", validation {error:.4f}, best {min(progress.errors):.4f}"
        if not recipe.selects_epoch or error == min(progress.errors):
            progress.best_epoch = epoch
            progress.best = {name: tensor.detach().clone() for name, tensor in student.state_dict().items()}
        save_progress(path, progress, student, optimizer, identity)
        reporter.step("student", epoch, epochs, note)
    return progress, 0


def make_optimizer(student: Pyramid, recipe: Recipe) -> torch.optim.SGD:
    """Return SGD with the recipe's momentum and weight decay."""
    return torch.optim.SGD(
        student.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )


def train_epoch(
    student: Pyramid,
    optimizer: torch.optim.Optimizer,
    features: TeacherFeatures,
    images: Image,
    indices: Sequence[int],
    options: TrainOptions,
    epoch: int,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> float:
    """Run one pass over the training images; return the mean loss, or NaN after a batch whose loss is not finite.

    `on_batch` gets the number of batches that are done, and of all.
    """
    student.train()
    total, recipe = 0.0, options.recipe
    order = batches(indices, recipe.batch_size, options.seed, epoch)
    steps = len(order) * recipe.epochs_for(len(indices))
    random = np.random.default_rng([options.seed, epoch])
    for number, batch in enumerate(order):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(((epoch - 1) * len(order) + number) / steps)
        seen = draw_into(images[batch], recipe.defect_share, random) if recipe.defect_share else images[batch]
        distances = _distances(student, features, seen, batch, options)
        value = loss(distances, options.weights)
        if recipe.hard_weight:
            value = value + recipe.hard_weight * hard_loss(distances, options.weights, recipe.hard_share)
        if not math.isfinite(value.item()):
            return math.nan
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += value.item() * len(batch)
        on_batch(number + 1, len(order))
    return total / len(indices)


@torch.inference_mode()
def validation_error(
    student: Pyramid, features: TeacherFeatures, images: Image, indices: Sequence[int], options: TrainOptions
) -> float:
    """Compute the mean loss over images, in evaluation mode."""
    student.eval()
    total = 0.0
    for start in range(0, len(indices), EVAL_BATCH):
        batch = indices[start : start + EVAL_BATCH]
        total += loss(_distances(student, features, images[batch], batch, options), options.weights).item() * len(batch)
    return total / len(indices)


def _distances(
    student: Pyramid, features: TeacherFeatures, seen: Image, batch: Sequence[int], options: TrainOptions
) -> list[torch.Tensor]:
    """Compute each block's distances [N, h, w] of the student's features of `seen` from the teacher's of the batch."""
    device = next(student.parameters()).device
    x = normalise_images(torch.from_numpy(seen).to(device))
    if options.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=options.mixed_precision):
        own_features = student(x)
    pairs = zip(features.batch(batch, device), own_features, strict=True)  # compared in float32 all the same
    return [distance(teacher, unit(own.float())) for teacher, own in pairs]
