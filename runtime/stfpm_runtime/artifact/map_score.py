"""The score of one anomaly map by a model's head: for maps that were put together or masked after the engine's run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .min_area import area_scores
from .spec import Spec

CELL = 4
"""Side in pixels of the squares whose means give the score, where it is not the maximum."""


def top_count(share: float, cells: int) -> int:
    """Return how many of the cells a share of them is, at least one."""
    return max(round(share * cells), 1)


def map_score(anomaly_map: npt.NDArray[np.float32], spec: Spec, inside: npt.NDArray[np.bool_] | None = None) -> float:
    """Return the score of a map float32 [H, W], as the model's graph or engine computes it from its own.

    Only the pixels `inside`, bool [H, W], count (None: all). Where they are fewer than the score needs, all of them
    give it: a small region is not passed because it is small. Without any pixel inside the score is 0.
    """
    if inside is not None:
        if not inside.any():
            return 0.0
        anomaly_map = np.where(inside, anomaly_map, np.float32(0))
    if spec.min_area > 1:
        area = spec.min_area if inside is None else min(spec.min_area, int(np.count_nonzero(inside)))
        return float(area_scores(anomaly_map[np.newaxis], area)[0])
    if spec.top_share is None:
        return float(anomaly_map.max()) * spec.score_scale
    counts = _cell_sums(np.ones(anomaly_map.shape) if inside is None else inside.astype(np.float64))
    means = (_cell_sums(anomaly_map.astype(np.float64)) / np.maximum(counts, 1))[counts > 0]
    count = min(top_count(spec.top_share, counts.size), means.size)
    return float(np.partition(means, means.size - count)[-count:].mean()) * spec.score_scale


def _cell_sums(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the sums over cells, [H / 4, W / 4] rounded up; those at the border have fewer pixels."""
    height, width = values.shape
    padded = np.pad(values, ((0, -height % CELL), (0, -width % CELL)))
    rows, columns = padded.shape
    sums: npt.NDArray[np.float64] = padded.reshape(rows // CELL, CELL, columns // CELL, CELL).sum(axis=(1, 3))
    return sums
