"""GigE Vision and USB3 Vision cameras through Aravis (https://github.com/AravisProject/aravis).

Its Python bindings are GObject introspection's, which the system has and pip has not:
apt install python3-gi gir1.2-aravis-0.8, and an environment made with --system-site-packages.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import OptionError
from ..preprocessing import Image
from .camera import CameraError

try:
    import gi

    gi.require_version("Aravis", "0.8")
    from gi.repository import Aravis, GLib
except (ImportError, ValueError):
    raise OptionError(
        "GigE and USB3 Vision cameras need Aravis: apt install python3-gi gir1.2-aravis-0.8, and a virtual environment "
        "made with --system-site-packages"
    ) from None

BUFFERS = 4
POP_US = 200_000
"""How long the thread waits for a frame before it looks around."""
OPENING = threading.Lock()
"""Aravis looks for cameras in a list that all threads share."""

Pixels = npt.NDArray[Any]


def _bayer(code: int) -> Callable[[Pixels], Pixels]:
    return lambda pixels: cv2.cvtColor(pixels, code)


def _up(bits: int) -> Callable[[Pixels], Pixels]:
    """Grey of 10 or 12 bits in 16: moved up so that white is white."""
    return lambda pixels: pixels << (16 - bits)


FORMATS: dict[str, tuple[npt.DTypeLike, int, Callable[[Pixels], Pixels]]] = {
    "Mono8": (np.uint8, 1, lambda pixels: pixels),
    "Mono10": (np.uint16, 1, _up(10)),
    "Mono12": (np.uint16, 1, _up(12)),
    "Mono16": (np.uint16, 1, lambda pixels: pixels),
    "BGR8": (np.uint8, 3, lambda pixels: pixels),
    "RGB8": (np.uint8, 3, lambda pixels: pixels[..., ::-1]),
    # OpenCV names the second row's second and third pixel, GenICam the first row's first two
    "BayerRG8": (np.uint8, 1, _bayer(cv2.COLOR_BayerBG2BGR)),
    "BayerBG8": (np.uint8, 1, _bayer(cv2.COLOR_BayerRG2BGR)),
    "BayerGR8": (np.uint8, 1, _bayer(cv2.COLOR_BayerGB2BGR)),
    "BayerGB8": (np.uint8, 1, _bayer(cv2.COLOR_BayerGR2BGR)),
}
"""GenICam's pixel format: numbers, how many for each pixel, and how they become grey or BGR."""


def decode(data: bytes, pixel_format: str, width: int, height: int) -> Image:
    """A buffer as a frame, uint8 or uint16 [H, W] or [H, W, 3] BGR; it may be longer than the picture.

    Raises CameraError for a format that we do not know, and for a buffer that is too short.
    """
    if pixel_format not in FORMATS:
        known = ", ".join(FORMATS)
        raise CameraError(f"sends {pixel_format}; expected one of {known}: set its PixelFormat")
    dtype, channels, convert = FORMATS[pixel_format]
    count = width * height * channels
    if len(data) < count * np.dtype(dtype).itemsize:
        raise CameraError(f"sent {len(data)} bytes for {width}x{height} {pixel_format}")
    pixels = np.frombuffer(data, dtype, count).reshape((height, width, channels) if channels > 1 else (height, width))
    return np.ascontiguousarray(convert(pixels))


class AravisCamera:
    """One camera, by its name as `arv-tool-0.8` lists it; an empty name is the first one found."""

    def __init__(self, name: str, silent_after_s: float) -> None:
        self._name = name
        self._camera: Any = None
        self._stream: Any = None
        self._format = ""

    def open(self) -> None:
        """Find it and begin the acquisition."""
        try:
            with OPENING:
                Aravis.update_device_list()
                self._camera = Aravis.Camera.new(self._name or None)
            if self._camera is None:
                raise CameraError("there is no such camera; arv-tool-0.8 lists those that there are")
            self._format = self._camera.get_pixel_format_as_string()
            self._stream = self._camera.create_stream(None, None)
            if self._stream is None:
                raise CameraError("gives no stream; another program may hold it")
            payload = self._camera.get_payload()
            for _ in range(BUFFERS):
                self._stream.push_buffer(Aravis.Buffer.new_allocate(payload))
            self._camera.start_acquisition()
        except GLib.Error as error:
            raise CameraError(f"cannot be opened ({error.message})") from None

    def read(self) -> Image | None:
        """The next whole frame; torn ones are passed over."""
        buffer = self._stream.timeout_pop_buffer(POP_US)
        if buffer is None:
            self._check_control()
            return None
        try:
            if buffer.get_status() != Aravis.BufferStatus.SUCCESS:
                return None
            width, height = buffer.get_image_width(), buffer.get_image_height()
            return decode(buffer.get_data(), self._format, width, height)
        finally:
            self._stream.push_buffer(buffer)

    def close(self) -> None:
        """Stop the acquisition and let go of the camera."""
        camera, self._camera, self._stream = self._camera, None, None
        if camera is not None:
            try:
                camera.stop_acquisition()
            except GLib.Error:
                return  # it is gone

    def _check_control(self) -> None:
        """Raise CameraError if this program does not control the camera any more: it was switched off, or taken."""
        device = self._camera.get_device()
        if hasattr(device, "is_controller") and not device.is_controller():
            raise CameraError("the connection is lost")
