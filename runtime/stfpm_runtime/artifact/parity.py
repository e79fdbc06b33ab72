"""Parity: whether a file that an engine runs computes what PyTorch does. The one rule for this in the whole product.

The export proves a new file with it, TensorRT's build a new plan, a line and a swap each model before it judges parts,
and the benchmark each model that it measures. The reference is PyTorch's results on a few images (see `golden`).

    limit   The maps and scores of a float32 file may differ from PyTorch's by 1e-4, or by a hundredth of the
            threshold if that is less; those of a rounded file (fp16, int8) by `SLACK` times the error that its
            export found, if that is more.
    flip    A verdict flips where the engine and PyTorch, each by its own threshold, decide differently, and the
            engine's score is not within the limit of its threshold: there the last digits decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from stfpm_runtime.errors import ParityError

from .golden import Golden
from .spec import Spec

FP32_TOLERANCE = 1e-4
"""The largest absolute error of a float32 file's map ..."""
THRESHOLD_SHARE = 0.01
"""... and no more than this share of the threshold: a model of small scores is held to more."""
SLACK = 2.0
"""A rounded file may be this many times as far from PyTorch as its export found: other machines round otherwise."""

Results = npt.NDArray[np.float32]
Infer = Callable[[npt.NDArray[np.uint8]], tuple[Results, Results]]
"""An engine's `infer`: images uint8 [N, H, W, 3] to maps float32 [N, H, W] and scores float32 [N]."""


@dataclass(frozen=True)
class Parity:
    """Differences of an engine's results from PyTorch's on the same images. Errors are absolute where not said."""

    map_max_error: float
    """The largest error of any pixel of the anomaly maps; NaN where a result is not finite, as are the next three."""
    map_mean_error: float
    score_max_error: float
    score_relative_error: float
    """The median over all images of |error| / PyTorch's score."""
    flipped: tuple[int, ...]
    """The indices of the images whose verdict flips."""
    limit: float
    """The largest error that is allowed, of maps and of scores."""
    scores: Results = field(repr=False)
    """The engine's, float32 [N]."""
    reference_scores: Results = field(repr=False)
    """PyTorch's, float32 [N]."""

    @property
    def images(self) -> int:
        """Return the number of images that were compared."""
        return len(self.scores)

    @property
    def verdict_flips(self) -> int:
        """Return the number of images whose verdict flips."""
        return len(self.flipped)

    @property
    def is_finite(self) -> bool:
        """Return whether all results are finite numbers."""
        return bool(np.isfinite([self.map_max_error, self.score_max_error]).all())

    @property
    def failures(self) -> tuple[str, ...]:
        """Return in words what is worse than it may be; empty where parity holds."""
        if not self.is_finite:
            return ("its results are not finite",)
        found = [
            f"its {what} is {error:.2g} away from PyTorch's on {self.images} images, expected at most {self.limit:.1e}"
            for what, error in (("anomaly map", self.map_max_error), ("score", self.score_max_error))
            if error > self.limit
        ]
        if self.flipped:
            found.append(f"{self.verdict_flips} of {self.images} verdicts flip, expected none")
        return tuple(found)

    @property
    def holds(self) -> bool:
        """Return whether the file may stand for PyTorch's model."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON keeps them, without the scores."""
        names = ("images", "map_max_error", "score_max_error", "score_relative_error", "limit", "verdict_flips")
        return {name: getattr(self, name) for name in names}


def measure_parity(infer: Infer, golden: Golden, spec: Spec) -> Parity:
    """Run the golden images one by one, as a line does, and compare the results with PyTorch's.

    `spec` is the file's; PyTorch's threshold is the `pytorch_threshold` of its parity report, or else the file's own.
    Raises EngineError where the images do not fit the engine, or it fails.
    """
    results = [infer(image[np.newaxis]) for image in golden.images]
    maps, scores = (np.concatenate([result[k] for result in results]) for k in (0, 1))
    map_errors, score_errors = np.abs(maps - golden.maps), np.abs(scores - golden.scores)
    limit = error_limit(spec)
    return Parity(
        map_max_error=float(map_errors.max()),
        map_mean_error=float(map_errors.mean()),
        score_max_error=float(score_errors.max()),
        score_relative_error=float(np.median(score_errors / np.maximum(golden.scores, 1e-12))),
        flipped=_flipped(scores, golden.scores, spec, limit),
        limit=limit,
        scores=scores,
        reference_scores=golden.scores,
    )


def require_parity(infer: Infer, golden: Golden, spec: Spec, name: str, remedy: str) -> Parity:
    """Return the parity with PyTorch. Raises ParityError, which begins with `name`, where it does not hold."""
    parity = measure_parity(infer, golden, spec)
    if not parity.holds:
        raise ParityError(f"{name}: {'; '.join(parity.failures)}; {remedy}")
    return parity


def error_limit(spec: Spec) -> float:
    """Return the largest absolute error that the maps and scores of a file may have."""
    exact = min(FP32_TOLERANCE, THRESHOLD_SHARE * spec.threshold) if spec.threshold else FP32_TOLERANCE
    certified = spec.parity.get("map_max_error")
    if spec.precision == "fp32" or not isinstance(certified, float):
        return exact
    return max(exact, SLACK * certified)


def _flipped(scores: Results, reference: Results, spec: Spec, limit: float) -> tuple[int, ...]:
    before = spec.parity.get("pytorch_threshold", spec.threshold)
    if spec.threshold is None or before is None:
        return ()
    threshold = np.float64(spec.threshold)  # a plain float would be rounded to float32 first
    differs = (scores <= threshold) != (reference <= np.float64(before))
    is_close = np.abs(scores - threshold) <= limit
    return tuple(np.flatnonzero(differs & ~is_close).tolist())
