"""What `LiveSource` asks of a camera; one module for each kind has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]


class CameraLostError(Exception):
    """A camera cannot be opened, or gives no more: the reason in words, without credentials. Never leaves a source."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame as it came: little work was done on it, as it may be dropped."""

    raw: Pixels
    """An array of its own, which no next frame overwrites."""
    develop: Callable[[Pixels], Pixels]
    """Makes of it what `to_bgr8` takes. Raises ImageError."""
    size: str
    """Width and height as people write them: 640x480."""


class Camera(Protocol):
    """An open camera. One thread uses it."""

    def read(self) -> Shot | None:
        """The next frame; None where none came for a moment. Raises CameraLostError where none will."""
        ...

    def close(self) -> None:
        """Give the device back. May take long when the peer is gone."""
        ...


OpenCamera = Callable[[], Camera]
"""Opens it, or raises CameraLostError."""


class Stillness:
    """How long a camera's frames have been the same to the last bit."""

    def __init__(self) -> None:
        self._last: Pixels = np.empty(0, np.uint8)
        self._since_ns = 0

    def still_s(self, raw: Pixels, now_ns: int) -> float:
        """Seconds since the first of the equal frames that end with this one; 0 for one that differs."""
        if not _equal(self._last, raw):
            self._last, self._since_ns = raw, now_ns
        return (now_ns - self._since_ns) / 1e9


def _equal(a: Pixels, b: Pixels) -> bool:
    """Whether two frames are the same; a sample of rows settles it for all but frozen ones, at next to no cost."""
    if a.shape != b.shape or a.dtype != b.dtype or not a.size:
        return False
    step = max(1, a.shape[0] // 16)
    return np.array_equal(a[::step], b[::step]) and np.array_equal(a, b)
