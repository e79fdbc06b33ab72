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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from stfpm_edge.epochs import Reporter, SilentReporter, fit
from stfpm_edge.features import TeacherFeatures
from stfpm_edge.model import Head, Stfpm
from stfpm_edge.networks import Pyramid
from stfpm_edge.options import TrainOptions
from stfpm_edge.pictures.data import Split
from stfpm_runtime.errors import TrainingError
from stfpm_runtime.imaging.preprocessing import Image

from .threshold import score_images

SCHEDULE_SHARE = 0.4
"""The students of the folds are trained for this share of the recipe's epochs."""


def score_by_folds(
    teacher: Pyramid,
    student: Pyramid,
    start: Mapping[str, Tensor],
    features: TeacherFeatures,
    images: Image,
    indices: Sequence[int],
    count: int,
    head: Head,
    options: TrainOptions,
    reporter: Reporter,
) -> list[float]:
    """Return the scores of images uint8 [N, H, W, 3] at `indices`, each by a student that was trained without it.

    The indices are divided into `count` folds. Each student begins with the weights `start`; `student` is the network
    that they are loaded into, and is changed. Raise TrainingError where a loss is not finite.
    """
    folds = np.array_split(np.random.default_rng(options.seed).permutation(indices), count)
    recipe = replace(
        options.recipe,
        epochs=max(round(options.recipe.epochs * SCHEDULE_SHARE), 1),
        least_steps=round(options.recipe.least_steps * SCHEDULE_SHARE),
    )
    scores: dict[int, float] = {}
    for number, fold in enumerate(folds, start=1):
        rest = sorted(set(indices) - set(fold.tolist()))
        student.load_state_dict(start)
        with tempfile.TemporaryDirectory() as folder:
            shorter = replace(options, output=Path(folder) / "fold.safetensors", recipe=recipe, resume=False)
            progress, failed_epoch = fit(student, features, images, Split(rest, [], []), shorter, {}, SilentReporter())
        if failed_epoch:
            raise TrainingError(f"the loss was not finite in fold {number}; lower the learning rate (--lr)")
        detector = Stfpm(teacher, student, head=head)
        scores |= dict(zip(fold.tolist(), score_images(detector, images[fold]), strict=True))
        reporter.step("folds", number, len(folds), f"{len(rest)} images, {progress.epoch} epochs")
    return [scores[index] for index in indices]
