"""PRO, the per-region overlap: pixel-wise accuracy in which a small defect counts as much as a large one.

Bergmann, Fauser, Sattlegger, Steger: "Uninformed Students", CVPR 2020, which calls it AU-PRO and cuts it at 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stfpm_runtime.errors import MissingExtraError

from .masks import Mask
from .metrics import Scores, Weights, roc_area, split_pixels

try:
    from scipy import ndimage
except ImportError:
    raise MissingExtraError("scipy", "bench") from None

FPR_LIMIT = 0.3
"""Beyond it a map marks so much that is normal that its overlap says nothing."""
EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.int8)


def pro(maps: Sequence[Scores] | Scores, masks: Sequence[Mask] | Mask, fpr_limit: float = FPR_LIMIT) -> float:
    """Return the area under the curve of overlap over false-positive rate, up to `fpr_limit`, divided by it: 0 to 1.

    `maps` are [N, H, W], or N maps [H, W], higher for more anomalous, `masks` likewise, bool, True for defective. For a
    threshold, the overlap is the share of a region's pixels with a score of at least the threshold, averaged over all
    regions of all images; a region is an 8-connected part of a mask. The false-positive rate is the share of normal
    pixels, those of defective images included, that reach the threshold.

    Every score is a threshold and the curve is linear in between (see `roc_area`), so that the area is exact. Pixels
    that tie enter together, along a straight line: a constant map has PRO `fpr_limit / 2`, 0.15 by default.

    Raises ValueError for shapes that differ, without a normal or a defective pixel, and for a map that is not finite.
    """
    normal, defective = split_pixels(maps, masks)
    return roc_area(normal, defective, region_weights(masks), fpr_limit)


def region_weights(masks: Sequence[Mask] | Mask) -> Weights:
    """Return the weight of each defective pixel, 1 / (pixels of its region * regions), in the order of `split_pixels`.

    Every region's weights sum to 1 / regions, and all to 1.
    """
    shares, regions = [np.empty(0)], 0
    for mask in masks:
        labels, count = ndimage.label(mask, EIGHT_NEIGHBOURS)
        shares.append(1 / np.bincount(labels.ravel())[labels[mask]])
        regions += count
    return np.concatenate(shares) / max(regions, 1)
