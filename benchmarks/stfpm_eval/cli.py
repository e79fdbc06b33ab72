"""`stfpm-eval`: how accurate a checkpoint or an exported model is on labelled images."""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stfpm_runtime.cli import run
from stfpm_runtime.errors import DataError
from stfpm_runtime.files import atomic_path, check_writable, sha256

from .data import find_categories
from .models import open_model

if TYPE_CHECKING:
    from .report import Report

STDOUT = Path("-")


@dataclass(frozen=True)
class EvalOptions:
    """What to evaluate, and where the figures go."""

    model: Path
    """A .safetensors checkpoint, or a model file that `open_engine` knows."""
    data: Path
    """An MVTec-style category, or a folder of several."""
    json: Path | None = None
    """Where the JSON goes as well; `-` is stdout, in the table's place."""
    skip_unreadable: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = EvalOptions(**vars(_parser().parse_args(argv)))
    return run("stfpm-eval", lambda: _eval(options))


def evaluate_model(model_path: Path, data: Path) -> Report:
    """Evaluate a model file on all categories of the data, with a bar on stderr where that is a terminal.

    Raises a StfpmError for a model or data that cannot be used. Images that cannot be read are listed in the report.
    """
    from .evaluate import evaluate
    from .report import Model, Report
    from .terminal import image_bar

    categories = find_categories(data)
    results = []
    with (
        contextlib.closing(open_model(model_path)) as engine,
        image_bar(sum(len(category.samples) for category in categories)) as advance,
    ):
        spec = engine.spec
        model = Model(str(model_path), sha256(model_path), spec.name, spec.precision, engine.provider, spec.threshold)
        for category in categories:
            results.append(evaluate(engine, category, functools.partial(advance, category.name)))
    return Report(model, data.resolve().name, tuple(results))


def _eval(options: EvalOptions) -> int:
    if options.json not in (None, STDOUT):
        check_writable(options.json, (options.model,))
    report = evaluate_model(options.model, options.data)
    _check_read(report, options)
    if options.json == STDOUT:
        print(report.to_json())
        return 0
    if options.json is not None:
        with atomic_path(options.json) as unfinished:
            unfinished.write_text(report.to_json() + "\n", encoding="utf-8")
    from .terminal import print_table

    print_table(report)
    return 0


def _check_read(report: Report, options: EvalOptions) -> None:
    """Name on stderr what could not be read; a DataError unless it may be skipped."""
    unreadable = [
        f"{result.name}/{one.image}: {one.reason}" for result in report.categories for one in result.unreadable
    ]
    for line in unreadable:
        print(f"stfpm-eval: {'skipped' if options.skip_unreadable else 'unreadable'}: {line}", file=sys.stderr)
    if unreadable and not options.skip_unreadable:
        raise DataError(
            f"{len(unreadable)} pictures of {options.data} cannot be read, they are named above; "
            "mend or remove them, or leave them out of the figures with --skip-unreadable"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stfpm-eval",
        description="Image AUROC, pixel AUROC and PRO (up to a false-positive rate of 0.3) of a model file, "
        "and what its threshold misses or rejects for nothing.",
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="a .safetensors checkpoint, or an exported .onnx")
    add("data", type=Path, metavar="DATA", help="an MVTec-style category (test/, ground_truth/), or a folder of them")
    add("--json", nargs="?", type=Path, const=STDOUT, metavar="FILE",
        help="the figures as JSON: to FILE, or to stdout in the table's place")  # fmt: skip
    add("--skip-unreadable", action="store_true", help="leave out pictures that cannot be read instead of refusing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
