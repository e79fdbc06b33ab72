"""Published figures, each with its source. A figure that could not be read in a source is None and is shown as `-`.

Paper: Wang, Han, Ding, Huang, "Student-Teacher Feature Pyramid Matching for Anomaly Detection", BMVC 2021,
arXiv 2103.04257. The text of its tables could not be read. Two kinds of sources quote it:

- pixel AUROC of each category, means of image and pixel AUROC: the READMEs of
  github.com/hcw-00/STPM_anomaly_detection and github.com/xiahaifeng1995/STPM-Anomaly-Detection-Localization-master,
  which agree;
- PRO of bottle and pill, WideResNet-50, the CIFAR-10 teacher: this project's issues 2, 7 and 18; there is no second
  source.

Official repository: the README of github.com/gdwang08/STFPM (its command trains 200 epochs), whose table its fork
github.com/YuXinW-L/STFPM repeats.

Missing: the paper's PRO of the other 13 categories and its mean; image AUROC of single categories (those READMEs have
none either); all rows of Tables 3 and 5; the rows of Table 4 other than CIFAR-10's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

Figures = tuple[float | None, float | None, float | None]
"""Image AUROC, pixel AUROC and PRO, 0 to 1."""
UNKNOWN: Figures = (None, None, None)
MEAN = "mean"
"""The key of the mean of all categories."""

PAPER: Mapping[str, Figures] = MappingProxyType({
    "carpet": (None, 0.988, None),
    "grid": (None, 0.990, None),
    "leather": (None, 0.993, None),
    "tile": (None, 0.974, None),
    "wood": (None, 0.972, None),
    "bottle": (None, 0.988, 0.951),
    "cable": (None, 0.955, None),
    "capsule": (None, 0.983, None),
    "hazelnut": (None, 0.985, None),
    "metal_nut": (None, 0.976, None),
    "pill": (None, 0.978, 0.965),
    "screw": (None, 0.983, None),
    "toothbrush": (None, 0.989, None),
    "transistor": (None, 0.825, None),
    "zipper": (None, 0.985, None),
    MEAN: (0.955, 0.970, None),
})  # fmt: skip
"""Tables 1 and 2. The mean of the pixel AUROCs is 0.9709, where the paper prints 0.970."""
OFFICIAL: Mapping[str, Figures] = MappingProxyType({
    "carpet": (0.964286, 0.990292, 0.966061),
    "grid": (0.982456, 0.989622, 0.963767),
    "leather": (0.950747, 0.990707, 0.956661),
    "tile": (0.982323, 0.969067, 0.896640),
    "wood": (0.996491, 0.964588, 0.900518),
    "bottle": (1.000000, 0.987894, 0.959157),
    "cable": (0.935532, 0.957504, 0.894954),
    "capsule": (0.893498, 0.985730, 0.895790),
    "hazelnut": (1.000000, 0.984715, 0.952182),
    "metal_nut": (0.983382, 0.971789, 0.948197),
    "pill": (0.951173, 0.975505, 0.965973),
    "screw": (0.894651, 0.988481, 0.948661),
    "toothbrush": (0.897222, 0.989551, 0.926844),
    "transistor": (0.939167, 0.819404, 0.880923),
    "zipper": (0.961397, 0.987756, 0.868873),
    MEAN: (0.955488, 0.970174, 0.9283467),
})  # fmt: skip
"""The official repository's results, from its pre-trained models."""
CATEGORIES = tuple(name for name in PAPER if name != MEAN)
"""MVTec AD's, in the paper's order: textures, then objects."""
WRN50: Figures = (None, 0.973, 0.923)
"""Means with WideResNet-50 as teacher; taken to be pixel AUROC and PRO, in the order of Table 1."""
TABLE4: Mapping[str, Figures] = MappingProxyType({"cifar10": (0.826, 0.931, 0.863)})
"""Means, by what the teacher was pre-trained on."""
