"""A camera without hardware, whose every frame is known by construction: for tests and trials."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from stfpm_runtime.imaging.preprocessing import Image

from .base import Event, Frame, OnEvent


class FakeCamera:
    """Gives `paint(index)` as frame `index`, `fps` times a second, of which only the newest can be taken.

    It has a clock, not a thread: `next` returns the frame that is due at that time, with the number of those that were
    dropped. `fps` None: there is always a next frame. `live` false: as of a file, no frame may be dropped. After
    `frames` frames it has ended. `lose`, `regain`, `freeze` and `thaw` do what a cable does, events included.
    """

    def __init__(
        self,
        paint: Callable[[int], Image],
        fps: float | None = 30.0,
        name: str = "fake",
        frames: int | None = None,
        on_event: OnEvent = lambda event: None,
        live: bool = True,
    ) -> None:
        self._paint = paint
        self._interval_ns = round(1e9 / fps) if fps else 0
        self._name = name
        self._frames = frames
        self._on_event = on_event
        self._live = live
        self._opened_ns = time.monotonic_ns()
        self._given = -1
        self._connected = threading.Event()
        self._connected.set()
        self._closed = False

    @property
    def name(self) -> str:
        """Return the name as given."""
        return self._name

    @property
    def live(self) -> bool:
        """Return whether frames may be dropped."""
        return self._live

    def next(self, timeout_s: float) -> Frame | None:
        """Return the newest frame that was not given yet; None if none is due in time, or the camera is lost."""
        deadline_s = time.monotonic() + timeout_s
        if self.ended or not self._connected.wait(timeout_s):
            return None
        index, due_ns = self._newest()
        if (wait_s := (due_ns - time.monotonic_ns()) / 1e9) > 0:
            time.sleep(max(0.0, min(wait_s, deadline_s - time.monotonic())))
            if time.monotonic_ns() < due_ns:
                return None
        if self._frames is not None:
            index = min(index, self._frames - 1)
        dropped, self._given = index - self._given - 1, index
        return Frame(self._name, index, self._paint(index), arrived_ns=due_ns, dropped=dropped)

    @property
    def ended(self) -> bool:
        """Return whether all `frames` were given, or it was closed."""
        return self._closed or (self._frames is not None and self._given + 1 >= self._frames)

    def close(self) -> None:
        """Give no more."""
        self._closed = True
        self._connected.set()

    def lose(self, reason: str = "the cable is out") -> None:
        """Give nothing until it is regained."""
        self._connected.clear()
        self._on_event(Event(self._name, "lost", reason))

    def regain(self) -> None:
        """Give frames again."""
        self._on_event(Event(self._name, "regained"))
        self._connected.set()

    def freeze(self) -> None:
        """Report that its frames are all the same; they go on coming."""
        self._on_event(Event(self._name, "frozen", "the same frame for 5 s"))

    def thaw(self) -> None:
        """Report that its frames differ again."""
        self._on_event(Event(self._name, "thawed"))

    def _newest(self) -> tuple[int, int]:
        """Return number and time of arrival, in ns, of the newest frame or of the one to wait for."""
        if not self._interval_ns:
            return self._given + 1, time.monotonic_ns()
        due = (time.monotonic_ns() - self._opened_ns) // self._interval_ns
        index = max(self._given + 1, due)
        return index, self._opened_ns + index * self._interval_ns
