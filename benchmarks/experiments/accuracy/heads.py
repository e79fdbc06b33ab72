"""Compare the heads of the recipe `plus` on products with known defects, from checkpoints that were trained by it.

    python -m benchmarks.experiments.accuracy.heads CHECKPOINT=DATA... --json FILE

For each head: the image AUROC, and the share missed at a threshold that 5% of the held-out good images exceed at most.
`leave_one_out` takes the head with the highest mean AUROC over the other products, and compares it with the head that
`stfpm-train` chose for the product itself, which saw no defect.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from stfpm_edge.calibration.head import CHOICES, HeadChoice, auroc, score_heads
from stfpm_edge.checkpoint import Checkpoint, load_checkpoint
from stfpm_eval.data import GOOD, read_category
from stfpm_runtime.artifact.conformal import conformal_threshold
from stfpm_runtime.cli import run
from stfpm_runtime.errors import OptionError
from stfpm_runtime.files import atomic_path
from stfpm_runtime.imaging.images import read_image
from stfpm_runtime.imaging.preprocessing import preprocess
from stfpm_runtime.machine import describe_machine

PAPER = HeadChoice(None, None)
HEADS = (*CHOICES, PAPER)
RATE = 0.05
COMMAND = "python -m benchmarks.experiments.accuracy.heads CHECKPOINT=DATA... --json FILE"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.accuracy.heads", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("pairs", nargs="+", metavar="CHECKPOINT=DATA", help="a checkpoint, and its product's category")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="the figures")
    arguments = parser.parse_args(argv)
    return run("heads", lambda: _compare(arguments))


def _compare(arguments: argparse.Namespace) -> int:
    products: dict[str, dict[str, Any]] = {}
    for pair in arguments.pairs:
        checkpoint, data = checkpoint_and_data(pair)
        products[data.name] = measure_heads(load_checkpoint(checkpoint), data)
        print(data.name, json.dumps(products[data.name], indent=1), file=sys.stderr)
    record = {
        "schema": 1, "command": COMMAND, "machine": dataclasses.asdict(describe_machine()),
        "products": products, "leave_one_out": leave_one_out(products),
    }  # fmt: skip
    with atomic_path(arguments.json) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


def checkpoint_and_data(pair: str) -> tuple[Path, Path]:
    """Return the two paths of CHECKPOINT=DATA. Raises OptionError for another text."""
    checkpoint, _, data = pair.partition("=")
    if not data:
        raise OptionError(f"got {pair}; expected CHECKPOINT=DATA")
    return Path(checkpoint), Path(data)


def measure_heads(checkpoint: Checkpoint, data: Path) -> dict[str, Any]:
    """Return the head that the training chose, and the image AUROC and the share missed of each head by its name."""
    spec = checkpoint.spec
    samples = read_category(data).samples
    images = np.stack([preprocess(read_image(sample.image), spec.height, spec.width) for sample in samples])
    is_good = np.array([sample.kind == GOOD for sample in samples])
    model, train = checkpoint.model(), np.stack(checkpoint.train_images)
    tested = score_heads(model, HEADS, train, images)
    held_out = score_heads(model, HEADS, train, np.stack(checkpoint.held_out_images or checkpoint.train_images))
    heads = {}
    for choice, scores, own in zip(HEADS, tested, held_out, strict=True):
        threshold = conformal_threshold(own.tolist(), RATE).value
        heads[str(choice)] = {
            "image_auroc": round(auroc(scores[is_good], scores[~is_good]), 4),
            "missed": round(float(np.mean(scores[~is_good] <= threshold)), 4),
            "false_alarms": round(float(np.mean(scores[is_good] > threshold)), 4),
        }
    return {"chosen": spec.training["head"]["chosen"], "heads": heads}


def leave_one_out(products: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, for each product, the head that is best on the others, its AUROC there, and that of the chosen head."""
    return {name: dict(_left_out(products, name)) for name in products if len(products) > 1}


def _left_out(products: dict[str, dict[str, Any]], name: str) -> Iterator[tuple[str, object]]:
    others = [one["heads"] for other, one in products.items() if other != name]
    heads = products[name]["heads"]
    best = max(map(str, CHOICES), key=lambda head: fmean(one[head]["image_auroc"] for one in others))
    yield "best_on_the_others", best
    yield "its_image_auroc", heads[best]["image_auroc"]
    yield "chosen_by_synthetic_defects", products[name]["chosen"]
    yield "chosen_image_auroc", heads[products[name]["chosen"]]["image_auroc"]
    yield "paper_image_auroc", heads[str(PAPER)]["image_auroc"]


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main())
