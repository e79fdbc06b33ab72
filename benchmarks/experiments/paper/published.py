"""The paper's figures, as far as they could be checked: what is not here is shown as `-`.

Wang, Han, Ding, Huang: "Student-Teacher Feature Pyramid Matching for Anomaly Detection", BMVC 2021, arXiv 2103.04257.
Per category only the pixel AUROC is known here from a second source; the others' means are.
"""

from __future__ import annotations

from types import MappingProxyType

CATEGORIES = (
    "carpet", "grid", "leather", "tile", "wood", "bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill",
    "screw", "toothbrush", "transistor", "zipper",
)  # fmt: skip
"""MVTec AD's, in the paper's order: textures, then objects."""

PIXEL_AUROC = MappingProxyType(dict(zip(CATEGORIES, (
    0.988, 0.990, 0.993, 0.974, 0.972, 0.988, 0.955, 0.983, 0.985, 0.976, 0.978, 0.983, 0.989, 0.825, 0.985,
), strict=True)))  # fmt: skip
"""Table 1."""
PRO = MappingProxyType({"bottle": 0.951})
"""Table 1, as far as we could check it."""
MEAN_IMAGE_AUROC = 0.955
"""Table 2, mean of all categories; its mean of pixel AUROC is 0.970."""
MEAN_PIXEL_AUROC = 0.970
WRN50 = (0.973, 0.923)
"""Means with WideResNet-50 as teacher; taken to be pixel AUROC and PRO, in the order of Table 1."""
CIFAR10_TEACHER = (0.826, 0.931, 0.863)
"""Table 4, means with a teacher pre-trained on CIFAR-10: image AUROC, pixel AUROC, PRO."""
