"""`stfpm-inspect model.onnx --source parts/`: pictures and videos in, a verdict for each frame out.

Verdicts are JSON lines on stdout, or in a file; words and the summary are on stderr. Exit code 0 if every frame was
judged, 1 if one was not or something could not be written, 2 for bad usage. What was not judged is never passed.
`stfpm-inspect --config line3.toml` (or --journal FILE) runs a line of cameras, for months: see the package `line`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, get_args

import cv2

from stfpm_runtime.cli import run
from stfpm_runtime.detector import Detector, Verdict
from stfpm_runtime.engines import Engine, open_engine
from stfpm_runtime.engines.tensorrt.sidecar import onnx_path
from stfpm_runtime.errors import ArtifactError, OptionError, OutputError, StfpmError
from stfpm_runtime.files import check_writable
from stfpm_runtime.imaging.preprocessing import check_bits
from stfpm_runtime.model_check import ModelRules, load_checked
from stfpm_runtime.options import DEVICES, MAX_MEGAPIXELS, SaveOnly
from stfpm_runtime.sources import Files, Frame, absolute, find_files, read_frames
from stfpm_runtime.sources.files import summarise

from .outputs import JsonLines, OverlayFolder, Progress, Sink, Tally

if TYPE_CHECKING:
    from stfpm_runtime.line.config.server import ServerOptions

COMMAND = "stfpm-inspect"
LINE_FLAGS = ("model", "source", "journal", "threshold", "device", "threads", "json_logs", "dashboard", "shadow",
              "allow_missing_golden")  # fmt: skip
"""What goes with --journal."""
TOKEN = "STFPM_DASHBOARD_TOKEN"
"""Environment variable that holds the dashboard's token: a command line can be read by others."""


@dataclass(frozen=True)
class InspectOptions:
    """What to inspect, with what, and what to keep of it."""

    model: Path
    """The exported model.onnx."""
    sources: tuple[str, ...]
    """Pictures, videos, folders and glob patterns."""
    json: Path | None = None
    """A file for the verdicts; None: stdout."""
    save: Path | None = None
    """A folder for the overlays; None: there are none."""
    save_only: SaveOnly = "all"
    """Which overlays; `reject` is all that was not passed, faults included."""
    threshold: float | None = None
    """Instead of the model's own."""
    device: str = "auto"
    """What executes the model, see `open_engine`."""
    rebuild: bool = False
    """Whether a TensorRT plan that does not fit this machine is built again, from the ONNX file beside it."""
    threads: int | None = None
    """Of the engine; None: its choice."""
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


@dataclass(frozen=True)
class ServeOptions:
    """Which line to run."""

    config: Path | None = None
    """Its TOML file; None: the model and sources below."""
    model: Path = Path()
    sources: tuple[str, ...] = ()
    """A camera each."""
    journal: Path = Path()
    threshold: float | None = None
    device: str = "auto"
    threads: int | None = None
    json_logs: bool = False
    """Log lines as JSON instead of words."""
    dashboard: str | None = None
    """HOST:PORT of the dashboard, empty for its default; None: as the file says."""
    shadow: Path | None = None
    """A second model that judges the same frames; None: as the file says."""
    allow_missing_golden: bool = False
    """True accepts a model without its golden file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `argv` is without the command's name."""
    options = parse(argv)
    if isinstance(options, ServeOptions):
        return run(COMMAND, lambda: _serve(options))
    return run(COMMAND, lambda: inspect(options))


def parse(argv: Sequence[str] | None = None) -> InspectOptions | ServeOptions:
    """The command line as options; exits with 2 where it makes no sense."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.config:
        _refuse(parser, args, "--config", allowed=("config", "json_logs", "dashboard", "shadow"))
        return ServeOptions(args.config, json_logs=args.json_logs, dashboard=args.dashboard, shadow=args.shadow)
    if args.model is None or args.source is None:
        parser.error("expected model.onnx and --source, or --config line.toml")
    if args.journal:
        _refuse(parser, args, "--journal", allowed=LINE_FLAGS)
        return ServeOptions(
            json_logs=args.json_logs,
            model=args.model,
            sources=tuple(args.source),
            journal=args.journal,
            threshold=args.threshold,
            device=args.device,
            threads=args.threads,
            dashboard=args.dashboard,
            shadow=args.shadow,
            allow_missing_golden=args.allow_missing_golden,
        )
    for flag, value in (("--json-logs", args.json_logs), ("--dashboard", args.dashboard), ("--shadow", args.shadow)):
        if value is not None and value is not False:
            parser.error(f"{flag} without --config or --journal: it is for a line of cameras")
    if args.save_only and not args.save:
        parser.error("--save-only without --save: expected --save DIR, the folder for the overlays")
    return InspectOptions(
        model=args.model,
        sources=tuple(args.source),
        json=args.json,
        save=args.save,
        save_only=args.save_only or "all",
        threshold=args.threshold,
        device=args.device,
        rebuild=args.rebuild,
        threads=args.threads,
        batch_size=args.batch_size,
        limit=args.limit,
        allow_missing_golden=args.allow_missing_golden,
        bits=args.bits,
        max_megapixels=args.max_megapixels,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Inspect pictures, videos and cameras with a model.")
    parser.add_argument("model", type=Path, nargs="?", help="the model.onnx or .engine that stfpm-export wrote")
    parser.add_argument("--config", type=Path, metavar="FILE", help="run a line as its TOML file says, until SIGTERM")
    parser.add_argument(
        "--journal", type=Path, metavar="FILE", help="run the sources as a line, a camera each, into it"
    )
    parser.add_argument("--json-logs", action="store_true", help="with these two: log lines as JSON")
    parser.add_argument(
        "--dashboard", nargs="?", const="", metavar="HOST:PORT",
        help=f"with these two: pages to look at, and an API (default: 127.0.0.1:8766); its token is in {TOKEN}",
    )  # fmt: skip
    parser.add_argument(
        "--shadow", type=Path, metavar="MODEL", help="with these two: a second model that judges the same frames"
    )
    parser.add_argument(
        "--source", nargs="+", metavar="PATH", help="pictures, videos, folders, or quoted glob patterns"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdicts there instead of to stdout")
    parser.add_argument("--save", type=Path, metavar="DIR", help="draw every verdict on its frame, and keep it there")
    parser.add_argument("--device", default="auto", choices=DEVICES, help="what executes the model (default: auto)")
    parser.add_argument(
        "--save-only",
        choices=get_args(SaveOnly),
        help="keep only these; reject: whatever was not passed, frames that could not be judged included",
    )
    parser.add_argument("--threshold", type=float, metavar="X", help="reject scores above X, not above the model's own")
    parser.add_argument(
        "--allow-missing-golden", action="store_true",
        help="run a model without its .golden.npz, so that its results are not verified on this machine",
    )  # fmt: skip
    parser.add_argument(
        "--rebuild", action="store_true", help="build a plan that is of another machine again, from its ONNX file"
    )
    parser.add_argument("--threads", type=_count, metavar="N", help="threads of the engine (default: its choice)")
    parser.add_argument("--batch-size", type=_count, default=1, metavar="N", help="frames in one run of the engine (1)")
    parser.add_argument(
        "--bits", type=int, metavar="N", help="bits that the values of 16-bit pictures use (default: the model's)"
    )
    parser.add_argument(
        "--max-megapixels", type=float, default=MAX_MEGAPIXELS, metavar="X",
        help=f"do not decode larger pictures ({MAX_MEGAPIXELS:g})",
    )  # fmt: skip
    parser.add_argument("--limit", type=_count, metavar="N", help="stop after N frames")
    return parser


def _refuse(parser: argparse.ArgumentParser, args: argparse.Namespace, flag: str, allowed: Sequence[str]) -> None:
    """End with 2 if there are other flags than those beside it."""
    given = [name for name, value in vars(args).items() if value != parser.get_default(name) and name not in allowed]
    if given:
        names = ", ".join(name if name == "model" else f"--{name.replace('_', '-')}" for name in given)
        parser.error(f"{flag} with {names}: they do not go together")


def _serve(options: ServeOptions) -> int:
    """Run a line. Imported here: who inspects files needs no journal."""
    from stfpm_runtime.line.config.line import line_of, read_config
    from stfpm_runtime.line.observers.logs import log_to_stderr
    from stfpm_runtime.line.service import serve

    _silence_opencv()
    log_to_stderr(options.json_logs)
    if options.config:
        line = read_config(options.config)
    else:
        line = line_of(options.model, options.sources, options.journal)
        names = ("threshold", "device", "threads", "allow_missing_golden")
        line = dataclasses.replace(line, **{name: getattr(options, name) for name in names})
    if options.shadow:
        line = dataclasses.replace(line, shadow=options.shadow)
    if options.dashboard is not None:
        line = dataclasses.replace(line, dashboard=_dashboard(line.dashboard, options.dashboard))
    return serve(line, config=options.config)


def _dashboard(table: ServerOptions | None, listen: str) -> ServerOptions:
    """The table [dashboard], if there is one, as the command line and the environment have it."""
    from stfpm_runtime.line.config.server import ServerOptions
    from stfpm_runtime.line.config.toml_file import MistakeError

    table = table or ServerOptions()
    try:
        return ServerOptions(listen or table.listen, os.environ.get(TOKEN) or table.token)
    except MistakeError as mistake:
        raise OptionError(f"--dashboard: {mistake}, or the environment variable {TOKEN}") from None


def inspect(options: InspectOptions) -> int:
    """Inspect all frames and return 0.

    Raises StfpmError before the first frame for what is wrong with the model, the sources or the places to write to,
    and after the last one if a frame could not be judged or an overlay not be written.
    """
    _silence_opencv()
    check_bits(options.bits)
    files = find_files(options.sources)
    _check_outputs(options, files)
    if files.left_out:
        _say(summarise(files.left_out))
    rules = ModelRules(allow_missing_golden=options.allow_missing_golden)
    model = load_checked(options.model, lambda path: _open(options), rules, options.threshold)
    with contextlib.closing(model.engine) as engine:
        detector = model.detector
        _say(f"model {engine.spec.name} ({engine.spec.precision}, {engine.provider}), threshold {detector.threshold:g}")
        tally = Tally()
        overlays = OverlayFolder(options.save, files.root, options.save_only) if options.save else None
        bits = options.bits or engine.spec.bits
        frames = itertools.islice(read_frames(files.paths, bits, options.max_megapixels), options.limit)
        with _json_file(options.json) as json_file:
            sinks: list[Sink] = [JsonLines(json_file), tally, *([overlays] if overlays else [])]
            if sys.stderr.isatty() and not json_file.isatty():
                sinks.append(Progress(tally, sys.stderr))
            try:
                for frame, verdict in judge(detector, frames, options.batch_size):
                    for sink in sinks:
                        sink.take(frame, verdict)
            finally:
                left_out = f"; {len(files.left_out)} files left out" if files.left_out else ""
                _say(tally.summary() + left_out)
    _complain(tally, overlays.failures if overlays else 0)
    return 0


def judge(detector: Detector, frames: Iterable[Frame], batch_size: int = 1) -> Iterator[tuple[Frame, Verdict]]:
    """Each frame with its verdict, in order; a frame that could not be read is a fault in its place."""
    frames = iter(frames)
    while batch := list(itertools.islice(frames, batch_size)):
        verdicts = iter(detector.inspect_batch([frame.image for frame in batch if frame.image is not None]))
        for frame in batch:
            yield frame, detector.fault(frame.error) if frame.image is None else next(verdicts)


def _open(options: InspectOptions) -> Engine:
    """The engine; a plan that cannot be used is built again where that was asked for."""
    try:
        return open_engine(options.model, options.device, options.threads)
    except ArtifactError:
        if not options.rebuild or options.model.suffix.lower() != ".engine":
            raise
    from stfpm_runtime.engines.tensorrt.build import rebuild

    rebuild(options.model, onnx_path(options.model), _say)
    return open_engine(options.model, options.device, options.threads)


def _check_outputs(options: InspectOptions, files: Files) -> None:
    """Raise unless the results can be written, and without getting among the sources."""
    if options.json:
        check_writable(options.json, (*files.paths, options.model))
    if options.save:
        check_writable(options.save / "overlay")
        folder = absolute(options.save)
        for path in files.paths:
            if absolute(path).is_relative_to(folder):
                raise OptionError(
                    f"--save {options.save}: {path}, which is to be inspected, lies in it; "
                    "choose a folder for the overlays that holds no source"
                )


@contextlib.contextmanager
def _json_file(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):  # of a line that JsonLines has complained about already
            file.close()


def _complain(tally: Tally, lost_overlays: int) -> None:
    """Raise StfpmError if something was not done, with all of it in one line."""
    faults = tally.decisions["fault"]
    complaints = []
    if faults:
        complaints.append(
            f"{faults} of {tally.total} frames could not be judged, and none of them is passed; "
            f"the first: {tally.first_reason}"
        )
    if lost_overlays:
        complaints.append(f"{lost_overlays} overlays could not be written; free space or choose another --save")
    if complaints:
        raise StfpmError("; ".join(complaints))


def _silence_opencv() -> None:
    """Keep OpenCV's own log off stderr: what it cannot read is in the verdicts, in our words."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _count(text: str) -> int:
    """An argument that is a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of 1 or more")
    return int(text)
