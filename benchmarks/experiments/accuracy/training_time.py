"""Measure how long the recipe `plus` trains until it reaches the validation error of the recipe `paper`.

    OMP_NUM_THREADS=1 python -m benchmarks.experiments.accuracy.training_time DATA --teacher FILE --json FILE

The validation error is the paper's loss on the validation images, the same for both recipes. `plus` is trained anew for
each number of epochs, because its schedule depends on it. The time is the processor time of the epochs, which other
programs on the machine disturb least.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stfpm_edge.checkpoint import Checkpoint
from stfpm_edge.epochs import SilentReporter
from stfpm_edge.model import distance, loss, normalise_images, unit
from stfpm_edge.options import TrainOptions
from stfpm_edge.pictures.data import find_good_images, read_images, split_images
from stfpm_edge.recipes import PAPER, PLUS, Recipe
from stfpm_edge.train import train_student
from stfpm_runtime.cli import run
from stfpm_runtime.files import atomic_path
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.machine import describe_machine

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.experiments.accuracy.training_time DATA --teacher FILE --json FILE"
SIDE = 256
BATCH = 16


class Clock(SilentReporter):
    """Notes the processor time after each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Note the time of an epoch, and of the teacher's features before the first."""
        if stage == "student" or (stage == "teacher" and done == total):
            self.seconds.append(time.process_time())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.accuracy.training_time", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("data", type=Path, help="a category with train/good")
    add("--teacher", default="imagenet", help="as stfpm-train takes it (imagenet)")
    add("--epochs", type=int, nargs="+", default=[10, 15, 20, 30], metavar="N", help="of plus (10 15 20 30)")
    add("--paper-epochs", type=int, default=PAPER.epochs, metavar="N", help=f"of paper ({PAPER.epochs})")
    add("--json", type=Path, required=True, metavar="FILE", help="the figures")
    arguments = parser.parse_args(argv)
    return run("training_time", lambda: _compare(arguments))


def _compare(arguments: argparse.Namespace) -> int:
    paths = find_good_images(arguments.data)
    images, _ = read_images(paths, SIDE, SIDE, skip_unreadable=False, report=print)
    validation = images[split_images(len(images), 0.2, 1.0, seed=0).validation]
    recipes = [dataclasses.replace(PAPER, epochs=arguments.paper_epochs)]
    recipes += [dataclasses.replace(PLUS, epochs=epochs, least_steps=0) for epochs in arguments.epochs]
    rows = [_train(arguments, recipe, validation) for recipe in recipes]
    reached = [row for row in rows[1:] if row["validation_error"] <= rows[0]["validation_error"]]
    record = {
        "schema": 1, "command": COMMAND, "machine": dataclasses.asdict(describe_machine()),
        "product": arguments.data.name, "rows": rows,
        "ratio": round(min(row["seconds"] for row in reached) / rows[0]["seconds"], 3) if reached else None,
        "ratio_to_the_best_epoch_of_paper":
            round(min(row["seconds"] for row in reached) / rows[0]["seconds_to_best"], 3) if reached else None,
    }  # fmt: skip
    with atomic_path(arguments.json) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


def _train(arguments: argparse.Namespace, recipe: Recipe, validation: Image) -> dict[str, Any]:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        options = TrainOptions(
            arguments.data, Path(folder) / "model.safetensors", arguments.teacher, height=SIDE, width=SIDE,
            recipe=recipe, mixed_precision=True, accept_data=True, folds=0,
        )  # fmt: skip
        checkpoint = train_student(options, clock)
    best = int(checkpoint.spec.training["best_epoch"])
    row = {
        "recipe": recipe.name, "epochs": recipe.epochs, "best_epoch": best,
        "validation_error": round(validation_error(checkpoint, validation), 5),
        "seconds": round(clock.seconds[-1] - clock.seconds[0], 1),
        "seconds_to_best": round(clock.seconds[best] - clock.seconds[0], 1),
    }  # fmt: skip
    print(json.dumps(row), file=sys.stderr)
    return row


@torch.inference_mode()
def validation_error(checkpoint: Checkpoint, images: Image) -> float:
    """Return the paper's loss on images uint8 [N, H, W, 3], in float32."""
    errors = []
    for start in range(0, len(images), BATCH):
        x = normalise_images(torch.from_numpy(images[start : start + BATCH]))
        pairs = zip(checkpoint.teacher(x), checkpoint.student(x), strict=True)
        value = loss([distance(unit(one), unit(other)) for one, other in pairs], (1.0,) * len(checkpoint.spec.blocks))
        errors += [value.item()] * len(x)
    return float(np.mean(errors))


if __name__ == "__main__":
    sys.exit(main())
