"""A verdict as a picture: the anomaly map over the frame, a contour round what is above the threshold, a caption.

Colours are relative to the threshold, so that pictures of one model can be compared: half way up the scale is half of
the threshold, red is twice the threshold or more. A normal part hardly shows.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stfpm_runtime.score import format_score

from .preprocessing import Image, to_bgr8

AnomalyMap = npt.NDArray[np.float32]
"""[H, W], at least 0, higher for more anomalous."""
OPACITY = 0.55
"""Opacity of the hottest colour, so that the defect shows through; the coldest is transparent."""
HOTTEST = 225
"""The colour scale's last entry in use: a bright red. Its very end, 255, is nearly black."""
_LEVELS = np.arange(256, dtype=np.uint8)[:, None]
_OPACITY = OPACITY * np.minimum(_LEVELS / HOTTEST, 1)[..., None]
COLOUR_SHARE = np.rint(_OPACITY * cv2.applyColorMap(_LEVELS, cv2.COLORMAP_TURBO)).astype(np.uint8)
TRANSPARENCY = np.rint(255 * (1 - _OPACITY)).astype(np.uint8).repeat(3, axis=2)
"""What each level of heat adds to a picture, and what it leaves of it: uint8 [256, 1, 3]."""
CAPTION_WIDTH_PX = 200
"""A frame narrower than this is enlarged: a caption does not fit."""
CAPTION_HEIGHT_PX = 40
"""A frame lower than this is enlarged: a caption would hide too much of it."""
ENLARGED_PX = 2048
"""No side grows beyond this by being enlarged."""
WHITE = (255, 255, 255)
COLOURS = {"pass": (120, 220, 120), "reject": (80, 80, 255), "fault": (0, 190, 255)}
"""Colour of the caption, BGR."""


def draw_overlay(
    frame: npt.NDArray[Any],
    decision: str,
    score: float | None,
    threshold: float,
    anomaly_map: AnomalyMap | None = None,
    reason: str = "",
) -> Image:
    """Return the frame with a verdict drawn on it: uint8 [H, W, 3], BGR, for any frame that `to_bgr8` takes.

    A frame too small for a legible caption is enlarged by a whole number k, to [k H, k W, 3]. Without a map, as for a
    fault, it gets the caption alone. Raises ImageError for a frame that is no picture.
    """
    picture, colour, words = _enlarge(to_bgr8(frame)), COLOURS[decision], caption(decision, score, threshold)
    if anomaly_map is None:
        return _caption(picture, words, colour, at_top=True)
    picture = _blend(picture, heat(anomaly_map, threshold))
    # The caption goes where it hides less, and the contour on top of it: no defect is hidden.
    rows = max(1, len(anomaly_map) // 8)
    at_top = bool(anomaly_map[:rows].max() <= anomaly_map[-rows:].max())
    picture = _caption(picture, words, colour, at_top)
    if reason:  # the decision does not follow from this frame alone
        picture = _caption(picture, reason, colour, not at_top)
    above = anomaly_map > np.float64(threshold)  # a plain float would be rounded to float32 first
    if above.any():
        picture[contour(above, *picture.shape[:2])] = WHITE
    return picture


def heat(anomaly_map: AnomalyMap, threshold: float) -> npt.NDArray[np.float32]:
    """Return a map of any shape as heat from 0 to 1: the root of map / (2 threshold), clipped.

    The map is a product of cosine distances, so its tail is heavy: a linear scale would show the peak and nothing else.
    """
    relative = anomaly_map / max(2 * threshold, 1e-12)  # a threshold of 0 or less: all is hot
    root: npt.NDArray[np.float32] = np.sqrt(np.clip(relative, 0, 1), dtype=np.float32)
    return root


def contour(above: npt.NDArray[np.bool_], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the pixels of a frame, bool [height, width], that surround the cells above the threshold, bool [h, w].

    They lie outside, so that even a single cell stays visible. Cells are not smoothed: what is surrounded is exactly
    what was judged.
    """
    region = cover(above, height, width).astype(np.uint8)
    thickness = max(1, round(math.hypot(height, width) / 700))
    around = cv2.dilate(region, np.ones((2 * thickness + 1, 2 * thickness + 1), np.uint8))
    outline: npt.NDArray[np.bool_] = (around > 0) & (region == 0)
    return outline


def cover(above: npt.NDArray[np.bool_], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the pixels of a frame, bool [height, width], that a cell above the threshold, bool [h, w], overlaps."""
    return _cover_rows(_cover_rows(above, height).T, width).T


def caption(decision: str, score: float | None, threshold: float) -> str:
    """Return a verdict in a few words, the decision and the relative score: `REJECT 2.50`."""
    return f"{decision.upper()} {format_score(score, threshold) or 'not judged'}"


def _cover_rows(above: npt.NDArray[np.bool_], rows: int) -> npt.NDArray[np.bool_]:
    """Map cells [h, w] to pixels [rows, w]: row r overlaps the cells from r h / rows up to (r + 1) h / rows."""
    cells = len(above)
    starts = np.arange(rows) * cells // rows
    ends = -(-np.arange(1, rows + 1) * cells // rows)
    counts = np.concatenate([np.zeros((1, above.shape[1]), np.int32), np.cumsum(above, axis=0, dtype=np.int32)])
    covered: npt.NDArray[np.bool_] = counts[ends] > counts[starts]
    return covered


def _enlarge(image: Image) -> Image:
    height, width = image.shape[:2]
    wanted = max(math.ceil(CAPTION_WIDTH_PX / width), math.ceil(CAPTION_HEIGHT_PX / height))
    factor = max(1, min(wanted, ENLARGED_PX // max(height, width)))
    return image.copy() if factor == 1 else image.repeat(factor, axis=0).repeat(factor, axis=1)


def _blend(image: Image, heat_map: npt.NDArray[np.float32]) -> Image:
    """Lay colours over the image uint8 [H, W, 3], as opaque as the heat map [h, w] is hot."""
    levels = cv2.resize((heat_map * HOTTEST).astype(np.uint8), (image.shape[1], image.shape[0]))
    added, left = (cv2.applyColorMap(levels, table) for table in (COLOUR_SHARE, TRANSPARENCY))
    cv2.multiply(image, left, dst=left, scale=1 / 255)
    return cv2.add(added, left, dst=left)  # type: ignore[return-value]


def _caption(image: Image, text: str, colour: tuple[int, int, int], at_top: bool) -> Image:
    """Write text on a dark ground in a corner of the image [H, W, 3]: a quarter as wide, or as much as it needs."""
    height, width = image.shape[:2]
    (unit_width, unit_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1, 1)
    scale = min(max(width / 4 / unit_width, 0.5), 0.95 * width / unit_width, 0.5 * height / unit_height)
    thickness = max(1, round(1.5 * scale))
    (text_width, text_height), descent = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    margin = text_height // 2
    box_height, box_width = text_height + descent + 2 * margin, text_width + 2 * margin
    top = 0 if at_top else height - box_height
    cv2.rectangle(image, (0, top), (box_width, top + box_height), (24, 24, 24), cv2.FILLED)
    corner = (margin, top + margin + text_height)
    cv2.putText(image, text, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
    return image
