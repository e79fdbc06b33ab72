"""Cameras through OpenCV: V4L2, RTSP and HTTP streams through FFmpeg, and GStreamer where OpenCV was built with it."""

from __future__ import annotations

import contextlib
import os
import threading

import cv2

from ..errors import OptionError
from ..preprocessing import Image
from .addresses import kind_of, shown
from .camera import CameraError

OPEN_MS = 5000
"""A peer that does not answer for so long is not there."""
RTSP = "rtsp_transport;tcp"
"""Over UDP a lost packet is a torn picture, which looks like a defect."""
OPENING = threading.Lock()
"""FFmpeg's options stand in the environment, which all threads share."""


def check_supported(address: str) -> None:
    """Raise OptionError for a pipeline where OpenCV has no GStreamer."""
    if kind_of(address) == "gstreamer" and not _has_gstreamer():
        raise OptionError(
            f"got the GStreamer pipeline {shown(address)!r}, and this OpenCV was built without GStreamer (pip's is); "
            "use JetPack's or Debian's python3-opencv, or a URL"
        )


class OpenCvCamera:
    """One camera or stream."""

    def __init__(self, address: str, silent_after_s: float) -> None:
        self._address = address
        self._read_ms = max(100, round(1000 * silent_after_s))
        self._capture: cv2.VideoCapture | None = None

    def open(self) -> None:
        """Connect. Raises CameraError where there is no camera, or it does not answer within five seconds."""
        kind = kind_of(self._address)
        try:
            if kind == "v4l2":
                capture = cv2.VideoCapture(self._device(), cv2.CAP_V4L2)
                capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            elif kind == "gstreamer":
                capture = cv2.VideoCapture(self._address, cv2.CAP_GSTREAMER)
            else:
                capture = self._open_stream()
        except cv2.error as error:
            raise CameraError(f"cannot be opened ({type(error).__name__})") from None
        self._capture = capture
        if not capture.isOpened():
            raise CameraError("cannot be opened; is it there, is the address right, are user and password?")

    def read(self) -> Image | None:
        """The next frame."""
        assert self._capture is not None, "opened"
        try:
            is_there, image = self._capture.read()
        except cv2.error as error:
            raise CameraError(f"cannot be read ({type(error).__name__})") from None
        if not is_there:
            raise CameraError("gives no more frames")
        return image  # type: ignore[return-value]

    def close(self) -> None:
        """Disconnect."""
        if self._capture is not None:
            with contextlib.suppress(cv2.error):
                self._capture.release()
            self._capture = None

    def _device(self) -> int | str:
        return int(self._address) if self._address.isdecimal() else self._address

    def _open_stream(self) -> cv2.VideoCapture:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, self._read_ms]
        with OPENING:
            os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET: its log would name the password
            if self._address.startswith("rtsp"):
                os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", RTSP)
            return cv2.VideoCapture(self._address, cv2.CAP_FFMPEG, limits)


def _has_gstreamer() -> bool:
    lines = (line.split() for line in cv2.getBuildInformation().splitlines())
    return any(words[:2] == ["GStreamer:", "YES"] for words in lines)
