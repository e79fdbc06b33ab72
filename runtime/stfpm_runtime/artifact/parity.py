"""The proof of a plan: the golden images through TensorRT, against what PyTorch said of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from stfpm_runtime.engines.base import Engine
from stfpm_runtime.errors import ParityError

from .golden import Golden, compare_with_golden
from .spec import Spec

FP32_TOLERANCE = 1e-4
"""The largest absolute error of a float32 plan's map, as for the ONNX file; or a hundredth of the threshold."""
SLACK = 3.0
"""A rounded plan may be this many times as far from PyTorch as the ONNX file that it was built from."""


def require_plan_parity(engine: Engine, golden: Golden, spec: Spec) -> dict[str, Any]:
    """How far the engine is from PyTorch on the golden images, as JSON keeps it.

    Raises ParityError where that is more than its precision explains: not finite, another verdict on an image, or a
    map further away than `limit_of` says.
    """
    result = compare_with_golden(engine, golden)
    limit = limit_of(spec)
    flips = verdict_flips(result.scores, golden, spec)
    figures = dataclasses.asdict(result)
    del figures["scores"]
    found = {**figures, "limit": limit, "verdict_flips": flips, "engine": engine.provider}
    if not (math.isfinite(result.map_max_error) and math.isfinite(result.score_max_error)):
        raise ParityError(f"{spec.name}: {engine.provider} gives results that are not finite; export it in fp32")
    if result.map_max_error > limit or flips:
        raise ParityError(
            f"{spec.name}: in {engine.provider} the anomaly map is {result.map_max_error:.2g} away from PyTorch's on "
            f"the golden images, expected at most {limit:.1e}, and {flips} of {result.images} verdicts flip, expected "
            "none. The plan is not kept; try another --precision or TensorRT version, or use --device cuda"
        )
    return found


def limit_of(spec: Spec) -> float:
    """The largest error of a map that a plan may have."""
    exact = min(FP32_TOLERANCE, 0.01 * spec.threshold) if spec.threshold else FP32_TOLERANCE
    certified = spec.parity.get("map_max_error")
    if spec.precision == "fp32" or not isinstance(certified, float):
        return exact
    return max(exact, SLACK * certified)


def verdict_flips(scores: Sequence[float], golden: Golden, spec: Spec) -> int:
    """Count golden images that PyTorch passes and the engine rejects, or the other way round, each by its threshold.

    `scores` are the engine's, one for each image. An image within the allowed error of the threshold does not count.
    """
    before = spec.parity.get("pytorch_threshold", spec.threshold)
    if spec.threshold is None or before is None:
        return 0
    flips = 0
    for ours, score in zip(scores, golden.scores, strict=True):
        is_clear = abs(ours - spec.threshold) > limit_of(spec)
        flips += is_clear and (ours > spec.threshold) != (float(score) > before)
    return flips
