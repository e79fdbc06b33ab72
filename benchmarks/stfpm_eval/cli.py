"""`stfpm-eval`: the accuracy of a checkpoint or an exported model on labelled images."""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stfpm_runtime.cli import run
from stfpm_runtime.errors import DataError, OptionError
from stfpm_runtime.files import atomic_path, check_writable, sha256

from .data import find_categories
from .models import open_model

if TYPE_CHECKING:
    from .report import Report

STDOUT = Path("-")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.must_reject or arguments.must_pass:
        if arguments.data is not None or arguments.skip_unreadable:
            parser.error("--must-reject and --must-pass go without DATA and --skip-unreadable")
        return run("stfpm-eval", lambda: _gate(arguments))
    if arguments.data is None or arguments.against is not None or arguments.save is not None:
        parser.error("expected DATA, or --must-reject and --must-pass, with which --against and --save go")
    names = ("model", "data", "json", "skip_unreadable")
    return run("stfpm-eval", lambda: _eval(**{name: getattr(arguments, name) for name in names}))


def evaluate_model(model_path: Path, data: Path) -> Report:
    """Return the report of a model file on all categories of the data; show a bar on stderr where that is a terminal.

    Raises a StfpmError for a model or data that cannot be used. Images that cannot be read are listed in the report.
    """
    from .evaluate import evaluate
    from .report import Model, Report, image_bar

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


def _eval(model: Path, data: Path, json: Path | None, skip_unreadable: bool) -> int:
    if json not in (None, STDOUT):
        check_writable(json, (model,))
    report = evaluate_model(model, data)
    unreadable = [
        f"{result.name}/{one.image}: {one.reason}" for result in report.categories for one in result.unreadable
    ]
    for line in unreadable:
        print(f"stfpm-eval: {'skipped' if skip_unreadable else 'unreadable'}: {line}", file=sys.stderr)
    if unreadable and not skip_unreadable:
        raise DataError(
            f"{len(unreadable)} pictures of {data} cannot be read, they are named above; "
            "repair or remove them, or leave them out of the figures with --skip-unreadable"
        )
    if json == STDOUT:
        print(report.to_json())
        return 0
    if json is not None:
        with atomic_path(json) as unfinished:
            unfinished.write_text(report.to_json() + "\n", encoding="utf-8")
    from .report import print_table

    print_table(report)
    return 0


def _gate(arguments: argparse.Namespace) -> int:
    from .gate import GateOptions, pass_gate

    if arguments.json == STDOUT:
        raise OptionError("got --json without a file; expected --json FILE with --must-reject and --must-pass")
    fields = {name: getattr(arguments, name) for name in ("model", "against", "json", "save")}
    pass_gate(GateOptions(must_reject=tuple(arguments.must_reject), must_pass=tuple(arguments.must_pass), **fields))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stfpm-eval",
        description="Measure image AUROC, pixel AUROC and PRO (up to a false-positive rate of 0.3) of a model file, "
        "and how many defective images its threshold misses and how many good ones it rejects. With --must-reject and "
        "--must-pass, decide whether the model may take another's place.",
        epilog="example: stfpm-eval new.onnx --must-reject known_defects --must-pass good --against old.onnx",
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="a .safetensors checkpoint, or an exported .onnx")
    add("data", type=Path, metavar="DATA", nargs="?",
        help="an MVTec-style category with test/ and ground_truth/, or a folder of categories")  # fmt: skip
    add("--json", nargs="?", type=Path, const=STDOUT, metavar="FILE",
        help="write the report as JSON: to FILE, or to stdout instead of the table")  # fmt: skip
    add("--must-reject", nargs="+", default=[], metavar="PATH",
        help="pictures of known defects: exit with 1 where the model passes one")  # fmt: skip
    add("--must-pass", nargs="+", default=[], metavar="PATH",
        help="pictures of good parts: exit with 1 where it rejects too many of them")  # fmt: skip
    add("--against", type=Path, metavar="OLD", help="the model whose place is taken, to compare with")
    add("--save", type=Path, metavar="DIR",
        help="save what is decided differently or wrongly, the old model's left, the new one's right")  # fmt: skip
    add("--skip-unreadable", action="store_true", help="leave out pictures that cannot be read, do not stop at them")
    return parser


if __name__ == "__main__":
    sys.exit(main())
