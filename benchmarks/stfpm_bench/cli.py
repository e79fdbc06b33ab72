"""`stfpm-bench`: latency, memory, parity and accuracy of model files, and what got worse since an earlier run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stfpm_eval.models import requires_extra
from stfpm_runtime.cli import run
from stfpm_runtime.errors import OptionError, ParityError, StfpmError
from stfpm_runtime.files import atomic_path, check_writable

if TYPE_CHECKING:
    from .options import BenchOptions


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    return run("stfpm-bench", lambda: _compare(arguments) if arguments.compare else _bench(arguments))


def _bench(arguments: argparse.Namespace) -> int:
    with requires_extra("bench"):
        from .report.page import to_html
        from .report.text import print_report, to_markdown
        from .results import BenchReport
        from .run import bench

    options = _options(arguments)
    writers = {options.json: BenchReport.to_json, options.markdown: to_markdown, options.html: to_html}
    outputs = {path: writer for path, writer in writers.items() if path is not None}
    for path in outputs:
        check_writable(path, options.models)
    report = bench(options, lambda line: print(f"stfpm-bench: {line}", file=sys.stderr))
    for path, writer in outputs.items():
        with atomic_path(path) as unfinished:
            unfinished.write_text(writer(report).rstrip("\n") + "\n", encoding="utf-8")
    print_report(report)
    if report.interrupted:
        raise KeyboardInterrupt  # gives its exit code; what was measured is printed and written
    if broken := [model.name for model in report.models if model.parity and not model.parity.holds]:
        raise ParityError(f"{', '.join(broken)}: further from PyTorch than allowed, see above; export again")
    if report.noise and not options.allow_noise:
        raise StfpmError(
            f"this machine is too noisy to measure on: {report.noise[0]}. The figures are written and marked; "
            "stop what else runs, give it --time, or accept them with --allow-noise"
        )
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    with requires_extra("bench"):
        from .compare import compare
        from .report.text import print_comparison
        from .results import load_report

    if arguments.models:
        raise OptionError("got models and --compare; expected one or the other, measure with --json first")
    comparison = compare(*map(load_report, arguments.compare))
    print_comparison(comparison)
    if comparison.worse:
        first = comparison.worse[0]
        raise StfpmError(
            f"{len(comparison.worse)} figures got worse, first {first.figure} of {first.model}: "
            f"{first.before}, now {first.after}; see the table above"
        )
    return 0


def _options(arguments: argparse.Namespace) -> BenchOptions:
    from .options import BenchOptions
    from .session import Plan

    values = vars(arguments).copy()
    del values["compare"]
    if not arguments.models:
        raise OptionError("got no model; expected one or more files, or --compare OLD NEW")
    plan = Plan(
        time_limit_s=values.pop("time"),
        cold_starts=values.pop("cold_starts"),
        idle_s=_numbers(values.pop("idle"), "--idle"),
        batches=tuple(map(int, _numbers(values.pop("batches"), "--batches"))),
    )
    frame = _frame(values.pop("frame"))
    return BenchOptions(**values | {"models": tuple(arguments.models), "plan": plan, "frame": frame})


def _frame(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() for side in sides) or min(map(int, sides)) < 8:
        raise OptionError(f"got --frame {text}; expected WIDTHxHEIGHT of 8 pixels or more, say 1280x720")
    return int(sides[0]), int(sides[1])


def _numbers(text: str, flag: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise OptionError(f"got {flag} {text}; expected numbers with commas, or '' for none") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stfpm-bench",
        description="Measure latency from a frame to its decision, start time, memory, agreement with PyTorch "
        "and accuracy of model files. Each file runs in its own process, and the files take turns. The exit code is 1 "
        "if a file disagrees with PyTorch, a result got worse, or the machine is too noisy.",
    )
    add = parser.add_argument
    add("models", type=Path, nargs="*", metavar="MODEL",
        help="an .onnx or .engine file, or a .safetensors file, which PyTorch runs")  # fmt: skip
    add("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"),
        help="show what got worse between two files that --json wrote")  # fmt: skip
    add("--parity", action="store_true", help="compare with the golden results of PyTorch, which lie next to each file")
    add("--checkpoint", type=Path, metavar="FILE", help="compare with PyTorch, which runs this .safetensors file")
    add("--data", type=Path, help="labelled images; measure image AUROC, pixel AUROC and PRO of each MODEL on them")
    add("--roofline", action="store_true", help="compare each group of layers with the limit of this machine")
    add("--device", default="auto", help="the device, as for stfpm-inspect (default: auto)")
    add("--threads", type=int, metavar="N", help="the number of threads for one frame (default: the engine chooses)")
    add("--frame", default="1280x720", metavar="WxH",
        help="the size of the camera's frame in pixels (default: 1280x720)")  # fmt: skip
    add("--time", type=float, default=60.0, metavar="SECONDS",
        help="the longest time for latencies; end earlier if each p50 is known to 2%% (default: 60)")  # fmt: skip
    add("--batches", default="1,2,4,8", metavar="N,N",
        help="the batch sizes for which throughput is measured (default: 1,2,4,8)")  # fmt: skip
    add("--idle", default="1,10", metavar="S,S",
        help="the pauses in seconds before a single frame (default: 1,10; '' for none)")  # fmt: skip
    add("--cold-starts", type=int, default=5, metavar="N",
        help="the number of processes that measure the cold start (default: 5)")  # fmt: skip
    add("--allow-noise", action="store_true",
        help="exit with 0 even if the machine is too noisy; the report is still marked")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write the results for --compare and other programs")
    add("--markdown", type=Path, metavar="FILE", help="write the report as Markdown")
    add("--html", type=Path, metavar="FILE", help="write the report as one HTML page with charts")
    return parser


if __name__ == "__main__":
    sys.exit(main())
