"""Measure the inspection loop: latency, load, overhead, cold start, and a long run.

    python -m benchmarks.experiments.line.loop bottle_int8.onnx --json benchmarks/results/loop.json

Latency is from the frame's arrival to the row in the journal, on the disk (synchronous = full). The camera is a fake
of 1280x720 pixels, which costs no copying; regions, pictures and triggers are not in it, JSON lines are.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from stfpm_runtime.cli import run
from stfpm_runtime.detector import Detector
from stfpm_runtime.engines import Engine, open_engine
from stfpm_runtime.engines.fake import FakeEngine
from stfpm_runtime.files import atomic_path
from stfpm_runtime.imaging.preprocessing import Image, preprocess
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.config.storage import JournalOptions, PictureOptions
from stfpm_runtime.line.loop import Line
from stfpm_runtime.line.loop import run as run_loop
from stfpm_runtime.line.observers.base import KeptParts
from stfpm_runtime.line.observers.summary import Summary
from stfpm_runtime.line.service import open_line
from stfpm_runtime.machine import describe_machine
from stfpm_runtime.sources.base import OnEvent
from stfpm_runtime.sources.fake import FakeCamera
from stfpm_runtime.timing import time_by_turns

COMMAND = "import sys; from stfpm_runtime.batch.cli import main; sys.exit(main())"
TURNS = 10
"""Of everything that is compared, one after the other."""
WARM_UP = 20
"""Verdicts before the first that counts."""


class Stopwatch(Summary):
    """Record when each verdict was in the journal, and end the loop after `verdicts` of them."""

    def __init__(self, verdicts: int, stop: threading.Event, at: Callable[[int], None] | None = None) -> None:
        super().__init__()
        self.latencies_ms: list[float] = []
        self.ends_ns: list[int] = []
        self._verdicts = verdicts
        self._stop = stop
        self._at = at

    def observe(self, parts: KeptParts) -> None:
        """Measure the time from the frames' arrival until their rows are in the journal."""
        super().observe(parts)
        for _, row in parts:
            if self._at:
                self._at(self.total)
            else:
                now_ns = time.monotonic_ns()
                self.latencies_ms.append(row.latency_ms + (now_ns - row.monotonic_ns) / 1e6)
                self.ends_ns.append(now_ns)
        if self.total >= self._verdicts:
            self._stop.set()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.line.loop", description="How fast the inspection loop is."
    )
    parser.add_argument("model", type=Path, help="a .onnx file that stfpm-export wrote; int8 for the recorded results")
    parser.add_argument("--verdicts", type=int, default=1000, metavar="N", help="for each latency (1000)")
    parser.add_argument("--soak", type=int, default=100_000, metavar="N", help="frames of the soak (100000); 0: none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args(argv)
    return run("loop", lambda: _measure(arguments))


def _measure(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result: dict[str, object] = {
            "schema": 1,
            "command": "python -m benchmarks.experiments.line.loop MODEL --json FILE",
            "machine": dataclasses.asdict(describe_machine()),
            "cold_start": cold_start(arguments.model, folder / "cold"),
            **latency(arguments.model, arguments.verdicts, folder / "latency"),
        }
        if arguments.soak:
            result["soak"] = soak(arguments.model, arguments.soak, folder / "soak")
    return show_result(result, arguments.json)


def show_result(result: Mapping[str, object], path: Path | None) -> int:
    """Print a result as JSON, write it to `path` too if there is one, and return 0. Raises OutputError."""
    text = json.dumps(result, indent=1)
    print(text)
    if path:
        with atomic_path(path) as unfinished:
            unfinished.write_text(text + "\n", encoding="utf-8")
    return 0


def latency(model: Path, verdicts: int, folder: Path) -> dict[str, object]:
    """Measure bare inference, and the loop at a third of the rate that it sustains, and at three times that rate."""
    engine = open_engine(model)
    detector = Detector(engine)
    frame = picture()
    image = preprocess(frame, engine.spec.height, engine.spec.width)[None]
    bare_ms: list[list[float]] = []
    judged_ms: list[list[float]] = []
    overloaded: list[Stopwatch] = []
    unloaded: list[Stopwatch] = []
    for turn in range(TURNS):
        calls = (lambda: engine.infer(image)), (lambda: detector.inspect(frame))
        for all_ms, own_ms in zip((bare_ms, judged_ms), time_by_turns(calls, verdicts // TURNS), strict=True):
            all_ms.append(own_ms)
        sustainable = 1e3 / quietest(judged_ms)
        for fps, found in ((sustainable / 3, unloaded), (sustainable * 3, overloaded)):
            found.append(_loop(model, engine, frame, fps, verdicts // TURNS, folder / f"{turn}-{fps:.0f}"))
    engine.close()
    bare, period = quietest(bare_ms), quietest([_periods_ms(stopwatch) for stopwatch in overloaded])
    idle, busy = percentiles(unloaded), percentiles(overloaded)
    return {
        "model": {"name": engine.spec.name, "precision": engine.spec.precision, "provider": engine.provider},
        "frame": list(frame.shape),
        "bare_inference_ms": round(bare, 3),
        "preprocess_and_inference_ms": round(quietest(judged_ms), 3),
        "frames_per_s_sustained": round(1e3 / period, 1),
        "unloaded": {"load": "a third of the sustainable rate", **idle},
        "overloaded": {"load": "three times the sustainable rate", **busy},
        "p99_ratio": {"value": round(busy["p99_ms"] / idle["p99_ms"], 3), "bar": 2.0},
        "overhead_over_bare_inference": {"value": round(period / bare - 1, 4), "bar": 0.15},
        "overhead_over_preprocess_and_inference": round(period / quietest(judged_ms) - 1, 4),
    }


def soak(model: Path, frames: int, folder: Path) -> dict[str, object]:
    """Run the loop for `frames` frames with a fake engine; return memory and file descriptors at both ends."""
    marks: dict[int, tuple[float, int]] = {}

    def mark(total: int) -> None:
        if total in (1000, frames) or total % (frames // 10) == 0:
            marks[total] = _resident_mb(), len(list(Path("/proc/self/fd").iterdir()))

    real = open_engine(model)
    spec = real.spec
    real.close()
    good, bad = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)

    def paint(index: int) -> Image:
        return good if index % 100 else bad

    def open_source(camera: CameraOptions, on_event: OnEvent) -> FakeCamera:
        return FakeCamera(paint, fps=None, frames=frames, live=False)

    journal = JournalOptions(
        folder / "line.sqlite", max_mb=5.0, keep_days=1.0, json_lines=folder / "line.jsonl", json_lines_mb=5.0
    )
    options = _options(model, journal, PictureOptions(folder / "pictures", quota_mb=0.2, free_mb=0))
    stop = threading.Event()
    started = time.monotonic()
    with open_line(options, FakeEngine(spec, _answer), open_source) as line:
        run_loop(with_summary(line, Stopwatch(frames, stop, mark)), stop)
    first, last = marks[1000], marks[frames]
    return {
        "frames": frames,
        "frames_per_s": round(frames / (time.monotonic() - started)),
        "engine": "fake",
        "resident_mb": {str(total): round(megabytes, 2) for total, (megabytes, _) in sorted(marks.items())},
        "growth_mb": {"value": round(last[0] - first[0], 2), "bar": 5.0},
        "file_descriptors": {"after_1000": first[1], "after_all": last[1]},
        "written": {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()},
    }


def cold_start(model: Path, folder: Path, runs: int = 7) -> dict[str, object]:
    """Measure the time from the start of the process to the first row in the journal; the file cache is warm."""
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "part.png"), picture())
    config = folder / "line.toml"
    seconds = []
    for number in range(runs):
        config.write_text(
            f'model = "{model.absolute()}"\n[journal]\npath = "{number}.sqlite"\n'
            '[[camera]]\nname = "left"\nsource = "part.png"\n'
        )
        started_ns = time.monotonic_ns()
        argv = [sys.executable, "-c", COMMAND, "--config", str(config)]
        subprocess.run(argv, check=True, capture_output=True)
        seconds.append((_first_row_ns(folder / f"{number}.sqlite") - started_ns) / 1e9)
    return {"median_s": round(statistics.median(seconds), 3), "worst_s": round(max(seconds), 3), "bar_s": 1.0}


def _first_row_ns(journal: Path) -> int:
    from stfpm_runtime.line.journal.reader import JournalReader, Period

    reader = JournalReader(journal)
    row = next(reader.rows(Period()))
    reader.close()
    return row.monotonic_ns


def _loop(model: Path, engine: Engine, frame: Image, fps: float, verdicts: int, folder: Path) -> Stopwatch:
    """Run the loop with a camera of that rate until there are `verdicts` verdicts."""

    def open_source(camera: CameraOptions, on_event: OnEvent) -> FakeCamera:
        return FakeCamera(lambda index: frame, fps)

    stop = threading.Event()
    stopwatch = Stopwatch(verdicts + WARM_UP, stop)
    journal = JournalOptions(folder / "line.sqlite", json_lines=folder / "line.jsonl")
    with open_line(_options(model, journal), engine, open_source) as line:
        run_loop(with_summary(line, stopwatch), stop)
    return stopwatch


def with_summary(line: Line, stopwatch: Stopwatch) -> Line:
    """Return the same line with another summary."""
    return dataclasses.replace(line, summary=stopwatch)


def _options(model: Path, journal: JournalOptions, pictures: PictureOptions | None = None) -> LineOptions:
    return LineOptions(model=model, journal=journal, camera=(CameraOptions("fake", "0"),), pictures=pictures)


def percentiles(stopwatches: Sequence[Stopwatch]) -> dict[str, float]:
    """Return median and 99th percentile of all latencies, without the warm-ups."""
    latencies = [value for stopwatch in stopwatches for value in stopwatch.latencies_ms[WARM_UP:]]
    p50, p99 = np.percentile(latencies, [50, 99])
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


def _periods_ms(stopwatch: Stopwatch) -> list[float]:
    """Return the milliseconds between one verdict and the next."""
    return [float(value) / 1e6 for value in np.diff(stopwatch.ends_ns[WARM_UP:])]


def quietest(turns: Sequence[Sequence[float]]) -> float:
    """Return the lowest of the turns' medians: other processes can only add to it."""
    return min(statistics.median(turn) for turn in turns)


def _answer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a high score for a white image, at no cost."""
    scores = images[:, 0, 0, 0].astype(np.float32)
    return np.zeros(images.shape[:3], np.float32), scores


def picture() -> Image:
    """Return a frame of 1280x720 pixels, smooth as a photograph is."""
    small = np.random.default_rng(0).integers(0, 256, (45, 80, 3), np.uint8)
    return cv2.resize(small, (1280, 720), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    sys.exit(main())
