"""What `LiveSource` asks of a camera, which one module for each kind implements; and frames as JPEG data."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from stfpm_runtime.errors import ImageError
from stfpm_runtime.imaging.images import decode_image
from stfpm_runtime.imaging.jpeg_data import jpeg_segments

from .base import Pixels

NEVER_S = 3600.0
"""The longest wait for a frame where a camera may be silent for any time (`silent_after_s` 0)."""
NOT_WHOLE = "check cable, network and the load of the bus"
"""The remedy for a frame that did not come whole."""
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA


class CameraLostError(Exception):
    """A camera cannot be opened, or gives no more frames: the reason, without credentials. Never leaves a source."""


@dataclass(frozen=True, eq=False)
class RawFrame:
    """One frame as the camera gave it, not decoded yet, as it may be dropped."""

    raw: Pixels
    """An array that no later frame overwrites."""
    decode: Callable[[Pixels], Pixels]
    """Makes of `raw` what `to_bgr8` takes. Raises ImageError."""
    size: str
    """Width and height, such as 640x480."""
    content: Pixels | None = None
    """What repeated frames are found by; None: `raw`."""
    arrived_ns: int = 0
    """`time.monotonic_ns()`, before which the picture may have been taken; 0: when it is read."""
    number: int | None = None
    """The camera's own number or time stamp of the frame: two frames with the same one are the same picture."""


class Camera(Protocol):
    """An open camera. One thread uses it."""

    on_demand: bool
    """Whether each `read` asks the camera for a picture, so that it is called for pictures that are wanted only."""
    unchecked: str
    """What damage of its frames cannot be found, and the remedy; empty if none is known."""

    def read(self) -> RawFrame | None:
        """Return the next frame; None where none came for a moment. Raises CameraLostError where none will come."""
        ...

    def close(self) -> None:
        """Close the device. May take long when the peer is gone."""
        ...


OpenCamera = Callable[[], Camera]
"""Opens a camera, or raises CameraLostError."""


def lost_after(waited_s: float, silent_after_s: float) -> CameraLostError:
    """Return the error for a stream that gave no frame: it was silent too long, or ended before that."""
    silent = silent_after_s and waited_s > 0.9 * silent_after_s
    return CameraLostError(f"no frame for {waited_s:.1f} s" if silent else "the stream ended or broke off")


def jpeg_frame(data: bytes, max_megapixels: float, arrived_ns: int = 0) -> RawFrame:
    """Return the frame of this JPEG data. Decoding it raises ImageError if it is no whole picture.

    Repeated frames are found by the coded pixels: a time in a JPEG's header or comment makes no other picture.
    """
    size, scan = "0x0", 0
    for marker, start, _ in jpeg_segments(data):
        if marker in _FRAME_HEADERS and len(data) >= start + 5:
            height, width = struct.unpack_from(">HH", data, start + 1)
            size = f"{width}x{height}"
        elif marker == _START_OF_SCAN:
            scan = start
            break
    raw = np.frombuffer(data, np.uint8)
    return RawFrame(raw, partial(_decode_jpeg, max_megapixels=max_megapixels), size, raw[scan:], arrived_ns)


def damaged_frame(reason: str) -> RawFrame:
    """Return a frame without pixels. Decoding it raises ImageError with the reason."""
    return RawFrame(np.empty(0, np.uint8), partial(_raise, reason), "0x0")


def _decode_jpeg(raw: Pixels, max_megapixels: float) -> Pixels:
    try:
        return decode_image(raw.tobytes(), "the frame", max_megapixels=max_megapixels)
    except ImageError as error:
        reason = str(error).removeprefix("the frame: ").removesuffix("; copy it again")
        reason = reason.replace("the file ends", "its data ends")
        raise ImageError(f"the frame is not whole: {reason}; {NOT_WHOLE}") from None


def _raise(reason: str, raw: Pixels) -> Pixels:
    raise ImageError(reason)
