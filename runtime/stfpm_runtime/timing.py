"""Timing of several functions by turns: a machine that slows down or is busy affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence


def time_by_turns(
    calls: Sequence[Callable[[], object]],
    rounds: int,
    pause_s: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Return the times of each call in milliseconds, one for each round.

    Before each timed call the function is called once untimed, after `pause_s` seconds: a library's threads may
    still use the processor for a while after a call. With the clock `time.thread_time` it is the processor time of this
    thread, which does not grow while other programs run.
    """
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, own in zip(calls, times, strict=True):
            time.sleep(pause_s)
            call()
            started = clock()
            call()
            own.append(1e3 * (clock() - started))
    return times
