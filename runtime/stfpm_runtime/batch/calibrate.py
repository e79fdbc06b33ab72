"""`stfpm-calibrate model.onnx good/ -o model2.onnx`: set the threshold of a deployed file again, from good pictures.

The file itself scores the pictures, in the engine of this machine and without PyTorch. The threshold follows by split
conformal prediction, as after a training. Nothing else in the file changes.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from stfpm_runtime.artifact.calibration import calibrated
from stfpm_runtime.artifact.conformal import check_false_alarm_rate
from stfpm_runtime.artifact.golden import golden_path, load_golden, save_golden
from stfpm_runtime.artifact.min_area import area_scores
from stfpm_runtime.artifact.onnx_metadata import read_spec, replace_spec
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.cli import run
from stfpm_runtime.dataset.folder_names import suspect_folders
from stfpm_runtime.detector import Detector
from stfpm_runtime.engines import open_engine
from stfpm_runtime.errors import DataError, OptionError
from stfpm_runtime.files import atomic_path, check_writable, sha256
from stfpm_runtime.imaging.preprocessing import check_bits, grey_level
from stfpm_runtime.model_check import Model, ModelRules, load_checked
from stfpm_runtime.options import DEVICES
from stfpm_runtime.sources import find_files, read_frames
from stfpm_runtime.sources.files import Files, absolute, summarise

from .inspect import judge

COMMAND = "stfpm-calibrate"


@dataclass(frozen=True)
class CalibrateOptions:
    """Options of a calibration."""

    model: Path
    """The exported model.onnx."""
    good: tuple[str, ...]
    """Pictures of good parts that the training did not see: files, folders and glob patterns."""
    output: Path
    """The new model.onnx; its golden file is written next to it."""
    false_alarm_rate: float = 0.01
    """The share of good parts that may be rejected, 0 to 1."""
    min_area: int | None = None
    """The smallest area of a defect in pixels of the map, see `Spec.min_area`; None leaves the model's."""
    device: str = "auto"
    """The engine's device, see `open_engine`."""
    bits: int | None = None
    """Bits that the values of 16-bit pictures use, 9 to 16; None: as the model's training pictures."""
    accept_data: bool = False
    """Take pictures from folders that seem to hold defects or masks."""

    def __post_init__(self) -> None:
        check_false_alarm_rate(self.false_alarm_rate)
        check_bits(self.bits)
        if self.min_area is not None and self.min_area < 1:
            raise OptionError(f"got a smallest area of {self.min_area}; expected 1 pixel of the map or more")
        for path in (self.model, self.output):
            if path.suffix.lower() != ".onnx":
                raise OptionError(f"{path}: expected a file ending in .onnx; a TensorRT plan is built from it again")


def calibrate(options: CalibrateOptions, say: Callable[[str], None]) -> Spec:
    """Write the model with a new threshold, and its golden file; returns the new Spec. `say` gets lines for a person.

    A picture that repeats another one pixel by pixel counts once. Raises StfpmError, and writes nothing, for a model
    that may not judge on this machine, and for a picture that cannot be read or judged.
    """
    files = find_files(options.good)
    if not options.accept_data:
        _check_folders(files)
    if files.left_out:
        say(summarise(files.left_out))
    check_writable(options.output, (*files.paths, options.model))
    before = read_spec(options.model)
    area = before.min_area if options.min_area is None else options.min_area
    if area > before.height * before.width // 4:
        raise OptionError(f"got a smallest area of {area} pixels; expected a quarter of the map, "
                          f"{before.width}x{before.height}, or less")  # fmt: skip
    any_threshold = None if before.threshold is not None else 1.0  # a model without one may get its first here
    model = load_checked(options.model, lambda path: open_engine(path, options.device), ModelRules(), any_threshold)
    with contextlib.closing(model.engine):
        scored = _scores(model.detector, files.paths, area, options.bits or before.bits, say)
    names, scores = [name for name, *_ in scored], [score for _, score, _ in scored]
    levels = [level for *_, level in scored]
    if before.threshold is not None and area == before.min_area and median(scores) > before.threshold:
        say(
            f"warning: a typical one of these pictures scores {median(scores):.4g}, and the model's threshold is "
            f"{before.threshold:.4g}; are they of this product, and good?"
        )
    spec = before
    if area != before.min_area:
        spec = dataclasses.replace(before, min_area=area, top_share=None, score_scale=1.0)
    spec = calibrated(spec, scores, options.false_alarm_rate, say, names)
    origin = {"sha256": model.sha256, "engine": model.engine.provider, "images": names}
    # what was found of synthetic defects was found at the threshold before
    training = {key: value for key, value in spec.training.items() if key != "synthetic_defects"}
    training |= {"calibrated_from": origin, "grey_levels": [round(float(f(levels)), 2) for f in (np.mean, np.std)]}
    spec = dataclasses.replace(spec, training=training, parity=_parity(before, spec))
    _write(spec, model, options.output)
    was = "none" if before.threshold is None else f"{before.threshold:.4g}"
    say(
        f"{options.output}: threshold {was} -> {spec.threshold:.4g}, which at most {spec.false_alarm_rate:.1%} of good "
        f"parts exceed on average ({len(scores)} pictures)"
    )
    return spec


def _check_folders(files: Files) -> None:
    """Raise DataError where pictures lie in folders that seem to hold defects or masks."""
    folders = {str(absolute(path).parent.relative_to(files.root.parent)) for path in files.paths}
    if suspects := sorted(suspect_folders(folders)):
        raise DataError(
            f"{', '.join(suspects)}: named like defects or masks, or beside a folder of good pictures; expected "
            "pictures of good parts alone: name their folders, or accept these by --accept-data"
        )


def _scores(
    detector: Detector, paths: Sequence[Path], min_area: int, bits: int | None, say: Callable[[str], None]
) -> list[tuple[str, float, float]]:
    """Return file name, score and grey level of each different picture. Raises DataError for one without a score."""
    scores: dict[bytes, tuple[str, float, float]] = {}
    total = 0
    for frame, verdict in judge(detector, read_frames(paths, bits)):
        if frame.image is None or verdict.score is None or verdict.anomaly_map is None:
            place = "" if verdict.reason.startswith(frame.source) else f"{frame.source}: "
            raise DataError(f"{place}{verdict.reason}; remove it, or give another picture")
        is_own = min_area == detector.engine.spec.min_area
        score = verdict.score if is_own else float(area_scores(verdict.anomaly_map[np.newaxis], min_area)[0])
        digest = hashlib.sha256(frame.image.tobytes()).digest()
        scores[digest] = Path(frame.source).name, score, grey_level(frame.image)
        total += 1
    if len(scores) < total:
        say(f"{total - len(scores)} of {total} pictures repeat another one, and do not count")
    return list(scores.values())


def _parity(before: Spec, after: Spec) -> dict[str, Any]:
    """Return the parity report with the threshold that PyTorch would have: it moves as the file's own does."""
    pytorch = before.parity.get("pytorch_threshold")
    if pytorch is None or not before.threshold or after.threshold is None:
        pytorch = after.threshold
    else:
        pytorch *= after.threshold / before.threshold
    return before.parity | {"pytorch_threshold": pytorch, "threshold": after.threshold}


def _write(spec: Spec, model: Model, output: Path) -> None:
    """Write the file with this spec, and PyTorch's results for it. Until both are there, the file may not judge."""
    golden = load_golden(golden_path(model.path))
    if spec.min_area != model.spec.min_area:
        golden = dataclasses.replace(golden, scores=area_scores(golden.maps, spec.min_area))
    with atomic_path(output) as unfinished:
        unfinished.write_bytes(replace_spec(model.path, spec))
        # before the model is in its place: one without its golden file could not be used
        save_golden(dataclasses.replace(golden, sha256=sha256(unfinished)), golden_path(output))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `argv` is without the command's name."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Set the threshold of a model again, from pictures of good parts.",
        epilog="example: stfpm-calibrate bottle.onnx monday/good -o bottle-monday.onnx",
    )  # fmt: skip
    add = parser.add_argument
    add("model", type=Path, help="the model.onnx that stfpm-export wrote")
    add("good", nargs="+", metavar="PATH", help="pictures of good parts that were not used for its training")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="the new model.onnx")
    add("--false-alarm-rate", type=float, default=0.01, metavar="X",
        help="the share of good parts that may be rejected (default: 0.01)")  # fmt: skip
    add("--min-area", type=int, metavar="PIXELS",
        help="reject only for so many connected pixels of the map (default: as in the model)")  # fmt: skip
    add("--device", default="auto", choices=DEVICES, help="the engine that runs the model (default: auto)")
    add("--accept-data", action="store_true", help="take pictures from folders that seem to hold defects or masks")
    add("--bits", type=int, metavar="N", help="the number of bits that 16-bit pictures use (default: as in the model)")
    return run(COMMAND, partial(_calibrate, parser.parse_args(argv)))


def _calibrate(arguments: argparse.Namespace) -> int:
    calibrate(CalibrateOptions(**vars(arguments) | {"good": tuple(arguments.good)}), partial(print, file=sys.stderr))
    return 0
