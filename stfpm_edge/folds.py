"""Cross-conformal calibration, for products with few good images: every image trains, and every image calibrates.

The images are divided into folds. A further student is trained without each fold, on a shorter schedule, and scores
the images of the fold that it has not seen (Vovk, Cross-conformal predictors, Annals of Mathematics and Artificial
Intelligence 74, 2015). The students of the folds saw less than the final one, so their scores are rather too high,
and so is the threshold. Its false-alarm rate holds as far as the final student scores new parts no higher than they do;
unlike that of split conformal prediction it is not proven. The head is the final student's, and what is usual at each
place comes from all images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stfpm_runtime.errors import TrainingError
from stfpm_runtime.imaging.preprocessing import Image

from .data import Split
from .epochs import Reporter, fit
from .features import TeacherFeatures
from .model import Head, Stfpm
from .networks import Pyramid
from .options import TrainOptions
from .threshold import score_images

SCHEDULE_SHARE = 0.4
"""The students of the folds are trained for this share of the recipe's epochs."""


class _Quiet:
    """A reporter without output: the epochs of a fold are not shown."""

    def say(self, text: str) -> None:
        """Report nothing."""

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Report nothing."""


def score_by_folds(
    teacher: Pyramid,
    student: Pyramid,
    features: TeacherFeatures,
    images: Image,
    indices: Sequence[int],
    count: int,
    head: Head,
    options: TrainOptions,
    reporter: Reporter,
) -> list[float]:
    """Return the scores of images uint8 [N, H, W, 3] at `indices`, each by a student that was trained without it.

    The indices are divided into `count` folds. `student` holds the weights that each of the students begins with; it
    is changed. Raise TrainingError where a loss is not finite.
    """
    folds = np.array_split(np.random.default_rng(options.seed).permutation(indices), count)
    recipe = replace(
        options.recipe,
        epochs=max(round(options.recipe.epochs * SCHEDULE_SHARE), 1),
        least_steps=round(options.recipe.least_steps * SCHEDULE_SHARE),
    )
    start = {name: tensor.detach().clone() for name, tensor in student.state_dict().items()}
    scores: dict[int, float] = {}
    for number, fold in enumerate(folds, start=1):
        rest = sorted(set(indices) - set(fold.tolist()))
        student.load_state_dict(start)
        with tempfile.TemporaryDirectory() as folder:
            shorter = replace(options, output=Path(folder) / "fold.safetensors", recipe=recipe, resume=False)
            progress, failed_epoch = fit(student, features, images, Split(rest, [], []), shorter, {}, _Quiet())
        if failed_epoch:
            raise TrainingError(f"the loss was not finite in fold {number}; lower the learning rate (--lr)")
        detector = Stfpm(teacher, student, head=head)
        scores |= dict(zip(fold.tolist(), score_images(detector, images[fold]), strict=True))
        reporter.step("folds", number, len(folds), f"{len(rest)} images, {progress.epoch} epochs")
    return [scores[index] for index in indices]
