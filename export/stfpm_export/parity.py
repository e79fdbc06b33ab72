"""The proof: an exported file, run by the engine that will run it, against PyTorch on real images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from stfpm_runtime.artifact.golden import Golden
from stfpm_runtime.artifact.parity import measure_parity
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.engines import Engine
from stfpm_runtime.errors import ParityError

from .reference import Reference

RANK_CORRELATION = 0.99
"""The least rank correlation of a rounded export's scores (fp16, int8) with PyTorch's, over all images."""
AUROC_LOSS = 0.002
"""The largest loss of image AUROC of a rounded export against PyTorch, where labelled images are given."""


@dataclass(frozen=True)
class ParityReport:
    """Errors of a file against PyTorch on the same images. They are absolute where not said; scores have no unit."""

    images: int
    """Good ones."""
    pasted: int
    """The same with a patch pasted in (see `paste_patch`)."""
    map_max_error: float
    map_mean_error: float
    score_max_error: float
    score_relative_error: float
    """The median over all images of |error| / PyTorch's score."""
    score_max: float
    """The largest score among the images, to read the errors against."""
    rank_correlation: float | None
    """Spearman's, of the scores of all images; None where all scores are equal."""
    verdict_flips: int
    """Good images that PyTorch passes and the file rejects, or the other way round, each by its own threshold."""
    pasted_flips: int
    """The same among those with a patch."""
    pytorch_threshold: float | None
    """The checkpoint's."""
    threshold: float | None
    """The file's own, set from its own scores."""
    engine: str
    """The engine that executed the file."""
    precision: str
    tolerance: float | None
    """Limit of the map's largest error; None for a rounded export."""
    flips_allowed: int
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)
    """`pytorch` and `file`: image AUROC and more on labelled images; empty where none were given."""
    failures: tuple[str, ...] = ()
    """The reasons why parity does not hold, in words; empty where it holds."""

    @property
    def holds(self) -> bool:
        """Return whether the file may replace the checkpoint."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Return the entries of the Spec, without values that are not finite, which JSON does not have."""
        return {key: None if _is_not_finite(value) else value for key, value in dataclasses.asdict(self).items()}


def certify(
    engine: Engine, spec: Spec, reference: Reference, accuracy: Mapping[str, dict[str, float]] | None = None
) -> ParityReport:
    """Run the reference's images through a file, one by one, as a line does.

    `spec` is the file's with its own threshold; that of `engine.spec` is PyTorch's.
    """
    golden = Golden(np.stack(reference.images), reference.maps, reference.scores)
    judged = dataclasses.replace(spec, parity={"pytorch_threshold": engine.spec.threshold})
    found = measure_parity(engine.infer, golden, judged)
    good_flips = sum(index < reference.good for index in found.flipped)
    is_exact = spec.precision == "fp32"
    rate = spec.false_alarm_rate or 0.0
    report = ParityReport(
        images=reference.good,
        pasted=len(reference.images) - reference.good,
        map_max_error=found.map_max_error,
        map_mean_error=found.map_mean_error,
        score_max_error=found.score_max_error,
        score_relative_error=found.score_relative_error,
        score_max=float(np.max(reference.scores)),
        rank_correlation=_rank_correlation(found.scores, reference.scores),
        verdict_flips=good_flips,
        pasted_flips=found.verdict_flips - good_flips,
        pytorch_threshold=engine.spec.threshold,
        threshold=spec.threshold,
        engine=engine.provider,
        precision=spec.precision,
        tolerance=found.limit if is_exact else None,
        flips_allowed=0 if is_exact else math.floor(rate * reference.good),
        accuracy=dict(accuracy or {}),
    )
    failures = found.failures if is_exact or not found.is_finite else tuple(_failures_of_rounding(report))
    return dataclasses.replace(report, failures=failures)


def require_parity(parity: ParityReport, source: str, hint: str) -> None:
    """Raise ParityError unless it holds."""
    if not parity.holds:
        raise ParityError(f"{source}: in {parity.precision} {'; '.join(parity.failures)}. No file was written; {hint}")


def _failures_of_rounding(parity: ParityReport) -> list[str]:
    failures = []
    if parity.verdict_flips > parity.flips_allowed:
        failures.append(
            f"{parity.verdict_flips} of {parity.images} verdicts on good images flip, "
            f"expected at most {parity.flips_allowed}"
        )
    if parity.rank_correlation is not None and parity.rank_correlation < RANK_CORRELATION:
        failures.append(
            f"its scores' rank correlation with PyTorch's is {parity.rank_correlation:.4f}, "
            f"expected at least {RANK_CORRELATION}"
        )
    if parity.accuracy:
        before, after = (parity.accuracy[whose]["image_auroc"] for whose in ("pytorch", "file"))
        if before - after > AUROC_LOSS:
            failures.append(f"its image AUROC is {after:.4f}, expected within {AUROC_LOSS} of PyTorch's {before:.4f}")
    return failures


def _rank_correlation(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float | None:
    """Compute Spearman's rank correlation, with shared ranks for ties; None where all values are equal."""
    if not (np.isfinite(one).all() and np.ptp(one) > 0 and np.ptp(other) > 0):
        return None
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def describe_parity(parity: ParityReport) -> str:
    """Return the certificate as a table for a person: each figure's name, its value, and its limit."""
    relative = f"{parity.score_relative_error:.2%} of the score, {parity.score_max_error:.1e} at most"
    rows = [
        ("map, largest error", f"{parity.map_max_error:.1e}", _limit("at most", parity.tolerance)),
        ("map, mean error", f"{parity.map_mean_error:.1e}", ""),
        ("score, typical error", relative, ""),
        ("scores' rank correlation", _number(parity.rank_correlation), "" if parity.tolerance else "at least 0.99"),
        ("verdicts that flip, good", f"{parity.verdict_flips} of {parity.images}", f"at most {parity.flips_allowed}"),
        ("verdicts that flip, with a patch", f"{parity.pasted_flips} of {parity.pasted}", ""),
        ("threshold", f"{_number(parity.pytorch_threshold)} -> {_number(parity.threshold)}", ""),
    ]
    if parity.accuracy:
        before, after = parity.accuracy["pytorch"], parity.accuracy["file"]
        rows += [(name.replace("_", " "), f"{before[name]:.4g} -> {after[name]:.4g}", "") for name in before]
    lines = [f"  {name:<34}{value:<34}{limit}".rstrip() for name, value, limit in rows]
    verdict = "holds" if parity.holds else "DOES NOT HOLD: " + "; ".join(parity.failures)
    return "\n".join([f"parity with PyTorch, {parity.precision} in {parity.engine}: {verdict}", *lines])


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _limit(words: str, value: float | None) -> str:
    return "" if value is None else f"{words} {value:.1e}"
