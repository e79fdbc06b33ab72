"""GigE Vision and USB3 Vision cameras, through Aravis's C library: no Python bindings need to be installed."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from functools import partial
from typing import Any

import numpy as np

from stfpm_runtime.errors import OptionError

from .address import Address
from .base import SourceOptions
from .camera import CameraLostError, OpenCamera, RawFrame, damaged_frame
from .pixel_formats import to_picture

BUFFERS = 8
"""Frames that the library may fill while the thread copies one."""
POLL_US = 100_000
"""How long one wait for a frame takes; between two waits the thread checks whether it must stop."""
CONTINUOUS = 0
"""ARV_ACQUISITION_MODE_CONTINUOUS"""
_UNKNOWN, _SUCCESS, _CLEARED, _ABORTED = -1, 0, 1, 7
_STATUS = {
    2: "it did not come in time", 3: "packets are missing", 4: "a packet has a wrong number",
    5: "its size differs from the camera's payload", 6: "it was not filled completely", 8: "it is no picture",
}  # fmt: skip
"""ArvBufferStatus of Aravis 0.8, the same for GigE Vision and USB3 Vision."""
_OPENING = threading.Lock()  # the library's list of devices is for one thread

LIBRARY = "libaravis-0.8.so.0"
_ERROR = POINTER(c_void_p)
_P = c_void_p
_SIGNATURES: tuple[tuple[Any, str, list[Any]], ...] = (  # result, functions, arguments
    (_P, "arv_camera_new", [c_char_p, _ERROR]),
    (_P, "arv_camera_get_device", [_P]),
    (_P, "arv_camera_create_stream", [_P, _P, _P, _ERROR]),
    (c_uint, "arv_camera_get_payload", [_P, _ERROR]),
    (None, "arv_camera_set_acquisition_mode", [_P, c_int, _ERROR]),
    (None, "arv_camera_start_acquisition arv_camera_stop_acquisition", [_P, _ERROR]),
    (c_int, "arv_device_set_features_from_string", [_P, c_char_p, _ERROR]),
    (_P, "arv_buffer_new_allocate", [c_size_t]),
    (_P, "arv_buffer_get_data", [_P, POINTER(c_size_t)]),
    (c_int, "arv_buffer_get_status arv_buffer_get_image_width arv_buffer_get_image_height", [_P]),
    (c_uint32, "arv_buffer_get_image_pixel_format", [_P]),
    (c_uint64, "arv_buffer_get_frame_id arv_buffer_get_timestamp", [_P]),
    (None, "arv_stream_push_buffer", [_P, _P]),
    (_P, "arv_stream_timeout_pop_buffer", [_P, c_uint64]),
    (None, "g_object_unref g_error_free", [_P]),
    (c_uint64, "g_signal_connect_data", [_P, c_char_p, _P, _P, _P, c_int]),
    (None, "g_signal_handler_disconnect", [_P, c_uint64]),
)
CONTROL_LOST = ctypes.CFUNCTYPE(None, c_void_p, c_void_p)
"""What the signal `control-lost` of a device calls, from a thread of the library's own."""


def aravis_opener(address: Address, options: SourceOptions) -> OpenCamera:
    """Return the function that opens the camera. Raises OptionError where the library is not installed."""
    try:
        library = Aravis()
    except (OSError, AttributeError):
        raise OptionError(
            f"{address.name}: needs {LIBRARY}, Aravis 0.8, which is not installed; "
            "on Debian and Ubuntu: apt install libaravis-0.8-0"
        ) from None
    return partial(AravisCamera, library, address.target, options)


class AravisCamera:
    """A camera that is acquiring. Raises CameraLostError where there is none."""

    on_demand = False
    unchecked = ""

    def __init__(self, library: Aravis, device: str, options: SourceOptions) -> None:
        self._library = library
        self._lost = threading.Event()
        self._callback = CONTROL_LOST(lambda device, data: self._lost.set())
        self._handler = 0
        self._stream: int | None = None
        try:
            with _OPENING:
                self._camera: int | None = library.call("arv_camera_new", device.encode() or None)
            if not self._camera:
                raise AravisError("no such camera")
        except AravisError as error:
            raise CameraLostError(f"cannot be opened ({error}); check power, network and address") from None
        try:
            self._start(options)
        except AravisError as error:
            self.close()
            raise CameraLostError(f"cannot be started ({error})") from None

    def _start(self, options: SourceOptions) -> None:
        library = self._library
        self._source = library.arv_camera_get_device(self._camera)
        self._handler = library.g_signal_connect_data(self._source, b"control-lost", self._callback, None, None, 0)
        if options.features:
            library.call("arv_device_set_features_from_string", self._source, options.features.encode())
        library.call("arv_camera_set_acquisition_mode", self._camera, CONTINUOUS)
        payload = library.call("arv_camera_get_payload", self._camera)
        self._stream = library.call("arv_camera_create_stream", self._camera, None, None)
        for _ in range(BUFFERS):
            library.arv_stream_push_buffer(self._stream, library.arv_buffer_new_allocate(payload))
        library.call("arv_camera_start_acquisition", self._camera)

    def read(self) -> RawFrame | None:
        """Return the next frame; one that is not whole has the reason in place of pixels."""
        buffer = self._library.arv_stream_timeout_pop_buffer(self._stream, POLL_US)
        if buffer is None:
            if self._lost.is_set():
                raise CameraLostError("the camera does not answer any more, or another program controls it")
            return None
        try:
            return self._raw_frame(buffer)
        finally:
            self._library.arv_stream_push_buffer(self._stream, buffer)

    def _raw_frame(self, buffer: int) -> RawFrame | None:
        library, status = self._library, self._library.arv_buffer_get_status(buffer)
        if status in (_UNKNOWN, _CLEARED, _ABORTED):
            return None
        if status != _SUCCESS:
            why = _STATUS.get(status, f"status {status}")
            return damaged_frame(f"the frame is not whole: {why}; check cable, network and packet size")
        width, height = library.arv_buffer_get_image_width(buffer), library.arv_buffer_get_image_height(buffer)
        data = np.frombuffer(library.copy_data(buffer), np.uint8)
        code, padding = library.arv_buffer_get_image_pixel_format(buffer), library.row_padding(buffer)
        decode = partial(to_picture, code=code, height=height, width=width, row_padding=padding)
        return RawFrame(data, decode, f"{width}x{height}", number=library.frame_number(buffer))

    def close(self) -> None:
        """Stop and close the camera; takes seconds where it does not answer any more."""
        library = self._library
        if self._camera is None:
            return
        if self._stream is not None:
            with contextlib.suppress(AravisError):  # it is gone
                library.call("arv_camera_stop_acquisition", self._camera)
            library.g_object_unref(self._stream)
        if self._handler:
            library.g_signal_handler_disconnect(self._source, self._handler)
        library.g_object_unref(self._camera)
        self._camera = self._stream = None


class AravisError(Exception):
    """The library reports an error: its text."""


class _GError(ctypes.Structure):
    _fields_ = (("domain", c_uint32), ("code", c_int), ("message", c_char_p))


class Aravis:
    """Calls the C library. Raises OSError where it is not installed, AttributeError where it is too old."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        for result, names, arguments in _SIGNATURES:
            for name in names.split():
                function = getattr(self._library, name)
                function.restype, function.argtypes = result, arguments
        self._has_padding = hasattr(self._library, "arv_buffer_get_image_padding")  # since 0.8.21

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(self._library, name)
        return function

    def call(self, name: str, *arguments: object) -> Any:  # noqa: ANN401 (what C gives)
        """Call a function whose last argument is a GError. Raises AravisError when it sets that."""
        error = c_void_p()
        result = getattr(self._library, name)(*arguments, ctypes.byref(error))
        if error.value:
            message = ctypes.cast(error, POINTER(_GError)).contents.message or b""
            text = " ".join(message.decode("utf-8", "replace").split())
            self._library.g_error_free(error)
            if result and name in ("arv_camera_new", "arv_camera_create_stream"):
                self._library.g_object_unref(result)
            raise AravisError(text or f"{name} failed")
        return result

    def copy_data(self, buffer: int) -> bytes:
        """Return the bytes of a buffer."""
        size = c_size_t()
        data = self._library.arv_buffer_get_data(buffer, ctypes.byref(size))
        return ctypes.string_at(data, size.value) if data else b""

    def frame_number(self, buffer: int) -> int | None:
        """Return one number from the camera's frame counter and time stamp; None where it has neither."""
        counter = self._library.arv_buffer_get_frame_id(buffer)
        stamp_ns = self._library.arv_buffer_get_timestamp(buffer)
        return (stamp_ns << 64 | counter) or None

    def row_padding(self, buffer: int) -> int:
        """Return the number of bytes at the end of each row that belong to no pixel."""
        x, y = c_int(), c_int()
        if self._has_padding:
            self._library.arv_buffer_get_image_padding(c_void_p(buffer), ctypes.byref(x), ctypes.byref(y))
        return x.value
