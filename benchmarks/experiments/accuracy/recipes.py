"""Compare recipes on products with known defects: train, export, and measure the exported file, several seeds each.

    python -m benchmarks.experiments.accuracy.recipes DATA... --recipes paper,plus --seeds 3 --json FILE

Each run is written to FILE as it ends; runs that are there already are not made again. The defects only compare
recipes: nothing in a training sees them.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stfpm_edge.checkpoint import resume_path
from stfpm_edge.cli import TerminalReporter
from stfpm_edge.networks import BACKBONES, default_blocks
from stfpm_edge.options import TrainOptions, parse_size
from stfpm_edge.recipes import RECIPES
from stfpm_edge.train import train_student
from stfpm_eval.data import read_category
from stfpm_eval.evaluate import evaluate
from stfpm_export.export import ExportOptions, export_checkpoint
from stfpm_export.target import PRECISIONS
from stfpm_runtime.cli import run
from stfpm_runtime.engines import open_engine
from stfpm_runtime.errors import OptionError
from stfpm_runtime.files import atomic_path
from stfpm_runtime.machine import describe_machine

COMMAND = "python -m benchmarks.experiments.accuracy.recipes DATA... --recipes R,... --seeds N --json FILE"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.accuracy.recipes", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("data", type=Path, nargs="+", help="a category with train/good, test and ground_truth")
    add("--recipes", default="paper,plus", metavar="R,...", help=f"of {', '.join(RECIPES)} (paper,plus)")
    add("--seeds", type=int, default=3, metavar="N", help="trainings of each product by each recipe (3)")
    add("--size", default="256", metavar="SIDE|WxH", help="the input's size in pixels (256)")
    add("--backbone", default="resnet18", choices=BACKBONES, metavar="NAME", help="the network (resnet18)")
    add("--epochs", type=int, metavar="N", help="the number of epochs (the recipe's)")
    add("--precision", default="fp32", choices=PRECISIONS, help="the precision of the exported file (fp32)")
    add("--teacher", default="imagenet", help="as stfpm-train takes it (imagenet)")
    add("--false-alarm-rate", type=float, default=0.05, help="the promised rate (0.05)")
    add("--mixed-precision", action="store_true", help="train in bfloat16")
    add("--keep", type=Path, metavar="FOLDER", help="keep the trained and exported files there")
    add("--json", type=Path, required=True, metavar="FILE", help="the record of all runs")
    arguments = parser.parse_args(argv)
    return run("recipes", lambda: _compare(arguments))


def _compare(arguments: argparse.Namespace) -> int:
    names = arguments.recipes.split(",")
    if unknown := sorted(set(names) - set(RECIPES)):
        raise OptionError(f"got --recipes {','.join(unknown)}; expected some of {', '.join(RECIPES)}")
    for seed in range(arguments.seeds):
        for data in arguments.data:
            for name in names:
                key = {"product": data.name, "recipe": name, "seed": seed, "size": arguments.size,
                       "backbone": arguments.backbone, "teacher": Path(arguments.teacher).name,
                       "precision": arguments.precision}  # fmt: skip
                runs = _read(arguments.json)
                if not any(key.items() <= one.items() for one in runs):
                    _write([*runs, key | _run(data, name, seed, arguments)], arguments.json)
    return 0


def _run(data: Path, recipe: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one training, measured on its exported file."""
    width, height = parse_size(arguments.size)
    chosen = RECIPES[recipe]
    if arguments.epochs:
        chosen = dataclasses.replace(chosen, epochs=arguments.epochs, least_steps=0)
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint, exported = (
            folder / f"{data.name}-{recipe}-{arguments.backbone}-{arguments.size}-{arguments.precision}-{seed}.{suffix}"
            for suffix in ("safetensors", "onnx")
        )
        options = TrainOptions(
            data, checkpoint, arguments.teacher, arguments.backbone, default_blocks(arguments.backbone),
            height=height, width=width, recipe=chosen, seed=seed, false_alarm_rate=arguments.false_alarm_rate,
            mixed_precision=arguments.mixed_precision, accept_data=True, resume=resume_path(checkpoint).exists(),
        )  # fmt: skip
        with TerminalReporter() as reporter:
            spec = train_student(options, reporter).spec
        export = ExportOptions(checkpoint, exported, precision=arguments.precision, allow_parity_loss=True)
        export_checkpoint(export, lambda line: print(line, file=sys.stderr))
        with contextlib.closing(open_engine(exported, "cpu")) as engine:
            figures = evaluate(engine, read_category(data))
    record: dict[str, Any] = {
        "image_auroc": round(figures.image_auroc, 4),
        "pixel_auroc": figures.pixel_auroc and round(figures.pixel_auroc, 4),
        "pro": figures.pro and round(figures.pro, 4),
        "missed": figures.missed, "defective": figures.defective_images,
        "false_alarms": figures.false_alarms, "good": figures.normal_images,
        "promised_false_alarm_rate": spec.false_alarm_rate,
        "calibration_images": len(spec.held_out_scores),
    }  # fmt: skip
    for part in ("head", "synthetic_defects"):
        if part in spec.training:
            record[part] = {k: v for k, v in spec.training[part].items() if k != "by_kind_and_size"}
    return record | {"epochs": spec.training["epochs"], "training_seconds": spec.training["seconds"]}


def _read(path: Path) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else []
    return runs


def _write(runs: list[dict[str, Any]], path: Path) -> None:
    record = {"schema": 1, "command": COMMAND, "machine": dataclasses.asdict(describe_machine()), "runs": runs}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
