"""What an output says about itself: how far it is behind the journal, why it fails, and events that would repeat."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

LAG_LIMIT_S = 30.0
"""An output whose oldest undelivered verdict is older than this is not healthy."""
EVENT_INTERVAL_S = 60.0
"""One kind of event of an output is reported at most this often, with its count."""


class Output(Protocol):
    """What receives verdicts from the journal: sinks, pictures, JSON lines. Any thread may read these."""

    name: str
    """Name in the log, in events and in the status."""

    @property
    def lag_s(self) -> float:
        """Age of the oldest undelivered verdict in seconds; 0 where everything is delivered."""
        ...

    @property
    def failure(self) -> str:
        """Why it does not work; empty where it does."""
        ...


def problem_of(output: Output) -> str:
    """Return what is wrong with the output in words, or an empty text."""
    if output.failure:
        return f"{output.name}: {output.failure}"
    if (lag_s := output.lag_s) > LAG_LIMIT_S:
        return f"{output.name}: the oldest undelivered verdict is {lag_s:.0f} s old"
    return ""


class Backlog:
    """Holds since when the oldest undelivered verdict waits. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since_s: float | None = None

    def begin(self) -> None:
        """Note that a verdict waits; an older one that waits already counts."""
        with self._lock:
            if self._since_s is None:
                self._since_s = time.monotonic()

    def set_age(self, age_s: float | None) -> None:
        """Set the age of the oldest undelivered verdict in seconds; None: everything is delivered."""
        with self._lock:
            self._since_s = None if age_s is None else time.monotonic() - age_s

    @property
    def lag_s(self) -> float:
        """Age of the oldest undelivered verdict in seconds; 0 where there is none."""
        with self._lock:
            return 0.0 if self._since_s is None else max(0.0, time.monotonic() - self._since_s)


class CountedEvent:
    """Reports something that concerns verdicts as an event: at once, and then once a minute with its count."""

    def __init__(self, report: Callable[[str], None], text: str) -> None:
        self.total = 0
        """Verdicts concerned since the start."""
        self._report = report
        self._text = text
        self._count = self._first = self._last = 0
        self._detail = ""
        self._due_s = 0.0

    def add(self, first: int, last: int, count: int = 1, detail: str = "") -> None:
        """Count verdicts with numbers from `first` to `last`, and report if it is time."""
        self._first = first if not self._count else min(first, self._first)
        self._last = last if not self._count else max(last, self._last)
        self._count += count
        self.total += count
        self._detail = detail
        self.report()

    def report(self, at_once: bool = False) -> None:
        """Report what was counted and not reported yet, if it is time, or `at_once`."""
        if not self._count or (time.monotonic() < self._due_s and not at_once):
            return
        self._due_s = time.monotonic() + EVENT_INTERVAL_S
        which = (
            f"verdict {self._first}" if self._count == 1 else f"{self._count} verdicts ({self._first} to {self._last})"
        )
        detail = f": {self._detail}" if self._detail else ""
        self._count = 0
        self._report(f"{which} {self._text}{detail}")
