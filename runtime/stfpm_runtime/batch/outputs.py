"""Where verdicts go: JSON lines, overlays, a tally. A sink that fails never costs another sink the verdict."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Protocol, TextIO

import cv2

from stfpm_runtime.detector import Verdict
from stfpm_runtime.errors import OutputError
from stfpm_runtime.imaging.overlay import draw_overlay
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.options import SaveOnly, is_saved
from stfpm_runtime.sources import Frame, absolute
from stfpm_runtime.verdict_counter import VerdictCounter


class Sink(Protocol):
    """Takes one verdict after the other, in the order of the frames."""

    def take(self, frame: Frame, verdict: Verdict) -> None:
        """Deal with the verdict on this frame. Raises OutputError where nothing that follows could be kept."""
        ...


def record(frame: Frame, verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON has it; every key is there in every record, with null for what does not apply."""
    timings = verdict.timings
    return {
        "source": frame.source,
        "frame": frame.index,
        "decision": verdict.decision,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "reason": verdict.reason or None,
        "preprocess_ms": round(timings.preprocess_ms, 3),
        "infer_ms": round(timings.infer_ms, 3),
        "latency_ms": round(timings.latency_ms, 3),
    }


class JsonLines:
    """One line of JSON for each verdict, flushed at once: what was judged survives whatever comes after."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def take(self, frame: Frame, verdict: Verdict) -> None:
        """Write the line. Raises OutputError when that fails: verdicts that nobody can read are not worth making."""
        try:
            self._file.write(json.dumps(record(frame, verdict), allow_nan=False) + "\n")
            self._file.flush()
        except BrokenPipeError:
            raise  # the reader has had enough: not a fault, see cli.run
        except OSError as error:
            raise OutputError(
                f"{self._file.name}: the verdict on {frame.source} cannot be written ({error.strerror}); "
                "it and those after it are lost, free space and inspect again"
            ) from None


class OverlayFolder:
    """Overlays as PNG files that mirror the tree of the sources, whose root is `root`: none overwrites another.

    `broken/000.png` becomes `broken/000.png.overlay.png`; frame 17 of `clip.mp4` becomes
    `clip.mp4/000017.overlay.png`. One that cannot be written is reported once on stderr, and counted in `failures`.
    """

    def __init__(self, folder: Path, root: Path, save_only: SaveOnly = "all") -> None:
        self.failures = 0
        self._folder = folder
        self._root = root
        self._save_only = save_only

    def take(self, frame: Frame, verdict: Verdict) -> None:
        """Save the overlay if it is wanted, and if the frame has pixels."""
        if frame.image is None or not is_saved(self._save_only, verdict.decision):
            return
        path = self.path(frame)
        try:
            _write_png(path, draw_overlay(frame.image, verdict))
        except (OSError, cv2.error) as error:
            if not self.failures:
                print(f"{path}: the overlay cannot be written ({error}); going on without", file=sys.stderr)
            self.failures += 1

    def path(self, frame: Frame) -> Path:
        """Where the frame's overlay goes."""
        below = absolute(frame.source).relative_to(self._root)
        if frame.index is None:
            return self._folder / f"{below}.overlay.png"
        return self._folder / below / f"{frame.index:06d}.overlay.png"


class Tally(VerdictCounter):
    """Counts verdicts; the latencies are those of the frames that were judged."""

    def take(self, frame: Frame, verdict: Verdict) -> None:
        """Count the verdict."""
        is_fault = verdict.decision == "fault"
        self.count(verdict.decision, verdict.reason, None if is_fault else verdict.timings.latency_ms)

    def summary(self) -> str:
        """Return the counts in one line; the yield is the share of all frames that passed."""
        share = self.decisions["pass"] / self.total if self.total else 0.0
        return self.describe("frames", f"; yield {share:.1%}")


class Progress:
    """A line on a terminal that counts, for whoever waits."""

    def __init__(self, tally: Tally, stream: TextIO) -> None:
        self._tally = tally
        self._stream = stream

    def take(self, frame: Frame, verdict: Verdict) -> None:
        """Write the count over the last one, and leave the cursor so that the next line overwrites it."""
        not_passed = self._tally.total - self._tally.decisions["pass"]
        print(f"{self._tally.total} frames, {not_passed} not passed", end="\r", file=self._stream, flush=True)


def _write_png(path: Path, image: Image) -> None:
    encoded = cv2.imencode(".png", image)[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.tobytes())
