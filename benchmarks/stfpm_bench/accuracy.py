"""The accuracy of the very artifact that is timed, on labelled images; what labels are missing, the result says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stfpm_eval.data import GOOD, PARTS, Category, find_categories
from stfpm_eval.evaluate import evaluate
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.detector import Detector
from stfpm_runtime.engines import Engine
from stfpm_runtime.errors import DataError
from stfpm_runtime.imaging.images import find_images

from .results import Accuracy

SAMPLE = 8
"""Good images that tell whether model and data are of the same product."""
NO_DEFECTS = "no labelled defects (test/<defect>) in the data: only false alarms, no AUROC, no PRO"
NO_THRESHOLD = "the model has no threshold: neither misses nor false alarms"


@dataclass(frozen=True)
class Labelled:
    """What a folder holds for one model."""

    name: str
    good: tuple[Path, ...]
    category: Category | None
    """None where nothing in it is labelled as defective."""


def find_labelled(data: Path, spec: Spec) -> Labelled:
    """The images for a model: a category, that of its name in a folder of several, or a folder of good images alone.

    Raises DataError for a folder that has none of this, or several categories and none of the model's name.
    """
    if not data.is_dir():
        raise DataError(f"{data}: no such folder; expected an MVTec-style category, or a folder of good images")
    if not (data / "test").is_dir() and (several := _categories(data)):
        if spec.name not in several:
            raise DataError(
                f"{data}: holds {', '.join(several)}, the model is of {spec.name}; give the folder of its product"
            )
        data = data / spec.name
    if not _has_defects(data):
        root = next((folder for folder in (data / "test" / GOOD, data / GOOD) if folder.is_dir()), data)
        good = tuple(find_images(root))
        if not good:
            raise DataError(f"{data}: no pictures in it; expected test/good and test/<defect>, or good pictures")
        return Labelled(data.resolve().name, good, None)
    (category,) = find_categories(data)
    return Labelled(category.name, tuple(one.image for one in category.samples if not one.is_defective), category)


def check_product(engine: Engine, labelled: Labelled, data: Path) -> None:
    """Raise DataError where the good images look like no good part to the model: they are of another product.

    A product's good parts score like those that were held out in training. Another product's score far above; where the
    folder bears the model's own name, that is the model's accuracy on it, and none of this function's business.
    """
    spec = engine.spec
    known = spec.held_out_scores
    if labelled.name == spec.name or not known:
        return
    step = max(len(labelled.good) // SAMPLE, 1)
    scores = _scores(engine, labelled.good[::step][:SAMPLE])
    if scores and np.median(scores) > 2 * max(known):
        raise DataError(
            f"{data}: a typical good picture there scores {np.median(scores):.3g}, the held-out ones of "
            f"{spec.name} at most {max(known):.3g}: it is another product's; give the data of {spec.name}"
        )


def measure_accuracy(engine: Engine, labelled: Labelled) -> Accuracy:
    """All figures that the labels allow. Raises what `evaluate` raises."""
    has_threshold = engine.spec.threshold is not None
    notes: tuple[str, ...] = () if has_threshold else (NO_THRESHOLD,)
    if labelled.category is None:
        alarms = None
        if has_threshold:
            alarms = sum(score > (engine.spec.threshold or 0.0) for score in _scores(engine, labelled.good))
        return Accuracy(labelled.name, len(labelled.good), 0, None, None, None, None, alarms, (NO_DEFECTS, *notes))
    found = evaluate(engine, labelled.category)
    if found.unreadable:
        notes += (f"{len(found.unreadable)} pictures cannot be read, say {found.unreadable[0].image}: left out",)
    return Accuracy(
        data=labelled.name, good=found.normal_images, defective=found.defective_images,
        image_auroc=found.image_auroc, pixel_auroc=found.pixel_auroc, pro=found.pro,
        missed=found.missed, false_alarms=found.false_alarms, notes=(*notes, *([found.note] if found.note else [])),
    )  # fmt: skip


def _scores(engine: Engine, paths: Sequence[Path]) -> list[float]:
    detector = Detector(engine, 0.0)
    verdicts = [detector.inspect(path) for path in paths]
    return [verdict.score for verdict in verdicts if verdict.score is not None]


def _categories(data: Path) -> list[str]:
    return sorted(
        folder.name for folder in data.iterdir() if folder.is_dir() and any((folder / part).is_dir() for part in PARTS)
    )


def _has_defects(data: Path) -> bool:
    test = data / "test"
    return test.is_dir() and any(folder.is_dir() and folder.name != GOOD for folder in test.iterdir())
