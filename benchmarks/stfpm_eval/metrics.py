"""AUROC of images and of pixels: the chance that a defective one scores higher than a normal one.

Exact: every score is a threshold, nothing is binned. scikit-learn gives the same numbers (the tests hold them against
it), but takes 12 s and 1.6 GB for 357 maps of 256x256, where this takes 1.4 s and 0.5 GB.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .masks import Mask

Scores = npt.NDArray[np.floating]
Weights = npt.NDArray[np.float64]


def auroc(normal: npt.ArrayLike, defective: npt.ArrayLike) -> float:
    """Return the area under the ROC curve of two sets of scores, 0 to 1; a tie counts half.

    Raises ValueError where a set is empty or a score is not finite.
    """
    return roc_area(np.ravel(np.asarray(normal)), np.ravel(np.asarray(defective)))


def pixel_auroc(maps: Sequence[Scores] | Scores, masks: Sequence[Mask] | Mask) -> float:
    """Return the AUROC over all pixels of all images.

    `maps` are [N, H, W], or N maps [H, W], `masks` likewise, bool, True for defective.

    Raises ValueError for shapes that differ, without a normal or a defective pixel, and for a map that is not finite.
    """
    return roc_area(*split_pixels(maps, masks))


def roc_area(normal: Scores, defective: Scores, weights: Weights | None = None, fpr_limit: float = 1.0) -> float:
    """Return the area under the curve of found defects over false-positive rate (FPR), as a share of `fpr_limit`.

    `normal` is a vector of scores, `defective` another, `weights` what each of the defective is worth when found: their
    sum is 1, and equal shares are the default. For a threshold t, the curve's point is the share of `normal` >= t and
    the weight of `defective` >= t; between neighbouring thresholds it is a straight line (the trapezoid rule), also
    where the limit cuts it.

    That curve is the sum of one ramp for each defective score s, rising while the threshold falls past s: from
    FPR a (the share of `normal` above s) to FPR b (those equal to s included), flat from there on. Each ramp's area has
    a closed form, so one sort is all that an exact area takes.

    Raises ValueError where a vector is empty or a score not finite, and for a limit outside of 0 to 1.
    """
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"got an FPR limit of {fpr_limit}; expected one above 0 and up to 1")
    for name, scores in (("normal", normal), ("defective", defective)):
        if scores.size == 0 or not np.isfinite(scores).all():
            raise ValueError(f"{scores.size} {name} scores; expected at least one, and all of them finite")
    if weights is None:
        weights = np.full(defective.size, 1 / defective.size)
    normal, order = np.sort(normal), np.argsort(defective)
    defective, weights = defective[order], weights[order]  # sorted, they are found in `normal` ten times faster
    below = np.searchsorted(normal, defective, side="left")
    not_above = np.searchsorted(normal, defective, side="right")
    a, b = 1 - not_above / normal.size, 1 - below / normal.size
    rising = np.clip(fpr_limit, a, b) - a
    reached = rising / (np.maximum(not_above - below, 1) / normal.size)  # 1 unless the limit cuts the ramp
    area = rising * reached / 2 + np.maximum(fpr_limit - b, 0)
    return float(weights @ area / fpr_limit)


def split_pixels(maps: Sequence[Scores] | Scores, masks: Sequence[Mask] | Mask) -> tuple[Scores, Scores]:
    """Return the scores of all normal and of all defective pixels, image by image and row by row, as two vectors."""
    for anomaly_map, mask in zip(maps, masks, strict=True):
        if anomaly_map.shape != mask.shape:
            raise ValueError(f"a map of shape {anomaly_map.shape} with a mask of shape {mask.shape}; expected the same")
    normal = [anomaly_map[~mask] for anomaly_map, mask in zip(maps, masks, strict=True)]
    defective = [anomaly_map[mask] for anomaly_map, mask in zip(maps, masks, strict=True)]
    return np.concatenate(normal), np.concatenate(defective)
