"""A second model that judges the same frames: where its decision differs is an event, and nothing else follows.

It judges in a thread of its own, by its own threshold. A frame that comes while too many wait is left out and counted.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from stfpm_runtime.lifecycle import Worker
from stfpm_runtime.line.inspect import Inspector, JudgedPart
from stfpm_runtime.line.journal.rows import LogEvent, VerdictRow
from stfpm_runtime.model_check import Model

from .base import KeptParts, Observer

WAITING = 8
"""Frames that may wait for the shadow; further ones are left out."""
POLL_S = 0.1


@dataclass(frozen=True)
class ShadowCounts:
    """Parts that the shadow has judged, and how."""

    compared: int = 0
    disagreed: int = 0
    would_reject: int = 0
    """Parts that the line passed and the shadow did not."""
    left_out: int = 0
    """Parts that came while too many waited."""


class Shadow(Worker, Observer):
    """Judges what the line judged, and compares."""

    name = "shadow"

    def __init__(self, model: Model, batch: int, log_event: LogEvent) -> None:
        """Store the model, which `stop` closes, and the number of pictures in one run of its engine at most."""
        super().__init__("shadow")
        self.model = model
        self.counts = ShadowCounts()
        self._left_out = 0
        self._log_event = log_event
        self._inspector = Inspector(model.detector, batch, lambda camera, region: model.detector.threshold)
        self._waiting: deque[KeptParts] = deque()
        self._woken = threading.Event()

    def observe(self, parts: KeptParts) -> None:
        """Queue one frame's verdicts without waiting; faults are left out, since they cannot be compared."""
        if any(judged.verdict.score is None for judged, _ in parts):
            return
        if len(self._waiting) >= WAITING:
            self._left_out += len(parts)
            return
        self._waiting.append(list(parts))
        self._woken.set()

    def wake(self) -> None:
        """Make `run` notice that it is to end."""
        self._woken.set()

    def stop(self, deadline_s: float) -> None:
        """Compare the frames that wait, until the deadline on `time.monotonic()`, and close the model's engine."""
        super().stop(deadline_s)
        if not self._thread.is_alive():
            self.model.engine.close()

    def run(self) -> None:
        """Compare frames until the stop."""
        while True:
            self._woken.clear()
            while self._waiting:
                self._compare(self._waiting.popleft())
            if self.stopping.is_set():
                return
            self._woken.wait(POLL_S)

    def _compare(self, parts: KeptParts) -> None:
        counts = self.counts
        compared, disagreed, would_reject = counts.compared, counts.disagreed, counts.would_reject
        for (line, row), shadow in zip(parts, self._inspector.judge([parts[0][0].triggered]), strict=True):
            compared += 1
            if shadow.verdict.decision == line.verdict.decision:
                continue
            disagreed += 1
            would_reject += line.verdict.decision == "pass"
            self._log_event("shadow", _describe(row, line, shadow))
        self.counts = ShadowCounts(compared, disagreed, would_reject, self._left_out)


def _describe(row: VerdictRow, line: JudgedPart, shadow: JudgedPart) -> str:
    ours, theirs = line.verdict, shadow.verdict
    score = theirs.reason if theirs.score is None else f"{theirs.score:.4g}, threshold {theirs.threshold:.4g}"
    return (
        f"{row.camera}/{row.region} ({row.seq}): {ours.decision} ({ours.score:.4g}, threshold "
        f"{ours.threshold:.4g}), the shadow says {theirs.decision} ({score})"
    )
