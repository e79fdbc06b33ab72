"""Measure a model file's accuracy on a category's test images, with the engine and the detector of the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stfpm_runtime.detector import Detector
from stfpm_runtime.engines.base import Engine, Maps
from stfpm_runtime.errors import DataError, EngineError, ImageError
from stfpm_runtime.imaging.images import read_image

from .data import GOOD, Category, Sample, sample_mask
from .masks import Mask, resize_mask
from .metrics import auroc, pixel_auroc
from .pro import pro

NO_GROUND_TRUTH = "no ground_truth folder: image AUROC alone, no pixel metrics"
NO_DEFECTIVE_PIXEL = "all defects are smaller than a pixel of the anomaly map: no pixel metrics"


@dataclass(frozen=True)
class Unreadable:
    """A test image that could not be read, and is left out of all metrics."""

    image: str
    """Its path within the category."""
    reason: str


@dataclass(frozen=True)
class DefectResult:
    """The accuracy on the images of one kind of defect, compared with all good images."""

    name: str
    images: int
    image_auroc: float | None
    """Against all good images, 0 to 1; None where none of its images could be read."""
    missed: int | None
    """Images that the artifact's threshold passes; None for a model without a threshold."""


@dataclass(frozen=True)
class CategoryResult:
    """A model's accuracy on one category. AUROC and PRO are 0 to 1, higher is better."""

    name: str
    normal_images: int
    defective_images: int
    image_auroc: float
    pixel_auroc: float | None
    """Measured at the anomaly map's size; None, as `pro` is, where `note` says why."""
    pro: float | None
    """Up to a false-positive rate of 0.3."""
    missed: int | None
    """Defective images that the artifact's threshold passes; None for a model without a threshold."""
    false_alarms: int | None
    """Good images that it rejects."""
    defects: tuple[DefectResult, ...]
    unreadable: tuple[Unreadable, ...] = ()
    note: str = ""
    good_scores: tuple[float, ...] = ()
    """The image scores, in the order of the files."""
    defect_scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Judged:
    kind: str
    score: float
    is_reject: bool
    anomaly_map: Maps
    mask: Mask
    """bool of the map's size; all False for a good image."""


def evaluate(engine: Engine, category: Category, advance: Callable[[], object] = lambda: None) -> CategoryResult:
    """Judge every test image of a category, one at a time as a line does, and compare with its labels.

    Pixels are compared at the anomaly map's size, as in the paper's protocol: masks are resized to it by nearest
    neighbour, maps are left alone. `advance` is called after each image. Images that cannot be read are left out of the
    metrics and listed in `unreadable`; the caller decides whether the rest will do.

    Raises DataError for a mask that cannot be used, or where no good or no defective image can be read; EngineError
    where the engine fails or its result is not finite; ArtifactError for a model trained with another resize.
    """
    # A model that was never calibrated is measured all the same; its verdicts at the 0 that stands in are not counted.
    detector = Detector(engine, threshold=0.0 if engine.spec.threshold is None else None)
    judged: list[_Judged] = []
    unreadable: list[Unreadable] = []
    for sample in category.samples:
        try:
            judged.append(_judge(detector, sample))
        except ImageError as error:
            name = sample.image.relative_to(category.folder).as_posix()
            unreadable.append(Unreadable(name, str(error).removeprefix(f"{sample.image}: ")))
        advance()
    return _summarise(category, judged, tuple(unreadable), is_calibrated=engine.spec.threshold is not None)


def _judge(detector: Detector, sample: Sample) -> _Judged:
    spec = detector.engine.spec
    image = read_image(sample.image, bits=spec.bits)
    mask = np.zeros((spec.height, spec.width), np.bool_)
    if sample.mask is not None:
        mask = resize_mask(sample_mask(sample, *image.shape[:2]), spec.height, spec.width)
    verdict = detector.inspect(image)
    if verdict.score is None or verdict.anomaly_map is None:  # the picture was read, so it is the engine's fault
        raise EngineError(
            f"{sample.image}: {verdict.reason}; the model is of no use as it is, train or export it again"
        )
    return _Judged(sample.kind, verdict.score, verdict.decision == "reject", verdict.anomaly_map, mask)


def _summarise(
    category: Category, judged: Sequence[_Judged], unreadable: tuple[Unreadable, ...], *, is_calibrated: bool
) -> CategoryResult:
    good = [one for one in judged if one.kind == GOOD]
    defective = [one for one in judged if one.kind != GOOD]
    if not good or not defective:
        raise DataError(
            f"{category.folder}: {len(good)} good and {len(defective)} defective pictures can be read, "
            f"{len(unreadable)} cannot, say {unreadable[0].image}; expected at least one of both, copy them again"
        )
    pixels, pixel_pro, note = _pixel_metrics(category, judged)
    return CategoryResult(
        name=category.name,
        normal_images=len(good),
        defective_images=len(defective),
        image_auroc=auroc(_scores(good), _scores(defective)),
        pixel_auroc=pixels,
        pro=pixel_pro,
        missed=_passed(defective) if is_calibrated else None,
        false_alarms=len(good) - _passed(good) if is_calibrated else None,
        defects=tuple(_evaluate_defect(name, good, defective, is_calibrated) for name in category.defects),
        unreadable=unreadable,
        note=note,
        good_scores=tuple(_scores(good)),
        defect_scores=tuple(_scores(defective)),
    )


def _evaluate_defect(
    name: str, good: Sequence[_Judged], defective: Sequence[_Judged], is_calibrated: bool
) -> DefectResult:
    images = [one for one in defective if one.kind == name]
    image_auroc = auroc(_scores(good), _scores(images)) if images else None
    return DefectResult(name, len(images), image_auroc, _passed(images) if is_calibrated else None)


def _pixel_metrics(category: Category, judged: Sequence[_Judged]) -> tuple[float | None, float | None, str]:
    """Return pixel AUROC and PRO, and a note where there are none or where they are incomplete."""
    if not category.has_masks:
        return None, None, NO_GROUND_TRUTH
    vanished = sum(one.kind != GOOD and not one.mask.any() for one in judged)
    if vanished == sum(one.kind != GOOD for one in judged):
        return None, None, NO_DEFECTIVE_PIXEL
    maps, masks = [one.anomaly_map for one in judged], [one.mask for one in judged]
    note = f"{vanished} masks vanish at the anomaly map's size; their pixels count as normal" if vanished else ""
    return pixel_auroc(maps, masks), pro(maps, masks), note


def _scores(judged: Sequence[_Judged]) -> list[float]:
    return [one.score for one in judged]


def _passed(judged: Sequence[_Judged]) -> int:
    return sum(not one.is_reject for one in judged)
