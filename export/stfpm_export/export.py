"""From a checkpoint to one proven ONNX file."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stfpm_edge.calibration.threshold import score_images, subsample_evenly
from stfpm_edge.checkpoint import Checkpoint, load_checkpoint
from stfpm_edge.pictures.data import find_good_images, read_images
from stfpm_edge.pictures.data_report import read_good_images
from stfpm_edge.torch_engine import TorchEngine
from stfpm_runtime.artifact.calibration import calibrated
from stfpm_runtime.artifact.conformal import check_false_alarm_rate
from stfpm_runtime.artifact.golden import Golden, golden_path, save_golden
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.errors import DataError, OptionError, ParityError
from stfpm_runtime.files import atomic_path, check_writable, sha256
from stfpm_runtime.imaging.images import find_images
from stfpm_runtime.imaging.preprocessing import Image, preprocess
from stfpm_runtime.machine import computes_bfloat16

from .anomalib import read_anomalib
from .auto import ExportCandidate, ExportInputs, MeasureAccuracy, make_candidate, median_latencies
from .parity import ParityReport, require_parity
from .reference import Reference, make_reference
from .target import ANY_ENGINE_PRECISIONS, AUTO, PRECISIONS, TARGETS, Target

MAX_REFERENCE_IMAGES = 32
"""Images that parity is measured on, at the most, as they are and with synthetic defects."""
CALIBRATION_IMAGES = 64
"""Images that int8 is calibrated on, at the most."""
GOLDEN_IMAGES = 4
"""Images in the golden file with PyTorch's results, half of them with a synthetic defect."""
BUG = "report this as a bug, with the checkpoint"
CHOOSE = "choose another precision, or accept it with --allow-parity-loss"


@dataclass(frozen=True)
class AnomalibOptions:
    """Options that a checkpoint of anomalib's lacks."""

    name: str = ""
    """The product's name; empty is the file's."""
    false_alarm_rate: float = 0.01

    def __post_init__(self) -> None:
        check_false_alarm_rate(self.false_alarm_rate)


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export."""

    checkpoint: Path
    output: Path
    precision: str = "fp32"
    """`fp32`, `fp16`, `bf16`, `int8`, or `auto`: the fastest of them here whose parity holds."""
    target: Target = "cpu"
    """The engine that the file is made for."""
    size: tuple[int, int] | None = None
    """(height, width) of the input; None is the checkpoint's own."""
    batch: int | None = None
    """Frames that the file takes at a time; None leaves it free."""
    images: Path | None = None
    """A folder of good images, or one image, to measure parity on; None takes those stored with the checkpoint."""
    calibration: Path | None = None
    """A folder of good images that the student was not trained on. For int8, None takes those stored with the
    checkpoint. A model of anomalib's gets its threshold from them; None leaves it without one."""
    accept_data: bool = False
    """Calibrate also on pictures that look doubtful, see `stfpm_edge.pictures.data_report`."""
    allow_parity_loss: bool = False
    """Write the file also where parity does not hold; its Spec records that."""
    anomalib: AnomalibOptions | None = None
    """Options of a Lightning checkpoint of anomalib's Stfpm; None for one of ours."""

    def __post_init__(self) -> None:
        if self.output.suffix != ".onnx":
            raise OptionError(f"{self.output}: expected a file ending in .onnx")
        if self.precision not in (*PRECISIONS, AUTO):
            raise OptionError(f"got precision {self.precision!r}; expected one of {', '.join((*PRECISIONS, AUTO))}")
        if self.target not in TARGETS:
            raise OptionError(f"got target {self.target!r}; expected one of {', '.join(TARGETS)}")
        if self.precision not in (*ANY_ENGINE_PRECISIONS, AUTO) and self.target != "openvino":
            raise OptionError(
                f"got precision {self.precision} with target {self.target}; expected --target openvino, or fp16"
            )
        if self.size is not None and min(self.size) < 32:
            raise OptionError(f"got a size of {self.size[1]}x{self.size[0]}; expected 32 pixels or more a side")
        if self.batch is not None and self.batch < 1:
            raise OptionError(f"got a batch of {self.batch}; expected 1 or more")


def export_checkpoint(
    options: ExportOptions, report: Callable[[str], None], measure_accuracy: MeasureAccuracy | None = None
) -> tuple[Spec, ParityReport]:
    """Write `options.output`, one self-contained ONNX file with its Spec, and its golden file.

    Returns that Spec and its parity. `report` gets lines for a person; `measure_accuracy`, on labelled images, adds
    their accuracy to the parity. Raises ParityError where the file disagrees with PyTorch, and other StfpmErrors for
    what the user can fix; no file is written then, and those that were there before stay.
    """
    check_writable(options.output)
    for given in (options.images, options.calibration):
        if given is not None and not given.exists():
            raise DataError(f"{given}: no such file or folder; expected real images of the product")
    if options.calibration is not None:
        find_good_images(options.calibration)  # an empty folder is reported before any work
    checkpoint = _resized(_read(options, report), options, report)
    images = _images(options, checkpoint, report)
    inputs = ExportInputs(
        checkpoint,
        make_reference(checkpoint, images),
        _calibration(options, checkpoint, report) if options.precision in ("int8", AUTO) else [],
        options.batch,
        measure_accuracy,
        measure_accuracy(TorchEngine.of(checkpoint)) if measure_accuracy else None,
    )
    with tempfile.TemporaryDirectory() as folder:
        chosen = _choose(inputs, options, Path(folder), report)
        with atomic_path(options.output) as unfinished:
            shutil.copyfile(chosen.path, unfinished)
            # before the model is in its place: one without its golden file could not be used
            save_golden(_golden(inputs.reference, unfinished), golden_path(options.output))
    return chosen.spec, chosen.parity


def _choose(
    inputs: ExportInputs, options: ExportOptions, folder: Path, report: Callable[[str], None]
) -> ExportCandidate:
    """Return the requested candidate, or the fastest one. Raise ParityError where no candidate agrees with PyTorch."""
    name = inputs.checkpoint.spec.name
    if options.precision != AUTO:
        candidate = make_candidate(inputs, options.precision, options.target, folder / "model.onnx")
        if not options.allow_parity_loss:
            require_parity(candidate.parity, name, BUG if options.precision == "fp32" else CHOOSE)
        return candidate
    candidates = []
    for number, (precision, target) in enumerate(_alternatives(options.target)):
        candidate = make_candidate(inputs, precision, target, folder / f"{number}.onnx")
        if candidate.parity.holds:
            candidates.append(candidate)
        else:
            report(f"{precision} for {target}: left out, {'; '.join(candidate.parity.failures)}")
    if not candidates:
        raise ParityError(f"{name}: no precision agrees with PyTorch. No file was written; {BUG}")
    times = median_latencies([one.path for one in candidates], inputs.reference.images[0])
    for candidate, spent in zip(candidates, times, strict=True):
        report(f"{candidate.spec.precision} for {candidate.target}: {spent:.1f} ms in {candidate.parity.engine}")
    return candidates[int(np.argmin(times))]


def _alternatives(target: Target) -> list[tuple[str, Target]]:
    """Return what `auto` tries: every precision for the target, and on a CPU for each installed engine.

    bf16 only where OpenVINO computes in it: elsewhere the file is as slow as fp32.
    """
    targets = [target]
    if target == "cpu" and importlib.util.find_spec("openvino"):
        targets.append("openvino")
    return [
        (precision, one)
        for one in targets
        for precision in PRECISIONS
        if precision in ANY_ENGINE_PRECISIONS or (one == "openvino" and computes_bfloat16())
    ]


def _read(options: ExportOptions, report: Callable[[str], None]) -> Checkpoint:
    if options.anomalib is None:
        checkpoint = load_checkpoint(options.checkpoint)
        origin = {"checkpoint_sha256": sha256(options.checkpoint)}
        return dataclasses.replace(
            checkpoint, spec=dataclasses.replace(checkpoint.spec, training=checkpoint.spec.training | origin)
        )
    return read_anomalib(
        options.checkpoint,
        options.anomalib.name or options.checkpoint.stem,
        size=options.size,
        calibration=options.calibration,
        false_alarm_rate=options.anomalib.false_alarm_rate,
        accept_data=options.accept_data,
        report=report,
    )


def _resized(checkpoint: Checkpoint, options: ExportOptions, report: Callable[[str], None]) -> Checkpoint:
    """Return the checkpoint with another input size: its images are resized, its threshold is set again on them."""
    spec = checkpoint.spec
    if options.size in (None, (spec.height, spec.width)):
        return checkpoint
    assert options.size is not None, "just compared"
    height, width = options.size
    train, held_out = (
        [preprocess(image, height, width) for image in images]
        for images in (checkpoint.train_images, checkpoint.held_out_images)
    )
    is_complete = spec.false_alarm_rate is not None and len(held_out) == len(spec.held_out_scores) > 0
    if spec.min_area > 1:  # the same part of the picture
        min_area = max(round(spec.min_area * height * width / (spec.height * spec.width)), 1)
        report(f"the smallest area of a defect becomes {min_area} pixels of the {width}x{height} map")
        spec = dataclasses.replace(spec, min_area=min_area)
    spec = dataclasses.replace(
        spec, height=height, width=width, threshold=None, threshold_set_by="", false_alarm_rate=None,
        held_out_scores=(),
        # what was found of synthetic defects was found with another map
        training={key: value for key, value in spec.training.items() if key != "synthetic_defects"},
    )  # fmt: skip
    resized = dataclasses.replace(
        checkpoint, spec=spec, train_images=train, held_out_images=held_out,
        place_scale=checkpoint.head.resized(height, width).place_scale,
    )  # fmt: skip
    if not is_complete:
        why = "no image was held out" if checkpoint.spec.folds else "not all held-out images are stored with it"
        report(f"{options.checkpoint}: {why}, so at {width}x{height} it has no "
               "threshold; give one to stfpm-inspect with --threshold")  # fmt: skip
        return resized
    rate = checkpoint.spec.false_alarm_rate or 0.01
    names = spec.training.get("images", {}).get("held_out", ())
    with_threshold = calibrated(
        spec,
        score_images(resized.model(), np.stack(held_out)),
        rate,
        report,
        names if len(names) == len(held_out) else (),
    )
    return dataclasses.replace(resized, spec=with_threshold)


def _images(options: ExportOptions, checkpoint: Checkpoint, report: Callable[[str], None]) -> list[Image]:
    if options.images is None:
        images = [*checkpoint.held_out_images, *checkpoint.train_images][:MAX_REFERENCE_IMAGES]
        if not images:
            raise DataError(f"{options.checkpoint}: no images are stored with it; give some with --images")
        return images
    paths = [options.images] if options.images.is_file() else find_images(options.images)
    if not paths:
        raise DataError(f"{options.images}: no pictures in it; expected real images of the product")
    spec, chosen = checkpoint.spec, subsample_evenly(paths, MAX_REFERENCE_IMAGES)
    read, _ = read_images(chosen, spec.height, spec.width, bits=spec.bits, skip_unreadable=False, report=report)
    return list(read)


def _calibration(options: ExportOptions, checkpoint: Checkpoint, report: Callable[[str], None]) -> Sequence[Image]:
    """Return good images for int8's ranges; report a warning where they do not look like the product."""
    if options.calibration is None or options.anomalib is not None:
        return checkpoint.train_images or _images(options, checkpoint, report)
    spec, paths = checkpoint.spec, subsample_evenly(find_good_images(options.calibration), CALIBRATION_IMAGES)
    images, _, _ = read_good_images(
        options.calibration, spec.height, spec.width, report,
        bits=spec.bits, paths=paths, accept_doubtful=options.accept_data, least=1,
    )  # fmt: skip
    known = spec.held_out_scores
    typical = float(np.median(score_images(checkpoint.model(), images)))
    if known and typical > max(known):
        report(f"warning: {options.calibration}: a typical picture there scores {typical:.3g}, good ones at most "
               f"{max(known):.3g}; are they of this product, and good?")  # fmt: skip
    return list(images)


def _golden(reference: Reference, model: Path) -> Golden:
    """Return PyTorch's results on the good images with the lowest scores and the defects with the highest.

    They are farthest from the threshold, so that another machine's rounding hardly ever changes a verdict.
    """
    half = min(GOLDEN_IMAGES // 2, reference.good)
    order = np.argsort(reference.scores, kind="stable")
    good, defects = order[order < reference.good], order[order >= reference.good]
    chosen = [*good[:half], *defects[-half:]]
    images = np.stack([reference.images[index] for index in chosen])
    return Golden(images, reference.maps[chosen], reference.scores[chosen], sha256(model))
