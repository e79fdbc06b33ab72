"""The wall clock beside the machine's own: when it jumps, the journal says so, and nothing is deleted for its sake."""

from __future__ import annotations

import time
from collections.abc import Callable

JUMP_S = 2.0
"""A wall clock that moves by more than this, against the machine's own, has jumped (NTP slews by 0.5 ms a second)."""


class Clock:
    """Compares the two clocks; a jump is reported once."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._steady_since_s = steady()
        self._offset_s = self._first_offset_s = wall() - self._steady_since_s

    def jump_s(self) -> float:
        """By how much the wall clock has jumped since the last call; 0 if it has not."""
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
        """Seconds since 1970 as the wall clock would say if it had not jumped forward since the start.

        What is deleted for its age is gone for good: a clock that jumps to 2099 must not cost the whole journal.
        """
        steady_s = self._steady()
        return min(self._wall(), steady_s + self._first_offset_s)
