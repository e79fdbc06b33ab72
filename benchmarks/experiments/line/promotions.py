"""Measure what verdicts pay while models are tried, judged by the gate and swapped: latency, and lost verdicts.

    python -m benchmarks.experiments.line.promotions MODEL --json FILE

One line runs with a fake camera of 1280x720 pixels at a third of the rate that it sustains. Quiet times and times in
which one swap follows the other take turns. The gate replays the newest pictures that the line has kept.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from stfpm_runtime.artifact.golden import golden_path, load_golden, save_golden
from stfpm_runtime.artifact.onnx_metadata import read_spec, replace_spec
from stfpm_runtime.cli import run
from stfpm_runtime.detector import Detector
from stfpm_runtime.engines import open_engine
from stfpm_runtime.files import sha256
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.config.storage import JournalOptions, PictureOptions, ReviewOptions
from stfpm_runtime.line.journal.models.states import new_command
from stfpm_runtime.line.journal.reader import JournalReader, Period
from stfpm_runtime.line.loop import Line
from stfpm_runtime.line.loop import run as run_loop
from stfpm_runtime.line.models.active_model import first_model
from stfpm_runtime.line.service import open_line
from stfpm_runtime.machine import describe_machine
from stfpm_runtime.sources.base import OnEvent
from stfpm_runtime.sources.fake import FakeCamera

from .loop import picture, show_result

TURNS = 8
"""Quiet times, and as many with swaps."""
QUIET_S = 20.0
REPLAY = 50


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.line.promotions", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("model", type=Path, help="a .onnx file that stfpm-export wrote")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the line's engine (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args(argv)
    return run("promotions", lambda: _measure(arguments))


def _measure(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as name:
        result = {
            "schema": 1, "command": "python -m benchmarks.experiments.line.promotions MODEL --json FILE",
            "machine": dataclasses.asdict(describe_machine()), "threads": arguments.threads,
            **measure(arguments.model, arguments.threads, Path(name)),
        }  # fmt: skip
    return show_result(result, arguments.json)


def measure(model: Path, threads: int, folder: Path) -> dict[str, object]:
    """Return latencies in quiet times and while models are swapped, and the verdicts that were lost."""
    first, second = folder / "first.onnx", folder / "second.onnx"
    shutil.copyfile(model, first)
    shutil.copyfile(golden_path(model), golden_path(first))
    spec = read_spec(first)
    second.write_bytes(replace_spec(first, dataclasses.replace(spec, threshold_set_by="a copy")))
    save_golden(dataclasses.replace(load_golden(golden_path(first)), sha256=sha256(second)), golden_path(second))
    frame = picture()
    with contextlib.closing(open_engine(first, threads=threads)) as engine:
        detector = Detector(engine)
        times = [_seconds(lambda: detector.inspect(frame)) for _ in range(20)]
    fps = 1 / (3 * float(np.median(times)))

    def open_source(camera: CameraOptions, on_event: OnEvent) -> FakeCamera:
        return FakeCamera(lambda index: frame, fps)

    options = LineOptions(
        model=first, journal=JournalOptions(folder / "line.sqlite"), camera=(CameraOptions("fake", "0"),),
        threads=threads, pictures=PictureOptions(folder / "pictures", save="all", overlay=False, format="jpeg"),
        review=ReviewOptions(replay=REPLAY),
    )  # fmt: skip
    stop, spans = threading.Event(), list[tuple[str, int, int]]()
    with open_line(options, first_model(options), open_source) as line:
        worker = threading.Thread(target=_act, args=(line, stop, (second.name, first.name), spans))
        worker.start()
        run_loop(line, stop)
        worker.join()
    with contextlib.closing(JournalReader(options.journal.path)) as journal:
        rows = list(journal.rows(Period()))
    lost = sum(row.frame != before.frame + 1 + row.dropped for before, row in itertools.pairwise(rows)
               if row.frame is not None and before.frame is not None)  # fmt: skip
    swaps = [(end_ns - start_ns) / 1e9 for kind, start_ns, end_ns in spans if kind == "swapping"]
    latencies: dict[str, list[float]] = {"quiet": [], "swapping": []}
    for row in rows:
        for kind, start_ns, end_ns in spans:
            if start_ns <= row.monotonic_ns < end_ns:
                latencies[kind].append(row.latency_ms)
    figures = {kind: dict(zip(("p50_ms", "p99_ms"), np.percentile(values, [50, 99]).round(2).tolist(), strict=True))
               | {"verdicts": len(values)} for kind, values in latencies.items()}  # fmt: skip
    return {
        "model": {"name": spec.name, "precision": spec.precision}, "frames_per_s": round(fps, 1), **figures,
        "swaps": len(swaps), "seconds_each": round(float(np.median(swaps)), 2), "replay": REPLAY,
        "p99_ratio": {"value": round(figures["swapping"]["p99_ms"] / figures["quiet"]["p99_ms"], 3), "bar": 1.2},
        "verdicts": len(rows), "dropped": sum(row.dropped for row in rows), "lost": lost,
        "faults": sum(row.decision == "fault" for row in rows),
    }  # fmt: skip


def _act(line: Line, stop: threading.Event, names: tuple[str, str], spans: list[tuple[str, int, int]]) -> None:
    """Let quiet times and swaps take turns, note when they were, and stop the line."""
    try:
        time.sleep(5.0)
        for turn in range(TURNS):
            started_ns = time.monotonic_ns()
            time.sleep(QUIET_S)
            quiet_ns = time.monotonic_ns()
            line.promotion.act(new_command("benchmark", "activate", names[turn % 2]))
            spans += [("quiet", started_ns, quiet_ns), ("swapping", quiet_ns, time.monotonic_ns())]
    finally:
        stop.set()


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
