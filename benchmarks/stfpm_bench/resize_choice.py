"""Which shrink is ours: candidates by speed, and by what a student trained with each detects.

    python -m stfpm_bench.resize_choice DATA... --teacher PATH --json benchmarks/results/resize_choice.json

The choice is made once and pinned (`stfpm_runtime.preprocessing.shrink`); this is how it was made.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np

from stfpm_edge.options import TrainOptions
from stfpm_edge.torch_engine import TorchEngine
from stfpm_edge.training import train
from stfpm_runtime import preprocessing as house
from stfpm_runtime.cli import run
from stfpm_runtime.preprocessing import Image

from .dataset import find_categories
from .evaluation import evaluate

Shrink = Callable[[Image, int, int], Image]
FRAMES = ((450, 450), (640, 480), (1280, 720), (1920, 1080), (2448, 2048))
"""(width, height) of the frames that are timed."""
REPEATS = 200


def area(image: Image, height: int, width: int) -> Image:
    """OpenCV's area mean: antialiased, and slow."""
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def linear(image: Image, height: int, width: int) -> Image:
    """OpenCV's bilinear: fast, and aliased."""
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


CANDIDATES: dict[str, Shrink] = {house.RESIZE: house.shrink, "INTER_AREA": area, "INTER_LINEAR": linear}


def time_candidates() -> list[dict[str, Any]]:
    """Median times to 256x256 on one thread, the candidates interleaved."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    rows = []
    for width, height in FRAMES:
        frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        times: dict[str, list[float]] = {name: [] for name in CANDIDATES}
        for _ in range(REPEATS):
            for name, shrink in CANDIDATES.items():
                started = time.perf_counter()
                shrink(frame, 256, 256)
                times[name].append((time.perf_counter() - started) * 1e3)
        rows.append(
            {"frame": f"{width}x{height}"} | {f"{n}_ms": round(statistics.median(t), 3) for n, t in times.items()}
        )
    cv2.setNumThreads(threads)
    return rows


class Quiet:
    """Progress that nobody wants to read."""

    def say(self, text: str) -> None:
        """Nothing."""

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Nothing."""


def score_candidate(data: Path, schedule: dict[str, Any]) -> dict[str, Any]:
    """Train on a category with the shrink in force, and evaluate with the same."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "model.safetensors"
        train(TrainOptions(data, output, accept_data=True, **schedule), Quiet())
        engine = TorchEngine(output)
        (category,) = find_categories(data)
        result = evaluate(engine, category)
    figures = {name: getattr(result, name) for name in ("image_auroc", "pixel_auroc", "pro")}
    return {name: None if value is None else round(value, 4) for name, value in figures.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stfpm_bench.resize_choice", description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="*", help="MVTec-style categories to train on and evaluate")
    parser.add_argument("--teacher", default="imagenet")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=4, help="small: as many steps as 96 epochs of 32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True, help="the results")
    arguments = parser.parse_args(argv)
    return run("resize_choice", lambda: _compare(arguments))


def _compare(arguments: argparse.Namespace) -> int:
    schedule = {name: getattr(arguments, name) for name in ("teacher", "epochs", "batch_size", "seed")}
    results: dict[str, Any] = {"schema": 1, **schedule, "teacher": Path(arguments.teacher).name}
    results["speed_to_256x256"] = time_candidates()
    results["accuracy"] = []
    for data in arguments.data:
        for name, shrink in CANDIDATES.items():
            with mock.patch.object(house, "shrink", shrink):
                figures = score_candidate(data, schedule)
            results["accuracy"].append({"data": data.name, "resize": name, **figures})
            print(results["accuracy"][-1], file=sys.stderr)
            arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
