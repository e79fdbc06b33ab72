"""The stem in int8: equal ranges for its channels, so that one scale serves all of them.

The first convolution's channels are so unequal that the rounding of its result is by far the largest error of an int8
graph (nine tenths of it on MVTec AD pill). So channel c is divided by a factor s_c > 0, and the convolutions that read
it multiply by s_c again (Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV
2019). ReLU and max-pooling let a positive factor through:

    y = relu(W x + b)   becomes   y / s = relu(W' x + b'),   W' = diag(1 / s) W,   b' = b / s

The function stays the same. Where the first residual unit adds the stem itself, a 1x1 convolution multiplies it by s.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from stfpm_edge.checkpoint import Checkpoint

from .int8 import Range

MIN_FACTOR = 1 / 32
"""The smallest factor: a channel that good parts hardly excite may show a defect, and needs room for it."""
HEADROOM = 1.5
"""The stem may take values so many times as high as those of good parts before they are clipped.

Without equal channels only the widest one is clipped near its highest value; with them, all would be.
"""


def equalise_stem(
    checkpoint: Checkpoint, ranges: Mapping[str, Range]
) -> tuple[dict[str, Range], dict[str, npt.NDArray[np.float32]]]:
    """Return the ranges of the activations with equal channels of the stem, and what these were divided by, [C].

    `ranges` are those of the float graph, see `ranges.measure_ranges`. Ranges and factors are by tensor name; those of
    the 1x1 convolutions are added.
    """
    stem = ranges["stem/relu"]
    factors = np.maximum(stem.high / max(stem.high.max(), 1e-9), MIN_FACTOR).astype(np.float32)
    equal = dict(ranges) | {"stem/relu": Range(stem.low / factors, HEADROOM * stem.high / factors)}
    by_tensor = dict.fromkeys(("stem/conv1", "stem/maxpool"), factors)
    start = 0
    for whose, pyramid in (("teacher", checkpoint.teacher), ("student", checkpoint.student)):
        if not pyramid.lower:
            own = slice(start, start := start + pyramid.conv1.out_channels)
            by_tensor[f"{whose}/stem"] = factors[own]
            equal.setdefault(f"{whose}/conv2_1/shortcut", Range(stem.low[own], stem.high[own]))
    return equal, by_tensor
