"""What a person who reads the log wants to know: a line a minute, and at once what is not as it was."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque

import numpy as np

from stfpm_runtime.line.journal.rows import VerdictRow

LOG = logging.getLogger("stfpm.line")
EVERY_S = 60.0
LATENCIES = 1000
"""The newest ones, that percentiles are of."""


class Summary:
    """Counts, and logs what changes; it keeps no more than the newest latencies."""

    def __init__(self) -> None:
        self.decisions: Counter[str] = Counter()
        self.first_reason = ""
        """Of the first fault."""
        self._reasons: dict[tuple[str, str], str] = {}
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES)
        self._due_s = time.monotonic() + EVERY_S
        self._told = 0

    def take(self, entry: VerdictRow) -> None:
        """Count it; log a fault whose reason is another than that of the last one at this place, and each reject."""
        self.decisions[entry.decision] += 1
        self._latencies_ms.append(entry.latency_ms)
        place = entry.camera, entry.region
        what = f"{entry.camera}/{entry.region}" + (f", part {entry.part}" if entry.part else "")
        if entry.decision == "fault":
            self.first_reason = self.first_reason or entry.reason
            if self._reasons.get(place) != entry.reason:
                LOG.error("%s: fault (%d): %s", what, entry.seq, entry.reason)
            self._reasons[place] = entry.reason
            return
        if self._reasons.pop(place, None) is not None:
            LOG.warning("%s/%s: frames are judged again", *place)
        if entry.decision == "reject":
            score = "" if entry.score is None else f": score {entry.score:.4g}, threshold {entry.threshold:.4g}"
            reason = f"; {entry.reason}" if entry.reason else ""
            LOG.info("%s: reject (%d)%s%s", what, entry.seq, score, reason)

    @property
    def total(self) -> int:
        """How many verdicts there were."""
        return self.decisions.total()

    def status(self) -> str:
        """All of it in one line."""
        passed, rejected, faults = (self.decisions[decision] for decision in ("pass", "reject", "fault"))
        line = f"{self.total} verdicts: {passed} passed, {rejected} rejected, {faults} not judged"
        if not self._latencies_ms:
            return line
        median, p99 = np.percentile(self._latencies_ms, [50, 99])
        return f"{line}; latency median {median:.1f} ms, p99 {p99:.1f} ms"

    def log_now_and_then(self) -> None:
        """A line a minute, if there was anything."""
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + EVERY_S
            if self.total != self._told:
                LOG.info("%s", self.status())
            self._told = self.total
