"""The one newest-frame mailbox, between a thread that puts frames into it and one that takes them."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Generic, TypeVar


@dataclass(eq=False, kw_only=True)
class Droppable:
    """A frame that a mailbox holds."""

    droppable: bool = False
    """Whether a newer one of the same camera may replace it before it is taken."""
    dropped: int = 0
    """Frames of the camera that were dropped since the one that was taken before."""


T = TypeVar("T", bound=Droppable)


class FrameMailbox(Generic[T]):
    """Holds the newest frame of each camera until it is taken. For any number of threads.

    A line uses it twice, as decoding and inference may both be slower than the camera. A live source's mailbox holds
    raw frames: the driver's thread never waits for the decoder, so that no old frames queue in the driver. The line's
    mailbox holds decoded frames: decoding goes on during inference, and the frames of all cameras are judged together.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frames: dict[str, T] = {}
        self._cleared: Counter[str] = Counter()  # frames that `clear` dropped since the last one that was put
        self._wanted = self._woken = False
        self._closed = False

    def put(self, camera: str, frame: T) -> bool:
        """Add a frame. It replaces one of the same camera where both are droppable; else wait until that is taken.

        Return False when the mailbox is closed.
        """
        with self._changed:
            while waiting := self._frames.get(camera):
                if self._closed or (waiting.droppable and frame.droppable):
                    break
                self._changed.wait()
            if self._closed:
                return False
            frame.dropped += self._cleared.pop(camera, 0) + (waiting.dropped + 1 if waiting else 0)
            self._frames[camera] = frame
            self._wanted = False
            self._changed.notify_all()
            return True

    def pop_all(self, timeout_s: float) -> list[T]:
        """Return all frames that wait, at most one of each camera; none where none comes in time, or at `wake`."""
        with self._changed:
            if not self._frames and not self._closed:
                self._wanted = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._frames or self._closed or self._woken, timeout_s)
            self._woken = False
            return self._take_all()

    def wake(self) -> None:
        """Make `pop_all` return at once, or its next call where none waits."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def wait_until_wanted(self, timeout_s: float) -> bool:
        """Return whether `pop_all` was called for a frame that did not come yet. One request is for one frame."""
        with self._changed:
            return self._changed.wait_for(lambda: self._wanted, timeout_s)

    def clear(self, camera: str) -> None:
        """Drop the frame that waits, and the request for one: the camera is gone, and it would be old when taken."""
        with self._changed:
            if waiting := self._frames.pop(camera, None):
                self._cleared[camera] += waiting.dropped + 1
            self._wanted = False

    def close(self) -> list[T]:
        """End all waiting, accept no more frames, and return those that were not taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self._take_all()

    def _take_all(self) -> list[T]:
        frames = list(self._frames.values())
        self._frames.clear()
        self._changed.notify_all()
        return frames
