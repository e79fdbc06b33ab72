"""The smallest area of a defect: a score that only a connected region of enough pixels can raise."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt


def area_scores(maps: npt.NDArray[np.float32], min_area: int) -> npt.NDArray[np.float32]:
    """Return, for each map of [N, H, W], the highest level that a region of at least `min_area` pixels reaches: [N].

    A region is a set of pixels that touch at a side or a corner; it reaches a level where all its values are at least
    that high. So the score exceeds a threshold exactly where such a region lies above it. For an area of 1 pixel it is
    the map's maximum, for one of more pixels than the map has, it is the minimum. A map that is not finite scores NaN.
    """
    return np.asarray([_area_score(one, min_area) for one in maps], np.float32)


def _area_score(anomaly_map: npt.NDArray[np.float32], min_area: int) -> float:
    if not np.isfinite(anomaly_map).all():
        return float("nan")
    levels = np.sort(anomaly_map, axis=None)
    low, high = 0, max(len(levels) - min_area, 0)  # at levels[low] the whole map is one region
    while low < high:
        middle = (low + high + 1) // 2
        if _largest_region(anomaly_map >= levels[middle]) >= min_area:
            low = middle
        else:
            high = middle - 1
    return float(levels[low])


def _largest_region(above: npt.NDArray[np.bool_]) -> int:
    """Return the number of pixels of the largest connected region."""
    _, _, statistics, _ = cv2.connectedComponentsWithStats(above.view(np.uint8), connectivity=8)
    return int(statistics[1:, cv2.CC_STAT_AREA].max(initial=0))
