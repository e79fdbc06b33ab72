"""Aravis's C library, as far as we need it: no bindings, so that any Python in any environment can use it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from typing import Any

LIBRARY = "libaravis-0.8.so.0"

_ERROR = POINTER(c_void_p)
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "arv_camera_new": (c_void_p, [c_char_p, _ERROR]),
    "arv_camera_get_device": (c_void_p, [c_void_p]),
    "arv_camera_create_stream": (c_void_p, [c_void_p, c_void_p, c_void_p, _ERROR]),
    "arv_camera_get_payload": (c_uint, [c_void_p, _ERROR]),
    "arv_camera_set_acquisition_mode": (None, [c_void_p, c_int, _ERROR]),
    "arv_camera_start_acquisition": (None, [c_void_p, _ERROR]),
    "arv_camera_stop_acquisition": (None, [c_void_p, _ERROR]),
    "arv_device_set_features_from_string": (c_int, [c_void_p, c_char_p, _ERROR]),
    "arv_buffer_new_allocate": (c_void_p, [c_size_t]),
    "arv_buffer_get_status": (c_int, [c_void_p]),
    "arv_buffer_get_data": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "arv_buffer_get_image_width": (c_int, [c_void_p]),
    "arv_buffer_get_image_height": (c_int, [c_void_p]),
    "arv_buffer_get_image_pixel_format": (c_uint32, [c_void_p]),
    "arv_buffer_get_frame_id": (c_uint64, [c_void_p]),
    "arv_buffer_get_timestamp": (c_uint64, [c_void_p]),
    "arv_stream_push_buffer": (None, [c_void_p, c_void_p]),
    "arv_stream_timeout_pop_buffer": (c_void_p, [c_void_p, c_uint64]),
    "g_object_unref": (None, [c_void_p]),
    "g_error_free": (None, [c_void_p]),
    "g_signal_connect_data": (c_uint64, [c_void_p, c_char_p, c_void_p, c_void_p, c_void_p, c_int]),
    "g_signal_handler_disconnect": (None, [c_void_p, c_uint64]),
}
_OPTIONAL: dict[str, tuple[Any, list[Any]]] = {  # since 0.8.21
    "arv_buffer_get_image_padding": (None, [c_void_p, POINTER(c_int), POINTER(c_int)]),
}

CONTROL_LOST = ctypes.CFUNCTYPE(None, c_void_p, c_void_p)
"""What the signal `control-lost` of a device calls, from a thread of the library's own."""


class AravisError(Exception):
    """What the library says went wrong."""


class _GError(ctypes.Structure):
    _fields_ = (("domain", c_uint32), ("code", c_int), ("message", c_char_p))


class Aravis:
    """The library. Raises OSError where it is not installed, AttributeError where it is too old."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        self.has_padding = hasattr(self._library, "arv_buffer_get_image_padding")
        if self.has_padding:
            function = self._library.arv_buffer_get_image_padding
            function.restype, function.argtypes = _OPTIONAL["arv_buffer_get_image_padding"]

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
        """The bytes of a buffer."""
        size = c_size_t()
        data = self._library.arv_buffer_get_data(buffer, ctypes.byref(size))
        return ctypes.string_at(data, size.value) if data else b""

    def frame_number(self, buffer: int) -> int | None:
        """Return one number from the camera's frame counter and time stamp; None where it has neither."""
        counter, stamp_ns = (
            self._library.arv_buffer_get_frame_id(buffer),
            self._library.arv_buffer_get_timestamp(buffer),
        )
        return (stamp_ns << 64 | counter) or None

    def row_padding(self, buffer: int) -> int:
        """Bytes at the end of each row that belong to no pixel."""
        if not self.has_padding:
            return 0
        x, y = c_int(), c_int()
        self._library.arv_buffer_get_image_padding(buffer, ctypes.byref(x), ctypes.byref(y))
        return x.value
