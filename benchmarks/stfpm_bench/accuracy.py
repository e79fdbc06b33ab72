"""Measure the accuracy of the very file that is timed, on labelled images; the result names what labels are missing."""

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
class LabelledImages:
    """The images of one product."""

    name: str
    good: tuple[Path, ...]
    category: Category | None
    """None where no image is labelled as defective."""


def find_labelled(data: Path, spec: Spec) -> LabelledImages:
    """Return a model's images: a category, that of its name in a folder of categories, or a folder of good images.

    Raises DataError for a folder without images, or with categories of which none has the model's name.
    """
    if not data.is_dir():
        raise DataError(f"{data}: no such folder; expected an MVTec-style category, or a folder of good images")
    test = data / "test"
    categories = sorted(path.parent.name for part in PARTS for path in data.glob(f"*/{part}") if path.is_dir())
    if not test.is_dir() and categories:
        if spec.name not in categories:
            names = ", ".join(dict.fromkeys(categories))
            raise DataError(f"{data}: holds {names}, the model is of {spec.name}; give the folder of its product")
        data, test = data / spec.name, data / spec.name / "test"
    if test.is_dir() and any(folder.is_dir() and folder.name != GOOD for folder in test.iterdir()):
        (category,) = find_categories(data)
        good = tuple(sample.image for sample in category.samples if not sample.is_defective)
        return LabelledImages(category.name, good, category)
    root = next((folder for folder in (test / GOOD, data / GOOD) if folder.is_dir()), data)
    if not (good := tuple(find_images(root))):
        raise DataError(f"{data}: no pictures in it; expected test/good and test/<defect>, or good pictures")
    return LabelledImages(data.resolve().name, good, None)


def check_product(engine: Engine, labelled: LabelledImages, data: Path) -> None:
    """Raise DataError where the good images look like no good part to the model: they are of another product.

    A product's good parts score like those that were held out in training. Another product's score far above; where the
    folder bears the model's own name, such scores are the model's accuracy, and no error.
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


def measure_accuracy(engine: Engine, labelled: LabelledImages) -> Accuracy:
    """Return all metrics that the labels allow. Raises what `evaluate` raises."""
    threshold = engine.spec.threshold
    notes: tuple[str, ...] = () if threshold is not None else (NO_THRESHOLD,)
    if labelled.category is None:
        alarms = None if threshold is None else sum(score > threshold for score in _scores(engine, labelled.good))
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
