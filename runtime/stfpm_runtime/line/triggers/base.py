"""What asks for a verdict. A new kind is one class with `wait`, and one line in `open_trigger`."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from stfpm_runtime.errors import TriggerError
from stfpm_runtime.line.cameras.mailbox import TriggerRequest
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.journal.rows import Record
from stfpm_runtime.options import PART_LENGTH

from .part_id import check_part

WAITING = 64
"""Firings of one camera that may wait for their frames; more are refused."""
NOT_TAKEN = "too many wait, the camera has ended, or the line is stopping"
"""Why `Posted.put` refuses a firing."""


class Trigger(Protocol):
    """Belongs to one camera, whose thread waits for it."""

    def wait(self, timeout_s: float) -> TriggerRequest | None:
        """The next firing, each once; None if there is none in time."""
        ...

    def close(self) -> list[TriggerRequest]:
        """Fire no more, and give those that nobody waited for."""
        ...

    def unanswered(self) -> list[TriggerRequest]:
        """Return the firings that somebody asked for and that have no verdict yet."""
        ...


class Continuous:
    """Each frame that comes is judged."""

    def wait(self, timeout_s: float) -> TriggerRequest | None:
        """At once."""
        return TriggerRequest()

    def close(self) -> list[TriggerRequest]:
        """Nothing waits."""
        return []

    def unanswered(self) -> list[TriggerRequest]:
        """Return an empty list: no answer is expected."""
        return []


class Every:
    """Fires every `interval_s` seconds; a time that has passed unseen is left out, not made up for."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._due_s = time.monotonic()
        self._closed = threading.Event()

    def wait(self, timeout_s: float) -> TriggerRequest | None:
        """When it is time."""
        if self._closed.wait(max(0.0, min(self._due_s - time.monotonic(), timeout_s))):
            return None
        now_s = time.monotonic()
        if now_s < self._due_s:
            return None
        self._due_s += self._interval_s * max(1, 1 + (now_s - self._due_s) // self._interval_s)
        return TriggerRequest(time.monotonic_ns())

    def close(self) -> list[TriggerRequest]:
        """Nothing waits."""
        self._closed.set()
        return []

    def unanswered(self) -> list[TriggerRequest]:
        """Return an empty list: no answer is expected."""
        return []


class QueuedTrigger:
    """Fires when somebody puts a firing in: an HTTP request, a message, an edge. For any thread."""

    def __init__(self, part_length: int = PART_LENGTH) -> None:
        self.part_length = part_length
        """Characters of a part id, at most."""
        self._waiting: deque[TriggerRequest] = deque()
        self._unanswered: dict[int, TriggerRequest] = {}
        self._accepted = 0
        self._changed = threading.Condition()
        self._closed = False

    def put(self, firing: TriggerRequest) -> bool:
        """Accept a firing and return True: it is answered in any case. False: see `NOT_TAKEN`.

        One whose part id `check_part` refuses is accepted as a fault without the id.
        """
        try:
            check_part(firing.part, self.part_length)
        except TriggerError as problem:
            firing = dataclasses.replace(firing, part="", error=str(problem))
        with self._changed:
            if self._closed or len(self._waiting) >= WAITING:
                return False
            self._accepted += 1
            number = self._accepted

            def answer(records: Sequence[Record]) -> None:
                with self._changed:
                    self._unanswered.pop(number, None)
                firing.answer(records)

            accepted = dataclasses.replace(firing, answer=answer)
            self._unanswered[number] = accepted
            self._waiting.append(accepted)
            self._changed.notify()
            return True

    def wait(self, timeout_s: float) -> TriggerRequest | None:
        """Return the one that has waited longest; None if there is none in time."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(timeout_s)
            return self._waiting.popleft() if self._waiting else None

    def close(self) -> list[TriggerRequest]:
        """Take no more, and return those that nobody has waited for."""
        with self._changed:
            self._closed = True
            firings = list(self._waiting)
            self._waiting.clear()
            return firings

    def unanswered(self) -> list[TriggerRequest]:
        """Return the firings that were accepted and have no verdict yet, the oldest first."""
        with self._changed:
            return list(self._unanswered.values())


def open_trigger(camera: CameraOptions) -> Continuous | Every | QueuedTrigger:
    """What the camera's options name."""
    if camera.trigger == "every":
        assert camera.every_ms is not None, "checked by the options"
        return Every(camera.every_ms / 1e3)
    if camera.trigger == "continuous":
        return Continuous()
    return QueuedTrigger(camera.part_length)  # into which others put what they hear
