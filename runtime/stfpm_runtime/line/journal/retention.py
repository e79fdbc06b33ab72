"""What is deleted from the journal, and when: never because of a wall clock that may be wrong."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from .rows import LogEvent, seconds_of, utc
from .writer import Journal

LOG = logging.getLogger("stfpm.journal")
JUMP_S = 2.0
"""A wall clock that moves by more than this, against the machine's own, has jumped (NTP slews by 0.5 ms a second)."""
STEP = 500
"""Verdicts deleted at a time, which takes a few milliseconds."""
HOUR_S = 3600.0
DAY_S = 86_400.0
GAP_S = 7 * DAY_S
"""The longest time without verdicts that is no reason to doubt the clock."""
AHEAD_DAYS = 30.0
"""By how much the clock may be ahead of the journal at the start without an event."""


class Clock:
    """Compares the wall clock with the machine's own, which never jumps."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        """Store the two clocks, which return seconds."""
        self._wall = wall
        self._steady = steady
        self._steady_since_s = steady()
        self._offset_s = self._first_offset_s = wall() - self._steady_since_s

    def jump_s(self) -> float:
        """Return by how many seconds the wall clock has jumped since the last call; 0 if it has not."""
        offset_s = self._wall() - self._steady()
        jumped_s = offset_s - self._offset_s
        if abs(jumped_s) <= JUMP_S:
            self._offset_s += max(-0.001, min(0.001, jumped_s))  # slewing, which adds up over months, is no jump
            return 0.0
        self._offset_s = offset_s
        self._steady_since_s = self._steady()
        return jumped_s

    def steady_for_s(self) -> float:
        """Return for how many seconds the two clocks have agreed: since the start, or since the last jump."""
        return self._steady() - self._steady_since_s

    def trusted_s(self) -> float:
        """Return seconds since 1970 as the wall clock would say if it had not jumped forward within the last day.

        A deleted verdict is lost for good: a clock that jumps to 2099 must not cost the whole journal. One that has no
        battery begins in 1970 and is set later.
        """
        if self.steady_for_s() > DAY_S:
            return self._wall()
        return min(self._wall(), self._steady() + self._first_offset_s)


class Retention:
    """Deletes verdicts that are too old or too many, in small steps. For the loop's thread."""

    def __init__(self, keep_days: float | None, max_mb: float | None, clock: Clock, log_event: LogEvent) -> None:
        """Store the limits; None: there is none."""
        self._keep_days, self._max_mb = keep_days, max_mb
        self._clock = clock
        self._log_event = log_event
        self._state = ""
        """Why verdicts that are too old were not deleted at the last look, or that many are deleted."""

    def step(self, journal: Journal) -> bool:
        """Make one small step towards the limits; return whether another one may be needed. Raises JournalError."""
        before = None if self._keep_days is None else self._age_limit(journal, self._keep_days)
        max_bytes = None if self._max_mb is None else self._max_mb * 1e6
        if before is None and max_bytes is None:
            return False
        return journal.delete_oldest(before, max_bytes, STEP, utc(self._clock.trusted_s())) >= STEP

    def compare_clock(self, journal: Journal, written_s: float) -> None:
        """Report a clock that is far from the newest verdict and from `written_s`, the file's own time. Raises nothing.

        Both times are seconds since 1970.
        """
        newest = journal.newest_time()
        with contextlib.suppress(ValueError):
            written_s = max(written_s, seconds_of(newest) if newest else 0.0)
        ahead_days = (self._clock.trusted_s() - written_s) / DAY_S
        if written_s and not -1 / 24 <= ahead_days <= AHEAD_DAYS:
            side = "ahead of" if ahead_days > 0 else "behind"
            text = f"is {abs(ahead_days):.1f} days {side} what was last written into the journal; check the clock"
            LOG.warning("the wall clock %s", text)
            self._log_event("clock", text)

    def _age_limit(self, journal: Journal, keep_days: float) -> str | None:
        """Return the time before which verdicts are deleted; None while only the clock says that they are too old.

        The times of the verdicts show whether the clock is plausible: where none lies within a gap of the newest that
        would be deleted, the clock may have jumped while the line was off, and nothing is deleted until the limit has
        passed that gap.
        """
        before_s = self._clock.trusted_s() - keep_days * DAY_S
        before, gap_s = utc(before_s), min(GAP_S, keep_days * DAY_S / 2)
        oldest, last, first = journal.times_around(before)
        try:
            span_s = seconds_of(last) - seconds_of(oldest) if last else 0.0
            next_s = seconds_of(first) if first else self._clock.trusted_s()
            is_gap = next_s - (seconds_of(last) if last else before_s) > gap_s
        except ValueError:  # a time that another program wrote
            span_s, is_gap = 0.0, True
        if is_gap:
            state = "gap" if last else ""
            text = f"nothing is deleted for its age: there are no verdicts from {last} to {first or 'now'}, so the "
            text += "clock may be wrong; check it, and limit the journal by max_mb if it is too large"
        elif span_s > DAY_S and self._clock.steady_for_s() < HOUR_S:
            state = "wait"
            text = f"verdicts from {oldest} to {last} are deleted when the clock has been steady for an hour"
        else:
            state = "delete" if span_s > DAY_S else ""
            text = f"deletes the verdicts from {oldest} to {last}: they are older than keep_days"
        if state != self._state and state:
            LOG.warning("the journal: %s", text)
            self._log_event("journal", text)
        self._state = state
        return None if is_gap or state == "wait" else before


def last_written_s(path: Path) -> float:
    """Return when a journal was last written by the file's own time, seconds since 1970; 0 where there is none."""
    times = [0.0]
    for name in (path.name, path.name + "-wal"):
        with contextlib.suppress(OSError):
            times.append(path.with_name(name).stat().st_mtime)
    return max(times)
