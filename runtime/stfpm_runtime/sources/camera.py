"""What `LiveSource` asks of a camera; one module for each kind has it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]


class CameraLostError(Exception):
    """A camera cannot be opened, or gives no more: the reason in words, without credentials. Never leaves a source."""


@dataclass(frozen=True, eq=False)
class RawFrame:
    """One frame as it came: little work was done on it, as it may be dropped."""

    raw: Pixels
    """An array of its own, which no next frame overwrites."""
    develop: Callable[[Pixels], Pixels]
    """Makes of it what `to_bgr8` takes. Raises ImageError."""
    size: str
    """Width and height as people write them: 640x480."""
    content: Pixels | None = None
    """What repeated frames are found by; None: `raw`."""
    arrived_ns: int = 0
    """`time.monotonic_ns()`, before which the picture may have been taken; 0: when it is read."""
    number: int | None = None
    """The camera's own number or time stamp of the frame: two frames with the same one are the same picture."""


class Camera(Protocol):
    """An open camera. One thread uses it."""

    on_demand: bool
    """Whether each `read` asks the camera for a picture, so that it is to be called for those that are wanted only."""
    unchecked: str
    """What damage of its frames cannot be found, and the remedy; empty if none is known."""

    def read(self) -> RawFrame | None:
        """The next frame; None where none came for a moment. Raises CameraLostError where none will."""
        ...

    def close(self) -> None:
        """Give the device back. May take long when the peer is gone."""
        ...


OpenCamera = Callable[[], Camera]
"""Opens it, or raises CameraLostError."""


class FreezeDetector:
    """The last different frames of a camera, to find one that is given again. One thread uses it.

    Real frames have noise: one that equals an earlier one to the last bit shows the past, be the camera frozen or a
    ring of a few buffers that go round.
    """

    MOST = 8
    MOST_BYTES = 64 << 20
    """Frames that are kept; at least two, however large they are."""

    def __init__(self) -> None:
        self._frames: deque[Pixels] = deque()
        self._number: int | None = None
        self.differed_ns = 0
        """`time.monotonic_ns()` of the last frame that was not repeated."""

    def forget_number(self) -> None:
        """Compare the next frame by its contents alone: a camera that is opened again may number its frames anew."""
        self._number = None

    def is_repeated(self, content: Pixels, number: int | None = None) -> bool:
        """Return whether the frame equals one of the last, or has the same number; keep it if it does not."""
        same_number = number is not None and number == self._number
        self._number = number
        if any(_equal(frame, content) for frame in self._frames):
            return True
        self._frames.appendleft(content)
        while len(self._frames) > max(2, min(self.MOST, self.MOST_BYTES // max(1, content.nbytes))):
            self._frames.pop()
        if not same_number:
            self.differed_ns = time.monotonic_ns()
        return same_number


def _equal(a: Pixels, b: Pixels) -> bool:
    """Return whether two frames are the same. Some rows settle it for all but frozen ones, at next to no cost."""
    if a.shape != b.shape or a.dtype != b.dtype or not a.size:
        return False
    step = max(1, a.shape[0] // 16)  # bytes of a coded frame are rows, too
    return np.array_equal(a[::step], b[::step]) and np.array_equal(a, b)
