"""GigE Vision and USB3 Vision cameras, through Aravis: with their own pixels, and told at once when control is lost."""

from __future__ import annotations

import contextlib
import threading
from functools import partial

import numpy as np

from stfpm_runtime.errors import ImageError, OptionError

from .address import Address
from .aravis_library import CONTROL_LOST, LIBRARY, Aravis, AravisError
from .camera import CameraLostError, OpenCamera, Pixels, RawFrame
from .options import SourceOptions
from .pixel_formats import to_picture

BUFFERS = 8
"""Frames that the library may fill while the thread copies one."""
POLL_US = 100_000
"""How long one wait for a frame takes; between two of them the thread looks whether it is to end."""
CONTINUOUS = 0
"""ARV_ACQUISITION_MODE_CONTINUOUS"""
_UNKNOWN, _SUCCESS, _CLEARED, _ABORTED = -1, 0, 1, 7
_STATUS = {
    2: "it did not come in time", 3: "packets are missing", 4: "a packet has a wrong number",
    5: "its size differs from the camera's payload", 6: "it was not filled completely", 8: "it is no picture",
}  # fmt: skip
"""ArvBufferStatus of Aravis 0.8, GigE Vision and USB3 Vision alike."""
_OPENING = threading.Lock()  # the library's list of devices is for one thread


def aravis_opener(address: Address, options: SourceOptions) -> OpenCamera:
    """How to open the camera. Raises OptionError where the library is not installed."""
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
        self._device = device
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
        """The next frame that came; one that is not whole has no pixels, but the reason, when developed."""
        buffer = self._library.arv_stream_timeout_pop_buffer(self._stream, POLL_US)
        if buffer is None:
            if self._lost.is_set():
                raise CameraLostError("the camera does not answer any more, or another program controls it")
            return None
        try:
            return self._shot(buffer)
        finally:
            self._library.arv_stream_push_buffer(self._stream, buffer)

    def _shot(self, buffer: int) -> RawFrame | None:
        library, status = self._library, self._library.arv_buffer_get_status(buffer)
        if status in (_UNKNOWN, _CLEARED, _ABORTED):
            return None
        if status != _SUCCESS:
            return RawFrame(np.empty(0, np.uint8), partial(_broken, _STATUS.get(status, f"status {status}")), "0x0")
        width, height = library.arv_buffer_get_image_width(buffer), library.arv_buffer_get_image_height(buffer)
        data = np.frombuffer(library.copy_data(buffer), np.uint8)
        code, padding = library.arv_buffer_get_image_pixel_format(buffer), library.row_padding(buffer)
        develop = partial(to_picture, code=code, height=height, width=width, row_padding=padding)
        return RawFrame(data, develop, f"{width}x{height}", number=library.frame_number(buffer))

    def close(self) -> None:
        """Stop and give the camera back; takes seconds where it does not answer any more."""
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


def _broken(why: str, raw: Pixels) -> Pixels:
    raise ImageError(f"the frame is not whole: {why}; check cable, network and packet size")
