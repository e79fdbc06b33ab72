"""Measure how long a change of the recipe takes on a line that judges frames without a pause.

    python -m benchmarks.experiments.line.recipes FIRST.onnx SECOND.onnx --json FILE

Two recipes, whose models are loaded, are asked for by turns. A fake camera gives frames of
1280x720 pixels faster than they can be judged.
The figures:

    change            what the loop does between two frames: the change, operators' thresholds, drift
    change_cpu        the part of it in which the loop's thread had a core
    request_to_active from the request to the moment when the recipe is active: the frame in hand is judged first
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stfpm_runtime.cli import run
from stfpm_runtime.line import loop
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.config.recipe import RecipeOptions
from stfpm_runtime.line.config.storage import JournalOptions
from stfpm_runtime.line.models.active_model import first_model
from stfpm_runtime.line.service import open_line
from stfpm_runtime.machine import describe_machine
from stfpm_runtime.sources.base import OnEvent
from stfpm_runtime.sources.fake import FakeCamera

from .loop import picture, show_result

MODULE = "benchmarks.experiments.line.recipes"
PAUSE_S = 0.05
"""Between an active recipe and the next request, so that frames are judged by it, in seconds."""
BAR_MS = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", type=Path, nargs=2, metavar="MODEL", help=".onnx files that stfpm-export wrote")
    parser.add_argument("--changes", type=int, default=1000, metavar="N", help="of the recipe (1000)")
    parser.add_argument("--fps", type=float, default=100.0, help="frames a second that the camera gives (100)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args(argv)
    return run("recipes", lambda: _measure(arguments))


def _measure(arguments: argparse.Namespace) -> int:
    """Change the recipe again and again, and print the figures."""
    frame, stop = picture(), threading.Event()
    changes, computing, requests = [], [], []
    swap_model = loop._swap_model

    def timed_swap(line: loop.Line) -> None:
        before, start_s, begin_s = line.active_model, time.perf_counter(), time.thread_time()
        swap_model(line)
        if line.active_model is not before:
            changes.append((time.perf_counter() - start_s) * 1e3)
            computing.append((time.thread_time() - begin_s) * 1e3)

    def open_source(camera: CameraOptions, on_event: OnEvent) -> FakeCamera:
        return FakeCamera(lambda index: frame, fps=arguments.fps)

    def ask(line: loop.Line) -> None:
        recipes = line.recipes
        while len(recipes.loaded) < 2:
            time.sleep(0.01)
        for number in range(arguments.changes):
            time.sleep(PAUSE_S)
            start_s, version = time.perf_counter(), recipes.version
            recipes.request(1 + number % 2, "benchmark", "itself")
            while recipes.status.state != "active":
                version = recipes.wait_for_change(version, 1.0)
            requests.append((time.perf_counter() - start_s) * 1e3)
        stop.set()

    with tempfile.TemporaryDirectory() as folder:
        options = LineOptions(
            journal=JournalOptions(Path(folder) / "line.sqlite"),
            camera=(CameraOptions("fake", "0", frozen_after_s=0),),
            recipe=tuple(RecipeOptions(number, f"r{number}", path) for number, path in enumerate(arguments.models, 1)),
            threads=1,
        )
        loop._swap_model = timed_swap
        try:
            with open_line(options, first_model(options), open_source) as line:
                threading.Thread(target=ask, args=(line,), daemon=True).start()
                loop.run(line, stop)
                decisions = dict(line.summary.decisions)
        finally:
            loop._swap_model = swap_model
    result = {
        "schema": 1,
        "command": f"python -m {MODULE} FIRST.onnx SECOND.onnx --json FILE",
        "machine": dataclasses.asdict(describe_machine()),
        "changes": arguments.changes,
        "fps": arguments.fps,
        "decisions": decisions,
        "bar_ms": BAR_MS,
        "change": _figures(changes),
        "change_cpu": _figures(computing),
        "request_to_active": _figures(requests),
    }
    return show_result(result, arguments.json)


def _figures(values: Sequence[float]) -> dict[str, float]:
    """Return percentiles of times in milliseconds."""
    p50, p99, most = np.percentile(values, [50, 99, 100])
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3), "max_ms": round(float(most), 3)}


if __name__ == "__main__":
    sys.exit(main())
