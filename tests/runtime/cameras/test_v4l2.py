"""V4L2 cameras in an MJPG mode: the JPEG data is taken undecoded and checked. The driver is a stand-in."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stfpm_runtime.errors import ImageError
from stfpm_runtime.sources.address import Address
from stfpm_runtime.sources.base import SourceOptions
from stfpm_runtime.sources.opencv import OpenCvCamera


class Capture:
    """OpenCV's capture of a camera that gives JPEG; undecoded where CONVERT_RGB is off, as its V4L2 back end does."""

    data = b""

    def __init__(self, *arguments):
        self.properties = {cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"MJPG")), cv2.CAP_PROP_CONVERT_RGB: 1.0}

    def isOpened(self):  # noqa: N802 (OpenCV's name)
        return True

    def get(self, key):
        return self.properties.get(key, 0.0)

    def set(self, key, value):
        self.properties[key] = value
        return True

    def read(self):
        raw = np.frombuffer(self.data, np.uint8)[None]
        return True, raw if not self.properties[cv2.CAP_PROP_CONVERT_RGB] else cv2.imdecode(raw, cv2.IMREAD_COLOR)

    def release(self):
        pass


@pytest.mark.parametrize("share", [1.0, 0.45])
def test_torn_frame_of_an_mjpg_camera_is_an_error(monkeypatch, share):
    whole = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))[1].tobytes()
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    monkeypatch.setattr(Capture, "data", whole[: int(len(whole) * share)])
    camera = OpenCvCamera(Address("v4l2", "/dev/null", "/dev/null"), SourceOptions(fourcc="MJPG"))
    frame = camera.read()
    if share == 1.0:
        assert frame.decode(frame.raw).shape == (48, 64, 3)
        assert frame.size == "64x48"
    else:
        with pytest.raises(ImageError, match="the frame is not whole"):
            frame.decode(frame.raw)
    camera.close()
