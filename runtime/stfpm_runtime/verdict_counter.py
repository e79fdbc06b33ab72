"""Counts of verdicts, and percentiles of their latencies."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

import numpy as np


def percentiles(latencies_ms: Sequence[float]) -> tuple[float, float] | None:
    """Return the median and the 99th percentile, in milliseconds; None without values."""
    if not latencies_ms:
        return None
    median, p99 = np.percentile(latencies_ms, [50, 99])
    return float(median), float(p99)


class VerdictCounter:
    """Counts verdicts by decision. One thread counts; any may read."""

    def __init__(self, newest: int | None = None) -> None:
        """Keep as many of the newest latencies; None: all."""
        self.decisions: Counter[str] = Counter()
        self.first_reason = ""
        """The reason of the first fault."""
        self.newest_ms: deque[float] = deque(maxlen=newest)

    @property
    def total(self) -> int:
        """Return the number of verdicts."""
        return self.decisions.total()

    def count(self, decision: str, reason: str, latency_ms: float | None) -> None:
        """Count one verdict. Its latency counts unless it is None."""
        self.decisions[decision] += 1
        if decision == "fault":
            self.first_reason = self.first_reason or reason
        if latency_ms is not None:
            self.newest_ms.append(latency_ms)

    def latency_ms(self) -> tuple[float, float] | None:
        """Return what `percentiles` does, for the latencies kept."""
        return percentiles(list(self.newest_ms))

    def describe(self, what: str, more: str = "") -> str:
        """Return the counts in one line: `3 WHAT: 2 passed, 1 rejected, 0 not judgedMORE; latency ...`."""
        passed, rejected, faults = (self.decisions[decision] for decision in ("pass", "reject", "fault"))
        line = f"{self.total} {what}: {passed} passed, {rejected} rejected, {faults} not judged{more}"
        latency = self.latency_ms()
        return f"{line}; latency median {latency[0]:.1f} ms, p99 {latency[1]:.1f} ms" if latency else line
