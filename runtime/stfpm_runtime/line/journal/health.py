"""What an output shows of itself: the age of what it has not delivered, and events with a count."""

from __future__ import annotations

import time
from collections.abc import Callable

EVENT_INTERVAL_S = 60.0
"""One kind of event of an output is reported at most this often, with its count."""


class Backlog:
    """Holds since when the oldest undelivered verdict waits. For any thread: each change is one assignment."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def begin(self) -> None:
        """Start the time where no older verdict waits."""
        if self._since_s is None:
            self._since_s = time.monotonic()

    def set_age(self, age_s: float | None) -> None:
        """Set the age of the oldest undelivered verdict in seconds; None: everything is delivered."""
        self._since_s = None if age_s is None else time.monotonic() - age_s

    @property
    def lag_s(self) -> float:
        """Return the age of the oldest undelivered verdict in seconds; 0 where there is none."""
        since_s = self._since_s
        return 0.0 if since_s is None else max(0.0, time.monotonic() - since_s)


class CountedEvent:
    """Reports something that concerns verdicts as an event: at once, and then once a minute with its count."""

    def __init__(self, report: Callable[[str], None], text: str) -> None:
        self.total = 0
        """Verdicts concerned since the start."""
        self._report, self._text, self._detail = report, text, ""
        self._count = self._first = self._last = 0
        self._due_s = 0.0

    def add(self, first: int, last: int, count: int = 1, detail: str = "") -> None:
        """Count verdicts with numbers from `first` to `last`, and report if it is time."""
        self._first = first if not self._count else min(first, self._first)
        self._last = last if not self._count else max(last, self._last)
        self._count += count
        self.total += count
        self._detail = f": {detail}" if detail else ""
        self.report()

    def report(self, at_once: bool = False) -> None:
        """Report what was counted and not reported yet, if it is time, or `at_once`."""
        if self._count and (at_once or time.monotonic() >= self._due_s):
            self._due_s = time.monotonic() + EVENT_INTERVAL_S
            verdicts = f"{self._count} verdicts ({self._first} to {self._last})"
            verdicts = f"verdict {self._first}" if self._count == 1 else verdicts
            self._count = 0
            self._report(f"{verdicts} {self._text}{self._detail}")
