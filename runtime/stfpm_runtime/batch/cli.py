"""`stfpm-inspect model.onnx parts/`: pictures and videos in, a verdict for each frame out.

Verdicts are lines of JSON on stdout or in a file, and lines for a person on a terminal; words and the summary are on
stderr. Exit code 0 if every frame was judged, 1 if one was not or something could not be written, 2 for bad usage. What
was not judged is never passed.
`stfpm-inspect --config line3.toml` (or --journal FILE) runs a line of cameras, for months: see the package `line`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from stfpm_runtime.cli import printable, run
from stfpm_runtime.errors import OptionError
from stfpm_runtime.options import DEVICES, MAX_MEGAPIXELS, SaveOnly

from .inspect import InspectOptions, inspect

if TYPE_CHECKING:
    from stfpm_runtime.line.config.server import ServerOptions

COMMAND = "stfpm-inspect"
CONFIG_FLAGS = ("config", "check", "preview", "json_logs", "dashboard", "shadow", "teach")
"""The flags that go with --config."""
LINE_FLAGS = ("model", "source", "journal", "threshold", "device", "threads", "json_logs", "dashboard", "shadow",
              "allow_missing_golden")  # fmt: skip
"""The flags that go with --journal."""
TOKEN = "STFPM_DASHBOARD_TOKEN"
"""Environment variable that holds the dashboard's token: a command line can be read by others."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `argv` is without the command's name."""
    parser = _parser()
    args = parser.parse_intermixed_args(argv)
    if args.paths and args.source:
        parser.error("got paths with and without --source: expected all of them in one place")
    args.source = args.paths or args.source
    del args.paths
    _check_flags(parser, args)
    if args.init:
        return run(COMMAND, lambda: _write_config(args.init))
    if args.check:
        return run(COMMAND, lambda: _check_line(args.config, args.preview))
    if args.config or args.journal:
        return run(COMMAND, lambda: _run_line(args))
    names = {field.name for field in dataclasses.fields(InspectOptions)} & set(vars(args))
    options = InspectOptions(sources=tuple(args.source), **{name: getattr(args, name) for name in names})
    return run(COMMAND, lambda: inspect(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Inspect pictures, videos and cameras with a model.",
        epilog="examples: stfpm-inspect bottle.onnx parts/ --save overlays; stfpm-inspect --config line3.toml",
    )
    parser.add_argument("model", type=Path, nargs="?", help="the model.onnx or .engine that stfpm-export wrote")
    parser.add_argument("paths", nargs="*", default=[], metavar="PATH", help="the same as --source PATH")
    parser.add_argument("--config", type=Path, metavar="FILE", help="run a line from this TOML file until SIGTERM")
    parser.add_argument("--init", type=Path, metavar="FILE", help="ask what a line needs, and write its TOML file")
    parser.add_argument("--check", action="store_true",
        help="with --config: name all mistakes of the file, try model, cameras and outputs once, and end")  # fmt: skip
    parser.add_argument("--preview", type=Path, metavar="DIR",
        help="with --check: save a frame of each camera there, with its regions and their maps")  # fmt: skip
    parser.add_argument(
        "--journal", type=Path, metavar="FILE", help="run each source as one camera of a line, and write this journal"
    )
    parser.add_argument("--json-logs", action="store_true", help="with --config or --journal: write log lines as JSON")
    parser.add_argument(
        "--dashboard", nargs="?", const="", metavar="HOST:PORT",
        help="with --config or --journal: serve the dashboard and its API (default: 127.0.0.1:8766); "
        f"the token is in {TOKEN}",
    )  # fmt: skip
    parser.add_argument("--teach", action="store_true",
        help="with --config: run also while the model does not exist yet, to train it on the page Setup")  # fmt: skip
    parser.add_argument("--shadow", type=Path, metavar="MODEL",
        help="with --config or --journal: also run this second model on all frames")  # fmt: skip
    parser.add_argument(
        "--source", nargs="+", metavar="PATH", help="pictures, videos, folders, glob patterns in quotes, or cameras"
    )
    parser.add_argument("--json", type=Path, metavar="FILE",
        help="write the verdicts to this file as lines of JSON; -: to stdout, also on a terminal")  # fmt: skip
    parser.add_argument(
        "--save", type=Path, metavar="DIR", help="draw each verdict on its frame, and save the pictures in this folder"
    )
    parser.add_argument(
        "--device", default="auto", choices=DEVICES, help="the engine that runs the model (default: auto)"
    )
    parser.add_argument("--save-only", choices=get_args(SaveOnly),
        help="save only pictures with this decision; reject means all that did not pass, faults included")  # fmt: skip
    parser.add_argument(
        "--threshold", type=float, metavar="X", help="reject scores above X, not above the threshold of the model"
    )
    parser.add_argument(
        "--allow-missing-golden", action="store_true",
        help="run a model without its .golden.npz file; its results are then not verified on this machine",
    )  # fmt: skip
    parser.add_argument("--rebuild", action="store_true",
        help="if a plan was built on another machine, build it again from its ONNX file")  # fmt: skip
    parser.add_argument(
        "--threads", type=_positive, metavar="N", help="the number of threads (default: the engine chooses)"
    )
    parser.add_argument("--batch-size", type=_positive, default=1, metavar="N",
        help="the number of frames in one run of the engine (default: 1)")  # fmt: skip
    parser.add_argument(
        "--bits", type=int, metavar="N", help="the number of bits that 16-bit pictures use (default: as in the model)"
    )
    parser.add_argument(
        "--max-megapixels", type=float, default=MAX_MEGAPIXELS, metavar="X",
        help=f"refuse pictures with more than X million pixels (default: {MAX_MEGAPIXELS:g})",
    )  # fmt: skip
    parser.add_argument("--limit", type=_positive, metavar="N", help="stop after N frames")
    return parser


def _check_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exit with 2 where flags are missing or contradict each other."""
    if args.init:
        _refuse(parser, args, "--init", ("init",))
        return
    if args.config:
        _refuse(parser, args, "--config", CONFIG_FLAGS)
        if args.preview and not args.check:
            parser.error("--preview goes with --check")
        return
    if args.check or args.preview or args.teach:
        parser.error("--check, --preview and --teach go with --config")
    if args.model is None or args.source is None:
        parser.error("expected a model.onnx and pictures, or --config line.toml")
    if args.journal:
        _refuse(parser, args, "--journal", LINE_FLAGS)
        return
    for flag, value in (("--json-logs", args.json_logs), ("--dashboard", args.dashboard), ("--shadow", args.shadow)):
        if value is not None and value is not False:
            parser.error(f"{flag} without --config or --journal: it is for a line of cameras")
    if args.save_only and not args.save:
        parser.error("--save-only without --save: expected --save DIR, the folder for the overlays")


def _refuse(parser: argparse.ArgumentParser, args: argparse.Namespace, flag: str, allowed: Sequence[str]) -> None:
    """Exit with 2 if a flag is given that is not among the allowed ones."""
    given = [name for name, value in vars(args).items() if value != parser.get_default(name) and name not in allowed]
    if given:
        names = ", ".join(name if name == "model" else f"--{name.replace('_', '-')}" for name in given)
        parser.error(f"{flag} with {names}: they do not go together")


def _run_line(args: argparse.Namespace) -> int:
    """Run a line. Its modules are imported here: an inspection of files needs no journal."""
    from stfpm_runtime.line.config.line import line_of, read_config
    from stfpm_runtime.line.observers.logs import log_to_stderr
    from stfpm_runtime.line.service import RESTART, serve

    log_to_stderr(args.json_logs)
    if args.config:
        line = read_config(args.config)
    else:
        line = line_of(args.model, args.source, args.journal)
        names = ("threshold", "device", "threads", "allow_missing_golden")
        line = dataclasses.replace(line, **{name: getattr(args, name) for name in names})
    if args.shadow:
        line = dataclasses.replace(line, shadow=args.shadow)
    if args.dashboard is not None:
        line = dataclasses.replace(line, dashboard=_dashboard(line.dashboard, args.dashboard))
    code = serve(line, config=args.config, teach=args.teach)
    if code == RESTART:  # the same command in the same process, so that systemd sees no stop
        os.closerange(3, 65_536)  # what a driver left open would keep its camera busy
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    return code


def _write_config(path: Path) -> int:
    from stfpm_runtime.commissioning.new_config import write_config

    write_config(path, lambda question: input(question).strip(), print)
    return 0


def _check_line(config: Path, preview: Path | None) -> int:
    from stfpm_runtime.commissioning.check import check_line

    check_line(config, preview, lambda line: print(printable(line), flush=True))
    return 0


def _dashboard(table: ServerOptions | None, listen: str) -> ServerOptions:
    """Return the options of the table [dashboard], changed by the command line and the environment."""
    from stfpm_runtime.line.config.server import ServerOptions
    from stfpm_runtime.line.config.toml_file import MistakeError

    table = table or ServerOptions()
    try:
        token = os.environ.get(TOKEN) or table.token
        return dataclasses.replace(table, listen=listen or table.listen, token=token)
    except MistakeError as mistake:
        raise OptionError(f"--dashboard: {mistake}, or the environment variable {TOKEN}") from None


def _positive(text: str) -> int:
    """Return an argument that is a whole number of 1 or more. Raises ArgumentTypeError for another one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of 1 or more")
    return int(text)
