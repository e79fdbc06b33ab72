"""What requests a verdict. A new kind is one class with `wait`; `open_trigger` picks one."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stfpm_runtime.errors import TriggerError
from stfpm_runtime.lifecycle import Worker
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.journal.rows import Record
from stfpm_runtime.options import PART_LENGTH

from .part_id import check_part

WAITING = 64
"""Requests for one camera that may wait for their frames; more are refused."""
NOT_TAKEN = "too many wait, the camera has ended, or the line is stopping"
"""Why `QueuedTrigger.put` refuses a request."""


@dataclass(frozen=True, eq=False)
class TriggerRequest:
    """A trigger's request for the verdict on one frame."""

    at_ns: int = 0
    """`time.monotonic_ns()`; a camera's frame must not be older. 0: any frame will do, and no answer is expected."""
    part: str = ""
    """The part's id; empty where there is none."""
    answer: Callable[[Sequence[Record]], None] = lambda records: None
    """Called once with the verdicts of all regions, when they are in the journal. It must not block."""
    error: str = ""
    """Why the part cannot be judged, whatever its frame; empty where it can. The verdict is then a fault."""

    @property
    def asked(self) -> bool:
        """Return whether an answer is expected, so that a verdict must come."""
        return self.at_ns > 0


class Trigger:
    """Requests verdicts for one camera, whose worker waits for the requests. This one requests one on each frame."""

    def wait(self, timeout_s: float) -> TriggerRequest | None:
        """Return the next request, each once; None if there is none in time."""
        return TriggerRequest()

    def close(self) -> list[TriggerRequest]:
        """Accept no more requests, and return those that no call of `wait` has returned."""
        return []

    def unanswered(self) -> list[TriggerRequest]:
        """Return the requests that expect an answer and have no verdict yet, the oldest first."""
        return []


class IntervalTrigger(Trigger):
    """Requests a verdict every `interval_s` seconds; a time that has passed unused is left out, not made up for."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._due_s = time.monotonic()
        self._closed = threading.Event()

    def wait(self, timeout_s: float) -> TriggerRequest | None:
        """Return a request when it is due; None if it is not due in time."""
        if self._closed.wait(max(0.0, min(self._due_s - time.monotonic(), timeout_s))):
            return None
        now_s = time.monotonic()
        if now_s < self._due_s:
            return None
        self._due_s += self._interval_s * max(1, 1 + (now_s - self._due_s) // self._interval_s)
        return TriggerRequest(time.monotonic_ns())

    def close(self) -> list[TriggerRequest]:
        """Make no more requests; return an empty list: no request waits."""
        self._closed.set()
        return []


class QueuedTrigger(Trigger):
    """Holds requests from outside: an HTTP request, a message, an edge. For any number of threads."""

    def __init__(self, part_length: int = PART_LENGTH) -> None:
        self.part_length = part_length
        """The longest part id, in characters."""
        self._waiting: deque[TriggerRequest] = deque()
        self._unanswered: dict[int, TriggerRequest] = {}
        self._accepted = 0
        self._changed = threading.Condition()
        self._closed = False

    def put(self, request: TriggerRequest) -> bool:
        """Accept a request and return True: it is answered in any case. False: see `NOT_TAKEN`.

        One whose part id `check_part` refuses is accepted as a fault without the id.
        """
        try:
            check_part(request.part, self.part_length)
        except TriggerError as problem:
            request = dataclasses.replace(request, part="", error=str(problem))
        with self._changed:
            if self._closed or len(self._waiting) >= WAITING:
                return False
            self._accepted += 1
            number = self._accepted

            def answer(records: Sequence[Record]) -> None:
                with self._changed:
                    self._unanswered.pop(number, None)
                request.answer(records)

            accepted = dataclasses.replace(request, answer=answer)
            self._unanswered[number] = accepted
            self._waiting.append(accepted)
            self._changed.notify()
            return True

    def wait(self, timeout_s: float) -> TriggerRequest | None:
        """Return the request that has waited longest; None if there is none in time."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(timeout_s)
            return self._waiting.popleft() if self._waiting else None

    def close(self) -> list[TriggerRequest]:
        """Accept no more requests, and return those that wait."""
        with self._changed:
            self._closed = True
            requests = list(self._waiting)
            self._waiting.clear()
            return requests

    def unanswered(self) -> list[TriggerRequest]:
        """Return the requests that were accepted and have no verdict yet, the oldest first."""
        with self._changed:
            return list(self._unanswered.values())


class Listener(Worker):
    """Receives triggers in its thread, and puts a request for each into its camera's `QueuedTrigger`."""

    lacking = "no triggers are received"
    """What a failure means, in words."""
    failure = ""
    """Why nothing can be received; empty where it can."""


def open_trigger(camera: CameraOptions) -> Trigger:
    """Return the trigger that the camera's options name. A listener or the server puts requests into a queued one."""
    if camera.trigger == "every":
        assert camera.every_ms is not None, "checked by the options"
        return IntervalTrigger(camera.every_ms / 1e3)
    return Trigger() if camera.trigger == "continuous" else QueuedTrigger(camera.part_length)
