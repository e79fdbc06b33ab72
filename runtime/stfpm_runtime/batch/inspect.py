"""Inspect files: pictures and videos in, a verdict for each frame out."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from stfpm_runtime.artifact.golden import golden_path
from stfpm_runtime.detector import Detector, Verdict
from stfpm_runtime.engines import Engine, open_engine
from stfpm_runtime.engines.tensorrt.sidecar import onnx_path
from stfpm_runtime.errors import ArtifactError, OutputError, StfpmError
from stfpm_runtime.files import check_writable
from stfpm_runtime.imaging.preprocessing import check_bits
from stfpm_runtime.model_check import ModelRules, load_checked
from stfpm_runtime.options import MAX_MEGAPIXELS, SaveOnly
from stfpm_runtime.sources import Files, Frame, find_files, read_frames
from stfpm_runtime.sources.files import check_save, summarise

from .outputs import JsonLines, OverlayFolder, Progress, Tally, VerdictLines, VerdictWriter

STDOUT = Path("-")


@dataclass(frozen=True)
class InspectOptions:
    """Options of an inspection."""

    model: Path
    """The exported model.onnx."""
    sources: tuple[str, ...]
    """Pictures, videos, folders and glob patterns."""
    json: Path | None = None
    """A file for the verdicts as lines of JSON, `-` for stdout; None: stdout, as lines for a person on a terminal."""
    save: Path | None = None
    """A folder for the overlays; None: there are none."""
    save_only: SaveOnly | None = None
    """Which overlays are kept; None: all of them; `reject` is all that was not passed, faults included."""
    threshold: float | None = None
    """The threshold; None: the model's own."""
    device: str = "auto"
    """The engine's device, see `open_engine`."""
    rebuild: bool = False
    """True: a TensorRT plan that was built for another machine is built again from the ONNX file in its folder.
    False: such a plan is an error."""
    threads: int | None = None
    """Threads of the engine; None: its choice."""
    batch_size: int = 1
    """Frames in one run of the engine."""
    limit: int | None = None
    """Frames to inspect at most."""
    allow_missing_golden: bool = False
    """True accepts a model without its golden file."""
    bits: int | None = None
    """Bits that the values of 16-bit pictures use, 9 to 16; None: as the model's training pictures."""
    max_megapixels: float = MAX_MEGAPIXELS
    """A larger picture is not decoded, but a fault."""


def inspect(options: InspectOptions) -> int:
    """Inspect all frames and return 0.

    Raises StfpmError before the first frame for what is wrong with the model, the sources or the places to write to,
    and after the last one if a frame could not be judged or an overlay not be written.
    """
    check_bits(options.bits)
    files = find_files(options.sources)
    _check_outputs(options, files)
    if files.left_out:
        _print(summarise(files.left_out))
    rules = ModelRules(allow_missing_golden=options.allow_missing_golden)
    model = load_checked(options.model, lambda path: _open(options), rules, options.threshold)
    with contextlib.closing(model.engine) as engine:
        detector = model.detector
        _print(
            f"model {engine.spec.name} ({engine.spec.precision}, {engine.provider}), threshold {detector.threshold:g}"
        )
        tally = Tally()
        overlays = OverlayFolder(options.save, files.root, options.save_only or "all") if options.save else None
        bits = options.bits or engine.spec.bits
        frames = itertools.islice(read_frames(files.paths, bits, options.max_megapixels), options.limit)
        with _json_file(options.json) as json_file:
            is_for_a_person = options.json is None and json_file.isatty()
            verdicts = VerdictLines(json_file) if is_for_a_person else JsonLines(json_file)
            outputs: list[VerdictWriter] = [verdicts, tally, *([overlays] if overlays else [])]
            if sys.stderr.isatty() and not json_file.isatty():
                outputs.append(Progress(tally, sys.stderr))
            try:
                for frame, verdict in judge(detector, frames, options.batch_size):
                    for output in outputs:
                        output.write(frame, verdict)
            finally:
                left_out = f"; {len(files.left_out)} files left out" if files.left_out else ""
                _print(tally.summary() + left_out)
    _raise_if_incomplete(tally, overlays.failures if overlays else 0)
    return 0


def judge(detector: Detector, frames: Iterable[Frame], batch_size: int = 1) -> Iterator[tuple[Frame, Verdict]]:
    """Yield each frame with its verdict, in order; a frame that could not be read is a fault in its place."""
    frames = iter(frames)
    while batch := list(itertools.islice(frames, batch_size)):
        verdicts = iter(detector.inspect_batch([frame.image for frame in batch if frame.image is not None]))
        for frame in batch:
            yield frame, detector.fault(frame.error) if frame.image is None else next(verdicts)


def _open(options: InspectOptions) -> Engine:
    """Open the engine; a plan that cannot be used is built again where that was asked for."""
    try:
        return open_engine(options.model, options.device, options.threads)
    except ArtifactError:
        if not options.rebuild or options.model.suffix.lower() != ".engine":
            raise
    from stfpm_runtime.engines.tensorrt.build import rebuild

    rebuild(options.model, onnx_path(options.model), _print)
    return open_engine(options.model, options.device, options.threads)


def _check_outputs(options: InspectOptions, files: Files) -> None:
    """Raise OutputError or OptionError unless the results can be written, and lie outside the sources."""
    if options.json and options.json != STDOUT:
        check_writable(options.json, (*files.paths, options.model, golden_path(options.model)))
    if options.save:
        check_save(options.save, files.paths)


@contextlib.contextmanager
def _json_file(path: Path | None) -> Iterator[TextIO]:
    if path in (None, STDOUT):
        if sys.stdout is None:
            raise OutputError("stdout is closed; expected --json FILE, or a stdout for the verdicts")
        yield sys.stdout
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):  # JsonLines has raised the same error already
            file.close()


def _raise_if_incomplete(tally: Tally, lost_overlays: int) -> None:
    """Raise StfpmError if something was not done, with all of it in one line."""
    faults = tally.decisions["fault"]
    failures = []
    if faults:
        failures.append(
            f"{faults} of {tally.total} frames could not be judged, and none of them is passed; "
            f"the first: {tally.first_reason}"
        )
    if lost_overlays:
        failures.append(f"{lost_overlays} overlays could not be written; free space or choose another --save")
    if failures:
        raise StfpmError("; ".join(failures))


def _print(text: str) -> None:
    print(text, file=sys.stderr)
