"""The life-cycle of everything that owns a thread, the one time budget of a stop, and the one back-off."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import ClassVar, TypeVar

LOG = logging.getLogger("stfpm")
EACH_S = 5.0
"""The longest wait for the end of one worker, in seconds."""
STOP_S = 20.0
"""The longest time from the first request to stop a line to the end of its threads, in seconds.

It is shorter than TimeoutStopSec of the systemd unit, so that engine and journal are still closed in time.
"""

RESTART_DELAY_S = 1.0
"""The pause before `run` is called again after an error, in seconds."""
NICENESS = 15
"""The priority of a process that works beside a line: the line's frames go first."""

Self = TypeVar("Self", bound="Worker")
Result = TypeVar("Result")


class Worker:
    """Owns one thread. The constructor only stores; nothing runs before `start`.

    A subclass writes `run`, which returns soon after `self.stopping` is set, and overrides `wake` where `run` waits
    for something other than `self.stopping`. Methods may be called from any thread except the worker's own.
    """

    keeps_real_time: ClassVar[bool] = True
    """False: where the process has real-time priority, this thread gives it up, because no verdict waits for it."""
    restarts_after_error: ClassVar[bool] = False
    """True: where `run` raises, which is a bug, it is called again until the stop; else the thread ends."""

    def __init__(self, name: str) -> None:
        """Store the thread's name, which the log shows."""
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    @property
    def is_alive(self) -> bool:
        """Return whether the thread runs."""
        return self._thread.is_alive()

    def run(self) -> None:
        """Do the work, in the worker's thread, until `self.stopping` is set."""
        raise NotImplementedError

    def wake(self) -> None:
        """Make `run` notice that `self.stopping` is set."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request_stop(self) -> None:
        """Tell the thread to end, without waiting for it."""
        self.stopping.set()
        self.wake()

    def stop(self, deadline_s: float) -> None:
        """Tell the thread to end, and wait for it until `deadline_s` on `time.monotonic()`. May be called twice."""
        self.request_stop()
        if self.is_alive:
            self._thread.join(max(0.0, min(EACH_S, deadline_s - time.monotonic())))

    def _main(self) -> None:
        if not self.keeps_real_time:
            _leave_real_time_as_a_thread()
        while True:
            try:
                return self.run()
            except Exception:
                if not self.restarts_after_error:
                    raise
                LOG.exception("internal error: the thread %s begins again", self._thread.name)
            if self.stopping.wait(RESTART_DELAY_S):
                return None

    def __enter__(self: Self) -> Self:
        """Start the thread."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the thread."""
        self.stop(time.monotonic() + EACH_S)


class StopBudget:
    """The time that the whole stop of a line may take: it begins once, and everything that stops shares it."""

    def __init__(self) -> None:
        self._deadline_s: float | None = None

    def deadline_s(self) -> float:
        """Return the end of the budget on `time.monotonic()`; the first call begins it."""
        if self._deadline_s is None:
            self._deadline_s = time.monotonic() + STOP_S
        return self._deadline_s


def stop_all(workers: Sequence[Worker], deadline_s: float) -> None:
    """Tell all workers to end, then wait for each, the last one first, until `deadline_s` on `time.monotonic()`."""
    with contextlib.ExitStack() as stack:  # one that raises must not keep the others from being stopped
        for worker in workers:
            stack.callback(worker.stop, deadline_s)
        for worker in reversed(workers):
            worker.request_stop()


class Backoff:
    """Computes growing waits between attempts to reach something that does not answer. For one thread."""

    def __init__(self, first_s: float = 0.25, most_s: float = 5.0, jitter: float = 0.0) -> None:
        """Store the first and the longest wait, and the share of each wait (0 to 1) that is drawn at random."""
        self._first_s = first_s
        self._most_s = most_s
        self._jitter = jitter
        self._attempts = 0

    def next_s(self) -> float:
        """Return the wait before the next attempt, in seconds. It doubles with each call, up to the longest one."""
        longest_s: float = min(self._most_s, self._first_s * 2 ** min(self._attempts, 30))
        self._attempts += 1
        return longest_s * (1 - self._jitter * random.random())

    def reset(self) -> None:
        """Begin again with the first wait: the last attempt succeeded."""
        self._attempts = 0


def child_environment() -> dict[str, str]:
    """Return the environment for a Python process of ours, which finds the same packages as this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def leave_real_time(pid: int = 0) -> None:
    """Let the process or thread `pid`, or this one, use any core, and schedule it as usual.

    A line may be pinned to cores and scheduled in real time, and what it starts inherits both.
    """
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):  # it has ended already
            os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
            os.sched_setaffinity(pid, range(os.cpu_count() or 1))


def call_without_real_time(function: Callable[[], Result]) -> Result:
    """Call a function in a thread without real time, and return its result: an engine's threads inherit that."""
    with ThreadPoolExecutor(1, initializer=_leave_real_time_as_a_thread) as pool:
        return pool.submit(function).result()


def _leave_real_time_as_a_thread() -> None:
    """Schedule this thread alone as usual, where it is in real time; only Linux schedules single threads."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a container may forbid to ask
            if os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR):
                leave_real_time()


def lower_priority(pid: int = 0) -> None:
    """Let the process `pid`, or this one, use any core at a low priority."""
    leave_real_time(pid)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICENESS)


def exit_with_parent(killed_s: float = 5.0) -> None:
    """End this process and its group when the one that started it, and holds the pipe to its stdin, is gone.

    It was started in a session of its own. It is terminated first, and killed `killed_s` seconds later.
    """

    def wait() -> None:
        while os.read(0, 1):  # nothing is ever written into the pipe
            pass
        os.killpg(0, signal.SIGTERM)
        time.sleep(killed_s)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, name="line", daemon=True).start()
