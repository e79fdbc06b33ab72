"""Pictures as JPEG, drawn when somebody asks, and once for all who ask."""

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
"""Drawn pictures: one each of what is looked at."""
Key = tuple[str, str, int, bool, int]
"""Camera, region, the verdict's number, whether with the map, width."""


class JpegCache:
    """Draws one picture at a time: whoever looks must not take the line's cores."""

    def __init__(self) -> None:
        self._one = threading.Lock()  # the loop has no part in it
        self._drawn: OrderedDict[Key, bytes] = OrderedDict()

    def draw(self, latest: LatestVerdict, with_map: bool, width: int) -> bytes:
        """The newest picture of a place, at most so wide, with its map or without."""
        entry = latest.row
        key = entry.camera, entry.region, entry.seq, with_map, width
        with self._one:
            if key not in self._drawn:
                self._drawn[key] = _draw(latest, with_map, width)
                while len(self._drawn) > KEPT:
                    self._drawn.popitem(last=False)
            return self._drawn[key]

    def shrink(self, data: bytes, width: int) -> bytes:
        """A picture file, at most so wide, as JPEG; the same bytes where it cannot be read."""
        with self._one:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            return data if image is None else _jpeg(fit(image, width))  # type: ignore[arg-type]


def fit(image: Image, width: int) -> Image:
    """The image uint8 [H, W, 3], at most so wide and twice so high."""
    scale = min(1.0, width / image.shape[1], 2 * width / image.shape[0])
    if scale == 1.0:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _draw(latest: LatestVerdict, with_map: bool, width: int) -> bytes:
    assert latest.image is not None, "asked before"
    small = fit(latest.image, width)  # first: the rest is cheap then
    if not with_map:
        return _jpeg(small)
    verdict, decision = latest.verdict, latest.row.decision  # the decision after the debounce
    return _jpeg(draw_overlay(small, decision, verdict.score, verdict.threshold, verdict.anomaly_map, verdict.reason))


def _jpeg(image: Image) -> bytes:
    return cv2.imencode(".jpg", image, QUALITY)[1].tobytes()
