"""A second model on the same frames: where it would have decided otherwise is journalled, and nothing else follows.

It judges in a thread of its own and by its own threshold. A frame that it has no time for is left out, and counted.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stfpm_runtime.line.inspect import Inspector, JudgedPart
from stfpm_runtime.line.journal.rows import VerdictRow
from stfpm_runtime.model_check import Model

LOG = logging.getLogger("stfpm.shadow")
WAITING = 8
"""Frames that may wait for the shadow; those beyond are left out."""
POLL_S = 0.1

LogEvent = Callable[[str, str], None]


@dataclass(frozen=True)
class ShadowCounts:
    """What the shadow has seen."""

    compared: int = 0
    disagreed: int = 0
    would_reject: int = 0
    """Of these: passed by the line, not passed by the shadow."""
    left_out: int = 0
    """Parts that it had no time for."""


class Shadow:
    """Judges what the line judged, and compares."""

    def __init__(self, model: Model, batch: int, log_event: LogEvent) -> None:
        self.model = model
        self.counts = ShadowCounts()
        self._left_out = 0
        self._log_event = log_event
        threshold = model.detector.threshold
        self._inspector = Inspector(model.detector, batch, lambda camera, region: threshold)
        self._waiting: deque[list[tuple[JudgedPart, VerdictRow]]] = deque()
        self._woken = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, parts: Sequence[tuple[JudgedPart, VerdictRow]]) -> None:
        """One frame's verdicts; faults are nothing to compare with. For the loop: it never waits."""
        if any(judged.verdict.score is None for judged, _ in parts):
            return
        if len(self._waiting) >= WAITING:
            self._left_out += len(parts)
            return
        self._waiting.append(list(parts))
        self._woken.set()

    def close(self, timeout_s: float = 5.0) -> None:
        """Compare what waits, for so long at most."""
        self._closing = True
        self._woken.set()
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self.model.engine.close()

    def _work(self) -> None:
        while True:
            self._woken.clear()
            while self._waiting:
                self._compare(self._waiting.popleft())
            if self._closing:
                return
            self._woken.wait(POLL_S)

    def _compare(self, parts: Sequence[tuple[JudgedPart, VerdictRow]]) -> None:
        counts = self.counts
        compared, disagreed, would_reject = counts.compared, counts.disagreed, counts.would_reject
        for (ours, entry), theirs in zip(parts, self._inspector.judge([parts[0][0].triggered]), strict=True):
            compared += 1
            if theirs.verdict.decision == ours.verdict.decision:
                continue
            disagreed += 1
            would_reject += ours.verdict.decision == "pass"
            self._log_event("shadow", _describe(entry, ours, theirs))
        self.counts = ShadowCounts(compared, disagreed, would_reject, self._left_out)


def _describe(entry: VerdictRow, ours: JudgedPart, theirs: JudgedPart) -> str:
    mine, other = ours.verdict, theirs.verdict
    score = other.reason if other.score is None else f"{other.score:.4g}, threshold {other.threshold:.4g}"
    return (
        f"{entry.camera}/{entry.region} ({entry.seq}): {mine.decision} ({mine.score:.4g}, threshold "
        f"{mine.threshold:.4g}), the shadow says {other.decision} ({score})"
    )
