"""A frame whose JPEG bytes a camera gave: it is decoded when it is taken, and only if it is whole."""

from __future__ import annotations

import struct
from functools import partial

import numpy as np

from stfpm_runtime.errors import ImageError
from stfpm_runtime.imaging.images import decode_image
from stfpm_runtime.imaging.jpeg_data import jpeg_segments

from .camera import Pixels, RawFrame

FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
START_OF_SCAN = 0xDA
NOT_WHOLE = "check cable, network and the load of the bus"
"""The remedy for a frame that did not come whole."""


def jpeg_frame(data: bytes, max_megapixels: float, arrived_ns: int = 0) -> RawFrame:
    """Return the frame of these bytes. When developed, it raises ImageError if they are no whole picture.

    Repeated frames are found by the coded pixels: a time in a JPEG's header or comment makes no other picture.
    """
    size, scan = "0x0", 0
    for marker, start, _ in jpeg_segments(data):
        if marker in FRAME_HEADERS and len(data) >= start + 5:
            height, width = struct.unpack_from(">HH", data, start + 1)
            size = f"{width}x{height}"
        elif marker == START_OF_SCAN:
            scan = start
            break
    raw = np.frombuffer(data, np.uint8)
    return RawFrame(
        raw, partial(_decode, max_megapixels=max_megapixels), size, content=raw[scan:], arrived_ns=arrived_ns
    )


def damaged_frame(reason: str, arrived_ns: int = 0) -> RawFrame:
    """Return a frame without pixels, which raises ImageError with the reason when it is developed."""
    return RawFrame(np.empty(0, np.uint8), partial(_raise, reason), "0x0", arrived_ns=arrived_ns)


def _decode(raw: Pixels, max_megapixels: float) -> Pixels:
    try:
        return decode_image(raw.tobytes(), "the frame", max_megapixels=max_megapixels)
    except ImageError as error:
        reason = (
            str(error)
            .removeprefix("the frame: ")
            .removesuffix("; copy it again")
            .replace("the file ends", "its data ends")
        )
        raise ImageError(f"the frame is not whole: {reason}; {NOT_WHOLE}") from None


def _raise(reason: str, raw: Pixels) -> Pixels:
    raise ImageError(reason)
