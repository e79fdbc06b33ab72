"""The proof: an exported file, run by the engine that will run it, against PyTorch on real images."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from stfpm_edge.calibration.head import auroc
from stfpm_runtime.artifact.golden import Golden
from stfpm_runtime.artifact.parity import measure_parity
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.engines import Engine
from stfpm_runtime.engines.base import Scores
from stfpm_runtime.errors import ParityError

from .reference import Reference

MAX_LOST_SHARE = 0.01
"""The largest share of synthetic defects that a rounded export (fp16, int8) may lose at its threshold, net of gains.

It is refused where the loss is above this with a confidence of 97.5%: single defects near the threshold always change.
"""
AUROC_LOSS = 0.002
"""The largest loss of image AUROC of a rounded export against PyTorch, where labelled images are given.

It is refused where the loss is above this with a confidence of 97.5%: a few images show no smaller difference.
"""

Interval = tuple[float, float, float]
"""An estimate, and the ends of its interval of 95% confidence."""


@dataclass(frozen=True, eq=False)
class Accuracy:
    """An engine's accuracy on labelled images."""

    figures: dict[str, float]
    """Image AUROC and more by name, `image_auroc` at least."""
    good: npt.NDArray[np.float64]
    """The scores of the good images."""
    defects: npt.NDArray[np.float64]


@dataclass(frozen=True)
class ParityReport:
    """Errors of a file against PyTorch on the same images. They are absolute where not said; scores have no unit."""

    images: int
    """Good ones."""
    defects: int
    """Good images with a synthetic defect."""
    map_max_error: float
    map_mean_error: float
    score_max_error: float
    score_relative_error: float
    """The median over all images of |error| / PyTorch's score."""
    score_max: float
    """The largest score among the images, to read the errors against."""
    rank_correlation_good: float | None
    """Spearman's, of the file's scores and PyTorch's on the good images; None where all scores are equal."""
    rank_correlation_defects: float | None
    """The same on the synthetic defects."""
    pytorch_auroc: float
    """PyTorch's AUROC of synthetic defects against good images."""
    auroc: float
    """The file's."""
    verdict_flips: int
    """Good images that PyTorch passes and the file rejects, or the other way round, each by its own threshold."""
    lost: int
    """Synthetic defects that PyTorch rejects and the file passes, each by its own threshold."""
    gained: int
    """Those that PyTorch passes and the file rejects."""
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
    auroc_loss: Interval | None = None
    """PyTorch's image AUROC less the file's on the labelled images."""
    failures: tuple[str, ...] = ()
    """The reasons why parity does not hold, in words; empty where it holds."""

    @property
    def loss(self) -> Interval:
        """Return the share of defects lost less those gained, and the ends of its interval of 95% confidence.

        The normal approximation for paired proportions: the variance of the difference is
        (lost + gained - (lost - gained)^2 / n) / n^2.
        """
        net = self.lost - self.gained
        half = 1.96 * math.sqrt(self.lost + self.gained - net**2 / self.defects) / self.defects
        return net / self.defects, net / self.defects - half, net / self.defects + half

    @property
    def holds(self) -> bool:
        """Return whether the file may replace the checkpoint."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Return the entries of the Spec, without values that are not finite, which JSON does not have."""
        return {key: None if _is_not_finite(value) else value for key, value in dataclasses.asdict(self).items()}


def measure_export_parity(
    engine: Engine, spec: Spec, reference: Reference, accuracy: tuple[Accuracy, Accuracy] | None = None
) -> ParityReport:
    """Run the reference's images through a file, one by one, as a line does.

    `spec` is the file's with its own threshold; that of `engine.spec` is PyTorch's. `accuracy` is PyTorch's and the
    file's on the same labelled images.
    """
    golden = Golden(np.stack(reference.images), reference.maps, reference.scores)
    judged = dataclasses.replace(spec, parity={"pytorch_threshold": engine.spec.threshold})
    found = measure_parity(engine.infer, golden, judged)
    own = np.array([engine.infer(image[np.newaxis])[1][0] for image in reference.defects], np.float32)
    good, exact_good = found.scores[: reference.good], reference.scores[: reference.good]
    lost, gained = _changed(reference, engine.spec.threshold, good, own, spec.threshold)
    is_exact = spec.precision == "fp32"
    rate = spec.false_alarm_rate or 0.0
    report = ParityReport(
        images=reference.good,
        defects=len(own),
        map_max_error=found.map_max_error,
        map_mean_error=found.map_mean_error,
        score_max_error=found.score_max_error,
        score_relative_error=found.score_relative_error,
        score_max=float(np.max(reference.scores)),
        rank_correlation_good=_rank_correlation(good, exact_good),
        rank_correlation_defects=_rank_correlation(own, reference.defect_scores),
        pytorch_auroc=auroc(exact_good, reference.defect_scores),
        auroc=auroc(good, own),
        verdict_flips=sum(index < reference.good for index in found.flipped),
        lost=lost,
        gained=gained,
        pytorch_threshold=engine.spec.threshold,
        threshold=spec.threshold,
        engine=engine.provider,
        precision=spec.precision,
        tolerance=found.limit if is_exact else None,
        flips_allowed=0 if is_exact else math.floor(rate * reference.good),
        accuracy=dict(zip(("pytorch", "file"), (one.figures for one in accuracy), strict=True)) if accuracy else {},
        auroc_loss=loss_of_auroc(*accuracy) if accuracy else None,
    )
    failures = found.failures if is_exact or not found.is_finite else tuple(_failures_of_rounding(report))
    return dataclasses.replace(report, failures=failures)


def _changed(
    reference: Reference, before: float | None, good: Scores, defects: Scores, after: float | None
) -> tuple[int, int]:
    """Return how many defects are lost and gained; without thresholds, at the highest score of the good images."""
    limit = float(reference.scores[: reference.good].max()) if before is None else before
    own_limit = float(good.max()) if after is None else after
    was, is_rejected = reference.defect_scores > limit, ~(defects <= own_limit)
    return int((was & ~is_rejected).sum()), int((~was & is_rejected).sum())


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
    _, least, _ = parity.loss
    if least > MAX_LOST_SHARE:
        failures.append(
            f"of {parity.defects} synthetic defects it loses {parity.lost} and gains {parity.gained} at its threshold, "
            f"which is a loss of more than {MAX_LOST_SHARE:.0%}"
        )
    if parity.auroc_loss and parity.auroc_loss[1] > AUROC_LOSS:
        failures.append(
            "its loss of image AUROC is {:.4f} ({:.4f} to {:.4f}), ".format(*parity.auroc_loss)
            + f"expected a lower end of at most {AUROC_LOSS}"
        )
    return failures


def loss_of_auroc(before: Accuracy, after: Accuracy) -> Interval:
    """Return by how much the AUROC falls from one scoring of the same images to another, with its 95% interval.

    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988): each image's share of the AUROC varies independently, so
    the variance of the difference is that of the images' differences, over the number of good and of bad ones.
    """
    by_defect, by_good = (one - other for one, other in zip(_shares(before), _shares(after), strict=True))
    variance = sum(float(shares.var(ddof=1)) / len(shares) for shares in (by_defect, by_good) if len(shares) > 1)
    loss, half = float(by_defect.mean()), 1.96 * math.sqrt(variance)
    return loss, loss - half, loss + half


def _shares(scores: Accuracy) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return for each defect the share of good images below it, and for each good image that of defects above it."""
    difference = scores.defects[:, np.newaxis] - scores.good
    right = (difference > 0) + 0.5 * (difference == 0)
    return right.mean(axis=1), right.mean(axis=0)


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
    loss_limit = "" if parity.tolerance else f"its lower end at most {MAX_LOST_SHARE:.0%}"
    rows = [
        ("map, largest error", f"{parity.map_max_error:.1e}", _limit("at most", parity.tolerance)),
        ("map, mean error", f"{parity.map_mean_error:.1e}", ""),
        ("score, typical error", relative, ""),
        ("rank correlation, good", _number(parity.rank_correlation_good), ""),
        ("rank correlation, defects", _number(parity.rank_correlation_defects), ""),
        ("AUROC of synthetic defects", f"{parity.pytorch_auroc:.4f} -> {parity.auroc:.4f}", ""),
        ("verdicts that flip, good", f"{parity.verdict_flips} of {parity.images}", f"at most {parity.flips_allowed}"),
        ("synthetic defects lost, gained", f"{parity.lost}, {parity.gained} of {parity.defects}", ""),
        ("loss of detections, 95% interval", "{:+.1%} ({:+.1%} to {:+.1%})".format(*parity.loss), loss_limit),
        ("threshold", f"{_number(parity.pytorch_threshold)} -> {_number(parity.threshold)}", ""),
    ]
    if parity.accuracy:
        before, after = parity.accuracy["pytorch"], parity.accuracy["file"]
        rows += [(name.replace("_", " "), f"{before[name]:.4g} -> {after[name]:.4g}", "") for name in before]
    if parity.auroc_loss:
        shown = "{:+.4f} ({:+.4f} to {:+.4f})".format(*parity.auroc_loss)
        rows.append(
            (
                "loss of image AUROC, 95% interval",
                shown,
                "" if parity.tolerance else f"its lower end at most {AUROC_LOSS}",
            )
        )
    lines = [f"  {name:<34}{value:<34}{limit}".rstrip() for name, value, limit in rows]
    verdict = "holds" if parity.holds else "DOES NOT HOLD: " + "; ".join(parity.failures)
    return "\n".join([f"parity with PyTorch, {parity.precision} in {parity.engine}: {verdict}", *lines])


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _limit(words: str, value: float | None) -> str:
    return "" if value is None else f"{words} {value:.1e}"
