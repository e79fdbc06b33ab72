"""One checkpoint in one precision: write, calibrate and prove it. `--precision auto` does so for several precisions."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnx

from stfpm_edge.checkpoint import Checkpoint
from stfpm_runtime.artifact.conformal import conformal_threshold
from stfpm_runtime.artifact.spec import METADATA_KEY, Spec
from stfpm_runtime.engines import Engine, open_engine
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.timing import time_by_turns

from .graph.backbones import build_graph
from .graph.equalisation import equalise_stem
from .graph.int8 import Int8, Range
from .graph.precision import BFloat16, Factors, Float16, Float32
from .graph.ranges import first_overflow, measure_inputs, measure_ranges
from .graph.rounding import Rounder
from .parity import Accuracy, ParityReport, measure_export_parity
from .reference import Reference
from .target import Target

RUNS = 40
"""The number of timed frames of each file."""
PAUSE_S = 0.05
"""Seconds before a timed frame: ONNX Runtime's threads keep the cores busy for tens of milliseconds after a run."""

MeasureAccuracy = Callable[[Engine], Accuracy]
"""Measures an engine on labelled images."""


@dataclass(frozen=True)
class ExportInputs:
    """What the candidates of one checkpoint are built from and compared with."""

    checkpoint: Checkpoint
    reference: Reference
    calibration: Sequence[Image]
    """Good images uint8 [H, W, 3] that int8's ranges are measured on."""
    batch: int | None = None
    """The number of frames that the file takes at a time; None leaves it free."""
    measure_accuracy: MeasureAccuracy | None = None
    pytorch_accuracy: Accuracy | None = None

    @cached_property
    def measured_for_int8(self) -> tuple[dict[str, Range], Factors, Rounder]:
        """What int8 is calibrated with, measured once for the files of all targets: see `Int8`."""
        images = self.calibration
        ranges, factors = equalise_stem(self.checkpoint, measure_ranges(self.checkpoint, images))
        return ranges, factors, Rounder(measure_inputs(self.checkpoint, images, factors))


@dataclass(frozen=True)
class ExportCandidate:
    """An exported file and its parity report."""

    path: Path
    target: Target
    spec: Spec
    parity: ParityReport


def make_candidate(inputs: ExportInputs, precision: str, target: Target, path: Path) -> ExportCandidate:
    """Write `path` and measure its parity with PyTorch; the caller decides whether it is good enough."""
    checkpoint = inputs.checkpoint
    arithmetic = _arithmetic(inputs, precision, target)
    model = build_graph(checkpoint, arithmetic, target, inputs.batch)
    onnx.save(model, path)
    with contextlib.closing(open_engine(path, device="cpu")) as engine:
        spec = calibrate(engine, checkpoint.held_out_images, inputs.reference)
        accuracy = None
        if inputs.measure_accuracy and inputs.pytorch_accuracy:
            accuracy = inputs.pytorch_accuracy, inputs.measure_accuracy(engine)
        parity = measure_export_parity(engine, spec, inputs.reference, accuracy)
    if precision == "fp16" and not np.isfinite(parity.map_max_error):
        parity = dataclasses.replace(parity, failures=(_overflow(model, arithmetic, inputs),))
    spec = dataclasses.replace(spec, parity=parity.to_dict())
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.save(model, path)
    return ExportCandidate(path, target, spec, parity)


def calibrate(engine: Engine, held_out: Sequence[Image], reference: Reference) -> Spec:
    """Return the engine's Spec with the engine's own scores of the held-out images, and their threshold.

    Rounding moves scores; and the checkpoint's threshold may be the very score of one of them: the last digit would
    decide. Where the scores are those of other students (cross-conformal calibration), no image was held out, and they
    are multiplied by the median ratio of the engine's scores and PyTorch's on the reference's good images. A Spec
    without calibration, or whose images are not all here, stays as it is.
    """
    spec = engine.spec
    if spec.false_alarm_rate is None or not spec.held_out_scores:
        return spec
    if len(held_out) == len(spec.held_out_scores):
        scores = [float(engine.infer(image[np.newaxis])[1][0]) for image in held_out]
    elif spec.folds:
        good = reference.images[: reference.good]
        own = np.array([float(engine.infer(image[np.newaxis])[1][0]) for image in good])
        exact = reference.scores[: reference.good].astype(np.float64)
        ratio = float(np.median(own[exact > 0] / exact[exact > 0])) if (exact > 0).any() else 1.0
        scores = [ratio * score for score in spec.held_out_scores]
    else:
        return spec
    if not np.isfinite(scores).all():  # an overflow: parity will say so
        return spec
    threshold = conformal_threshold(scores, spec.false_alarm_rate)
    return dataclasses.replace(spec, threshold=threshold.value, held_out_scores=tuple(scores))


def median_latencies(paths: Sequence[Path], image: Image, device: str = "cpu") -> list[float]:
    """Return the median time in milliseconds that each file takes for one frame uint8 [H, W, 3], timed by turns."""
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(contextlib.closing(open_engine(path, device))) for path in paths]
        calls = [partial(engine.infer, image[np.newaxis]) for engine in engines]
        return [statistics.median(times) for times in time_by_turns(calls, RUNS, PAUSE_S)]


def _arithmetic(inputs: ExportInputs, precision: str, target: Target) -> Float32:
    if precision == "int8":
        ranges, factors, rounder = inputs.measured_for_int8
        return Int8(ranges, target, factors, rounder)
    return {"fp32": Float32, "fp16": Float16, "bf16": BFloat16}[precision]()


def _overflow(model: onnx.ModelProto, arithmetic: Float32, inputs: ExportInputs) -> str:
    where = (first_overflow(model, arithmetic.activations, image) for image in inputs.reference.images)
    name = next((name for name in where if name), "the frame")
    return f"its values overflow at {name}: a number above 65504 (export in fp32 or int8)"
