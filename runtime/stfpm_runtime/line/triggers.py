"""What asks for a verdict. A new kind is one class with `wait`, and one line in `open_trigger`."""

from __future__ import annotations

import queue
import threading
import time
from typing import Protocol

from .config import CameraOptions
from .shots import Firing

WAITING = 64
"""Firings of one camera that may wait for their frames; more are refused."""


class Trigger(Protocol):
    """Belongs to one camera, whose thread waits for it."""

    def wait(self, timeout_s: float) -> Firing | None:
        """The next firing, each once; None if there is none in time."""
        ...

    def close(self) -> list[Firing]:
        """Fire no more, and give those that nobody waited for."""
        ...


class Continuous:
    """Each frame that comes is judged."""

    def wait(self, timeout_s: float) -> Firing | None:
        """At once."""
        return Firing()

    def close(self) -> list[Firing]:
        """Nothing waits."""
        return []


class Every:
    """Fires every `interval_s` seconds; a time that has passed unseen is left out, not made up for."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._due_s = time.monotonic()
        self._closed = threading.Event()

    def wait(self, timeout_s: float) -> Firing | None:
        """When it is time."""
        if self._closed.wait(max(0.0, min(self._due_s - time.monotonic(), timeout_s))):
            return None
        now_s = time.monotonic()
        if now_s < self._due_s:
            return None
        self._due_s += self._interval_s * max(1, 1 + (now_s - self._due_s) // self._interval_s)
        return Firing(time.monotonic_ns())

    def close(self) -> list[Firing]:
        """Nothing waits."""
        self._closed.set()
        return []


class Posted:
    """Fires when somebody puts a firing in: an HTTP request, and whatever else follows."""

    def __init__(self) -> None:
        self._firings: queue.Queue[Firing] = queue.Queue(WAITING)
        self._lock = threading.Lock()
        self._closed = False

    def put(self, firing: Firing) -> bool:
        """Whether it was taken: if so it is answered, come what may; if not, too many wait or the line has stopped."""
        with self._lock:
            if self._closed:
                return False
            try:
                self._firings.put_nowait(firing)
            except queue.Full:
                return False
            return True

    def wait(self, timeout_s: float) -> Firing | None:
        """The one that has waited longest."""
        try:
            return self._firings.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def close(self) -> list[Firing]:
        """Take no more, and give those that were taken."""
        with self._lock:
            self._closed = True
            firings = []
            while not self._firings.empty():
                firings.append(self._firings.get_nowait())
            return firings


def open_trigger(camera: CameraOptions) -> Continuous | Every | Posted:
    """What the camera's options name."""
    if camera.trigger == "every":
        assert camera.every_ms is not None, "checked by the options"
        return Every(camera.every_ms / 1e3)
    return Continuous() if camera.trigger == "continuous" else Posted()  # into which others put what they hear
