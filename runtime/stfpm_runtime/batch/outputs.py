"""Outputs of an inspection of files: JSON lines, overlays, a count, a line of progress."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, ClassVar, Protocol, TextIO

import cv2

from stfpm_runtime.cli import printable
from stfpm_runtime.detector import Verdict
from stfpm_runtime.errors import OutputError
from stfpm_runtime.imaging.overlay import draw_overlay
from stfpm_runtime.options import SaveOnly, is_saved
from stfpm_runtime.score import format_score
from stfpm_runtime.sources import Frame, absolute
from stfpm_runtime.verdict_counter import VerdictCounter


class VerdictWriter(Protocol):
    """Writes one verdict after the other, in the order of the frames."""

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Write the verdict on a frame. Raises OutputError where no later verdict could be kept either."""
        ...


def to_json(frame: Frame, verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON has it: all keys in every record, null where one does not apply."""
    timings = verdict.timings
    return {
        "source": frame.source,
        "frame": frame.index,
        "decision": verdict.decision,
        "relative_score": verdict.relative_score,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "reason": verdict.reason or None,
        "preprocess_ms": round(timings.preprocess_ms, 3),
        "infer_ms": round(timings.infer_ms, 3),
        "latency_ms": round(timings.latency_ms, 3),
    }


class JsonLines:
    """Writes one line of JSON for each verdict, and flushes it at once: an interruption loses no verdict."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Write the line. Raises OutputError where that fails: the inspection then has no result."""
        try:
            self._file.write(json.dumps(to_json(frame, verdict), allow_nan=False) + "\n")
            self._file.flush()
        except BrokenPipeError:
            raise  # the reader closed the pipe: not an error, see cli.run
        except OSError as error:
            raise OutputError(
                f"{self._file.name}: the verdict on {frame.source} cannot be written ({error.strerror}); "
                "it and those after it are lost, free space and inspect again"
            ) from None


class VerdictLines:
    """Writes one line for a person for each verdict: decision, relative score, source and reason."""

    COLOURS: ClassVar = {"pass": "\x1b[32m", "reject": "\x1b[1;31m", "fault": "\x1b[1;33m"}

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._is_coloured = "NO_COLOR" not in os.environ  # see no-color.org

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Write the line."""
        word = f"{verdict.decision:6}"
        if self._is_coloured:
            word = f"{self.COLOURS[verdict.decision]}{word}\x1b[0m"
        score = format_score(verdict.score, verdict.threshold)
        where = frame.source if frame.index is None else f"{frame.source} ({frame.index})"
        print(f"{word} {score:>6}  {printable(f'{where}  {verdict.reason}'.rstrip())}", file=self._file, flush=True)


class OverlayFolder:
    """Writes overlays as PNG files that mirror the tree of the sources, whose root is `root`: none overwrites another.

    `broken/000.png` becomes `broken/000.png.overlay.png`; frame 17 of `clip.mp4` becomes
    `clip.mp4/000017.overlay.png`. One that cannot be written is reported once on stderr, and counted in `failures`.
    """

    def __init__(self, folder: Path, root: Path, save_only: SaveOnly = "all") -> None:
        self.failures = 0
        self._folder = folder
        self._root = root
        self._save_only = save_only

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Save the overlay if it is wanted, and if the frame has pixels."""
        if frame.image is None or not is_saved(self._save_only, verdict.decision):
            return
        path = self.path(frame)
        try:
            drawn = draw_overlay(
                frame.image, verdict.decision, verdict.score, verdict.threshold, verdict.anomaly_map, verdict.reason
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", drawn)[1].tobytes())
        except (OSError, cv2.error) as error:
            if not self.failures:
                print(f"{path}: the overlay cannot be written ({error}); going on without", file=sys.stderr)
            self.failures += 1

    def path(self, frame: Frame) -> Path:
        """Return the path of the frame's overlay."""
        relative = absolute(frame.source).relative_to(self._root)
        if frame.index is None:
            return self._folder / f"{relative}.overlay.png"
        return self._folder / relative / f"{frame.index:06d}.overlay.png"


class Tally(VerdictCounter):
    """Counts verdicts, all with the same threshold; the latencies are those of the frames that were judged."""

    def __init__(self) -> None:
        super().__init__()
        self._ends: tuple[float, float] | None = None
        """The lowest and the highest score; None without scores, and for a threshold of 0 or less."""
        self._threshold = 0.0

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Count the verdict."""
        self.count(verdict.decision, verdict.reason, None if verdict.score is None else verdict.timings.latency_ms)
        if verdict.score is not None and verdict.threshold > 0:
            lowest, highest = self._ends or (verdict.score, verdict.score)
            self._ends = min(lowest, verdict.score), max(highest, verdict.score)
            self._threshold = verdict.threshold

    def summary(self) -> str:
        """Return counts and relative scores in one line; the yield is the share of all frames that passed."""
        share = self.decisions["pass"] / self.total if self.total else 0.0
        ends = [format_score(score, self._threshold) for score in self._ends or ()]
        scores = f"; relative scores {' to '.join(ends)}" if ends else ""
        return self.describe("frames", f"; yield {share:.1%}{scores}")


class Progress:
    """Shows the count as one line on a terminal."""

    def __init__(self, tally: Tally, stream: TextIO) -> None:
        self._tally = tally
        self._stream = stream

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Write the count over the previous one; the next line overwrites it."""
        not_passed = self._tally.total - self._tally.decisions["pass"]
        print(f"{self._tally.total} frames, {not_passed} not passed", end="\r", file=self._stream, flush=True)
