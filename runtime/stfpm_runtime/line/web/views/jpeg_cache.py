"""A cache of the pictures that the dashboard shows, encoded as JPEG."""

from __future__ import annotations

import threading
from collections import OrderedDict

import cv2
import numpy as np

from stfpm_runtime.imaging.overlay import draw_overlay
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.line.observers.status import LatestVerdict

QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 80]
KEPT = 32
"""The most pictures in the cache; the oldest is dropped first."""
Key = tuple[str, str, int, bool, int]
"""Camera, region, when the frame was judged in ns, whether the map is drawn, width."""


class JpegCache:
    """Draws one picture at a time, so that viewers do not take the line's cores. All methods are for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # the loop's thread never takes it
        self._drawn: OrderedDict[Key, bytes] = OrderedDict()

    def draw(self, latest: LatestVerdict, with_map: bool, width: int) -> bytes:
        """Return the picture of a verdict as JPEG, at most `width` pixels wide, with its anomaly map or without."""
        entry = latest.row
        key = (
            entry.camera,
            entry.region,
            entry.monotonic_ns,
            with_map,
            width,
        )  # without a journal no verdict has a number
        with self._lock:
            if key not in self._drawn:
                self._drawn[key] = _draw(latest, with_map, width)
                while len(self._drawn) > KEPT:
                    self._drawn.popitem(last=False)
            return self._drawn[key]

    def encode(self, image: Image, width: int) -> bytes:
        """Return an image, uint8 [H, W, 3], as JPEG, at most `width` pixels wide."""
        with self._lock:
            return _jpeg(fit(image, width))

    def shrink(self, data: bytes, width: int) -> bytes:
        """Return a picture file as JPEG, at most `width` pixels wide; the same bytes where it cannot be read."""
        with self._lock:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            return data if image is None else _jpeg(fit(image, width))  # type: ignore[arg-type]


def fit(image: Image, width: int) -> Image:
    """Shrink an image, uint8 [H, W, 3], to at most `width` pixels wide and twice as many high, and return it."""
    scale = min(1.0, width / image.shape[1], 2 * width / image.shape[0])
    if scale == 1.0:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _draw(latest: LatestVerdict, with_map: bool, width: int) -> bytes:
    assert latest.image is not None, "the caller has checked it"
    small = fit(latest.image, width)  # first, so that drawing and encoding are cheap
    if not with_map:
        return _jpeg(small)
    verdict, decision = latest.verdict, latest.row.decision  # the decision after the debounce
    return _jpeg(draw_overlay(small, decision, verdict.score, verdict.threshold, verdict.anomaly_map, verdict.reason))


def _jpeg(image: Image) -> bytes:
    return cv2.imencode(".jpg", image, QUALITY)[1].tobytes()
