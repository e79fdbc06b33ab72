"""From a checkpoint to one proven ONNX file."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from stfpm_edge.checkpoint import Checkpoint, load_checkpoint
from stfpm_edge.data import read_images
from stfpm_runtime.conformal import conformal_threshold
from stfpm_runtime.engines import Engine, open_engine
from stfpm_runtime.errors import DataError, OptionError
from stfpm_runtime.files import atomic_path, check_writable
from stfpm_runtime.images import find_images
from stfpm_runtime.preprocessing import Image
from stfpm_runtime.spec import METADATA_KEY, Spec

from .from_anomalib import read_anomalib
from .fused_graph import build_graph
from .parity import Parity, measure_parity, require_parity

MOST_IMAGES = 32
"""Images that parity is measured on, at the most."""


@dataclass(frozen=True)
class AnomalibOptions:
    """What a checkpoint of anomalib's does not say of itself."""

    name: str = ""
    """The product's name; empty is the file's."""
    size: tuple[int, int] | None = None
    """(height, width) of the input; None is the checkpoint's own."""
    calibration: Path | None = None
    """A folder of good images that the student never saw, for the threshold; None leaves the model without one."""
    false_alarm_rate: float = 0.01


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and where to."""

    checkpoint: Path
    output: Path
    images: Path | None = None
    """A folder of images, or one image, to measure parity on; None takes those stored with the checkpoint."""

    anomalib: AnomalibOptions | None = None
    """Where the checkpoint is a Lightning checkpoint of anomalib's Stfpm, not one of ours."""

    def __post_init__(self) -> None:
        if self.output.suffix != ".onnx":
            raise OptionError(f"{self.output}: expected a file ending in .onnx")


def export(options: ExportOptions, report: Callable[[str], None]) -> tuple[Spec, Parity]:
    """Write `options.output`, one self-contained ONNX file with its Spec, and return that Spec and its parity.

    `report` gets lines for a person. Raises ParityError where the file disagrees with PyTorch, and other StfpmErrors
    for what a user can mend; no file is written then, and one that was there before stays.
    """
    check_writable(options.output)
    checkpoint = _read(options, report)
    images = _images(options, checkpoint, report)
    model = build_graph(checkpoint)
    with atomic_path(options.output) as unfinished:
        onnx.save(model, unfinished)
        spec, parity = _prove(unfinished, checkpoint, images)
        onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
        onnx.save(model, unfinished)
    return spec, parity


def _read(options: ExportOptions, report: Callable[[str], None]) -> Checkpoint:
    if options.anomalib is None:
        return load_checkpoint(options.checkpoint)
    its = options.anomalib
    return read_anomalib(
        options.checkpoint,
        its.name or options.checkpoint.stem,
        size=its.size,
        calibration=its.calibration,
        false_alarm_rate=its.false_alarm_rate,
        report=report,
    )


def _prove(path: Path, checkpoint: Checkpoint, images: Sequence[Image]) -> tuple[Spec, Parity]:
    """The file's own Spec and its parity; raises ParityError where it does not hold."""
    with contextlib.closing(open_engine(path, device="cpu")) as engine:
        spec = calibrate(engine, checkpoint.held_out_images)
        parity = measure_parity(engine, checkpoint.model(), images, spec.threshold)
    require_parity(parity, checkpoint.spec.name)
    return dataclasses.replace(spec, parity=parity.to_dict()), parity


def calibrate(engine: Engine, held_out: Sequence[Image]) -> Spec:
    """The engine's Spec with the scores that it gives the held-out images itself, and the threshold from those.

    The checkpoint's threshold may be the very score of one of them, as PyTorch rounds it: the last digit would decide.
    A Spec without calibration, or whose images are not all here, stays as it is.
    """
    spec = engine.spec
    if spec.false_alarm_rate is None or not held_out or len(held_out) != len(spec.held_out_scores):
        return spec
    scores = [float(engine.infer(image[np.newaxis])[1][0]) for image in held_out]
    threshold = conformal_threshold(scores, spec.false_alarm_rate)
    return dataclasses.replace(spec, threshold=threshold.value, held_out_scores=tuple(scores))


def _images(options: ExportOptions, checkpoint: Checkpoint, report: Callable[[str], None]) -> list[Image]:
    if options.images is None:
        images = [*checkpoint.held_out_images, *checkpoint.train_images][:MOST_IMAGES]
        if not images:
            raise DataError(f"{options.checkpoint}: no images are stored with it; give some with --images")
        return images
    if not options.images.exists():
        raise DataError(f"{options.images}: no such file or folder; expected real images of the product")
    paths = [options.images] if options.images.is_file() else find_images(options.images)
    if not paths:
        raise DataError(f"{options.images}: no pictures in it; expected real images of the product")
    spec = checkpoint.spec
    step = max(len(paths) // MOST_IMAGES, 1)
    read, _ = read_images(paths[::step][:MOST_IMAGES], spec.height, spec.width, skip_unreadable=False, report=report)
    return list(read)
