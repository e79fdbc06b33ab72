"""Cameras that OpenCV reads: V4L2 devices, network streams through its FFmpeg, GStreamer pipelines where it has it."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import cv2

from stfpm_runtime.errors import OptionError

from .address import Address
from .base import SourceOptions
from .camera import NEVER_S, CameraLostError, OpenCamera, RawFrame, jpeg_frame, lost_after

_JPEG_CODES = [cv2.VideoWriter.fourcc(*name) for name in ("MJPG", "JPEG")]
UNCHECKED = {
    "stream": "frames with lost or damaged data look like whole ones; pip install 'stfpm-edge[video]'",
    "gstreamer": "frames that the pipeline's decoder repaired look like whole ones",
}
"""What damage OpenCV does not show, by the kind of address."""
_BACKENDS = {"v4l2": cv2.CAP_V4L2, "stream": cv2.CAP_FFMPEG, "gstreamer": cv2.CAP_GSTREAMER}


def opencv_opener(address: Address, options: SourceOptions) -> OpenCamera:
    """Return the function that opens the camera. Raises OptionError where this OpenCV cannot open that kind."""
    backend = _BACKENDS[address.kind]
    if not cv2.videoio_registry.hasBackend(backend):
        raise OptionError(
            f"{address.name}: this OpenCV is built without {cv2.videoio_registry.getBackendName(backend)}, as PyPI's "
            "are without GStreamer; use your system's: apt install python3-opencv, and a virtual environment made "
            "with --system-site-packages and without opencv-python-headless"
        )
    return partial(OpenCvCamera, address, options)


class OpenCvCamera:
    """An open `cv2.VideoCapture`. Raises CameraLostError where there is none, without OpenCV's text about it."""

    on_demand = False

    def __init__(self, address: Address, options: SourceOptions) -> None:
        # The libraries' own messages hold addresses with their passwords. FFmpeg's can be asked for by the variable.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        if address.kind == "v4l2" and not Path(address.target).exists():
            raise CameraLostError("no such device; check that the camera is plugged in, and its number")
        self.unchecked = UNCHECKED.get(address.kind, "")
        self._options = options
        began_s = time.monotonic()
        try:
            self._capture = cv2.VideoCapture(address.target, _BACKENDS[address.kind], _parameters(address, options))
        except cv2.error:
            raise CameraLostError("cannot be opened: OpenCV failed") from None
        if not self._capture.isOpened():
            after_s = time.monotonic() - began_s
            raise CameraLostError(f"cannot be opened, after {after_s:.1f} s; {_REMEDIES[address.kind]}")
        _set_up(self._capture, address, options)
        self._coded = address.kind == "v4l2" and _gives_jpeg(self._capture)

    def read(self) -> RawFrame | None:
        """Return the next frame; wait for it as long as `silent_after_s` allows."""
        began_s = time.monotonic()
        try:
            there, pixels = self._capture.read()
        except cv2.error:
            raise CameraLostError("broke off: OpenCV failed") from None
        if not there:
            raise lost_after(time.monotonic() - began_s, self._options.silent_after_s)
        if self._coded:
            return jpeg_frame(pixels.tobytes().rstrip(b"\0"), self._options.max_megapixels)
        return RawFrame(pixels, lambda raw: raw, f"{pixels.shape[1]}x{pixels.shape[0]}")

    def close(self) -> None:
        """Release the device."""
        self._capture.release()


_REMEDIES = {
    "v4l2": "check that no other program uses it, and your right to: group video",
    "stream": "check address, user and password, and that the peer runs",
    "gstreamer": "check the pipeline with gst-launch-1.0; it must end in appsink",
}


def _parameters(address: Address, options: SourceOptions) -> list[int]:
    if address.kind == "v4l2":
        return []
    parameters = {
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: int(options.open_timeout_s * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC: int((options.silent_after_s or NEVER_S) * 1000),
    }
    if address.kind == "stream":
        parameters[cv2.CAP_PROP_N_THREADS] = options.decoder_threads
    return [number for pair in parameters.items() for number in pair]


def _set_up(capture: cv2.VideoCapture, address: Address, options: SourceOptions) -> None:
    """Set size and rate. A camera takes the nearest that it has: the event of its opening says the size."""
    if address.kind == "stream":
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # as with files
    if address.kind != "v4l2":
        return
    if options.fourcc:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*options.fourcc))
    sizes = {cv2.CAP_PROP_FRAME_WIDTH: options.width, cv2.CAP_PROP_FRAME_HEIGHT: options.height}
    for key, value in {**sizes, cv2.CAP_PROP_FPS: options.fps}.items():
        if value is not None:
            capture.set(key, value)


def _gives_jpeg(capture: cv2.VideoCapture) -> bool:
    """Ask a V4L2 camera in an MJPG mode for the JPEG data, not decoded; return whether it gives that."""
    if int(capture.get(cv2.CAP_PROP_FOURCC)) not in _JPEG_CODES:
        return False
    return bool(capture.set(cv2.CAP_PROP_CONVERT_RGB, 0))
