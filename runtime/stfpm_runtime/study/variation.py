"""Repeatability and reproducibility of scores by analysis of variance; parts and appraisers are random."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .agreement import GRADES
from .presentations import Study

POOLED_FROM = 0.05
"""An interaction with this p-value or a higher one is not significant, and counts as repeatability."""
GRR_BOUNDS = (0.10, 0.30)
"""AIAG's bounds of GRR / TV: up to the first it is acceptable, up to the second marginal."""
MIN_CATEGORIES = 5
SPREAD = 3.0
"""So many standard deviations to each side hold 99.7% of the scores of one part."""


@dataclass(frozen=True)
class AnovaRow:
    """A row of the table of the analysis of variance."""

    name: str
    df: int
    ss: float
    ms: float
    f: float | None
    p: float | None


@dataclass(frozen=True)
class Component:
    """A component of the variation."""

    name: str
    sd: float
    """Standard deviation, in the unit of the score."""
    of_total: float
    """sd / TV, 0 to 1."""
    contribution: float
    """Share of the total variance, 0 to 1."""


@dataclass(frozen=True)
class ThresholdZone:
    """The variation beside the threshold, which is a one-sided limit: good parts score below it."""

    low: float
    """Threshold - 3 GRR; a part whose mean score is between low and high may be decided either way."""
    high: float
    between: int
    """Parts of the study in between."""
    of_tolerance: float | None
    """3 GRR / (threshold - mean score of the good parts); None without good parts, or with a mean above it."""


@dataclass(frozen=True)
class Variation:
    """The variation of a study's scores."""

    appraisers: list[str]
    parts: list[str]
    """The parts of which every presentation has a score."""
    left_out: list[str]
    sources: list[AnovaRow]
    pooled: bool
    """Whether the interaction is not significant, and counts as repeatability."""
    components: dict[str, Component]
    """EV (repeatability), AV (reproducibility), INT (interaction), GRR, PV (parts) and TV (total)."""
    categories: int | None
    """ndc = 1.41 PV / GRR without its fraction; None where GRR is 0."""
    grade: str
    identical: bool
    """Whether the scores of each part are the same to the last digit."""
    threshold: ThresholdZone | None

    @property
    def shown(self) -> list[Component]:
        """Return the components that this study can show: with one appraiser there is no AV and no INT."""
        return [one for one in self.components.values() if len(self.appraisers) > 1 or one.name not in ("AV", "INT")]


def analyse_variation(study: Study, threshold: float | None) -> Variation | None:
    """Return the variation of the scores; None with one trial, or with fewer than two parts that have all scores."""
    scoring = [index for index in range(len(study.appraisers)) if np.any(np.isfinite(study.scores[index]))]
    whole = np.all(np.isfinite(study.scores[scoring]), axis=(0, 2))
    if not scoring or study.trials < 2 or whole.sum() < 2:
        return None
    scores = study.scores[scoring][:, whole]
    sources, pooled, variances = components_of(scores)
    total = variances["TV"]
    components = {name: Component(name, math.sqrt(value), math.sqrt(value / total) if total else 0.0,
                                  value / total if total else 0.0) for name, value in variances.items()}  # fmt: skip
    grr, parts = components["GRR"], components["PV"]
    categories = math.floor(1.41 * parts.sd / grr.sd) if grr.sd else None
    grade = sum(grr.of_total > bound for bound in GRR_BOUNDS)
    if categories is not None and categories < MIN_CATEGORIES:
        grade = max(grade, 1)
    good = np.array([one == "good" for one in study.references])[whole]
    return Variation(
        [study.appraisers[index] for index in scoring], [p for p, w in zip(study.parts, whole, strict=True) if w],
        [p for p, w in zip(study.parts, whole, strict=True) if not w], sources, pooled, components, categories,
        GRADES[grade], bool(np.all(np.ptp(scores, axis=(0, 2)) == 0)),
        None if threshold is None else _beside(threshold, grr.sd, scores.mean(axis=(0, 2)), good),
    )  # fmt: skip


def components_of(scores: NDArray[np.float64]) -> tuple[list[AnovaRow], bool, dict[str, float]]:
    """Return the analysis of variance of scores [appraisers, parts, trials], whether it is pooled, and the variances.

    A component whose estimate is negative is 0. With one appraiser there is neither reproducibility nor interaction.
    """
    appraisers, parts, trials = scores.shape
    mean = scores.mean()
    ss_appraiser = parts * trials * float(np.sum((scores.mean(axis=(1, 2)) - mean) ** 2))
    ss_part = appraisers * trials * float(np.sum((scores.mean(axis=(0, 2)) - mean) ** 2))
    ss_cell = trials * float(np.sum((scores.mean(axis=2) - mean) ** 2))
    ss_error = float(np.sum((scores - scores.mean(axis=2, keepdims=True)) ** 2))
    ss_both = max(ss_cell - ss_appraiser - ss_part, 0.0) if appraisers > 1 else 0.0
    df_appraiser, df_part, df_error = appraisers - 1, parts - 1, appraisers * parts * (trials - 1)
    df_both = df_appraiser * df_part
    ms_error = ss_error / df_error
    ms_both = ss_both / df_both if df_both else 0.0
    f_both = ms_both / ms_error if df_both and ms_error else None
    p_both = None if f_both is None else f_p_value(f_both, df_both, df_error)
    pooled = p_both is not None and p_both >= POOLED_FROM
    within = (ss_both + ss_error) / (df_both + df_error) if pooled else ms_error
    below = within if pooled or not df_both else ms_both  # the mean square that parts and appraisers are compared with
    sources = []
    for name, ss, df in (("appraiser", ss_appraiser, df_appraiser), ("part", ss_part, df_part)):
        f = ss / df / below if df and below else None
        df_below = df_both + df_error if pooled or not df_both else df_both
        sources += [AnovaRow(name, df, ss, ss / df, f, None if f is None else f_p_value(f, df, df_below))] if df else []
    sources += [AnovaRow("appraiser x part", df_both, ss_both, ms_both, f_both, p_both)] if df_both else []
    sources.append(AnovaRow("repeatability", df_error, ss_error, ms_error, None, None))
    appraiser = max((ss_appraiser / df_appraiser - below) / (parts * trials), 0.0) if df_appraiser else 0.0
    both = 0.0 if pooled or not df_both else max((ms_both - ms_error) / trials, 0.0)
    part = max((ss_part / df_part - below) / (appraisers * trials), 0.0)
    grr = within + appraiser + both
    return sources, pooled, {"EV": within, "AV": appraiser, "INT": both, "GRR": grr, "PV": part, "TV": grr + part}


def f_p_value(f: float, df_above: int, df_below: int) -> float:
    """Return the probability that an F-distributed value is f or more.

    It is the regularised incomplete beta function at x = df_below / (df_below + df_above f). With x = sin² t the
    integrand has no pole, and a Gauss-Legendre rule gives 8 digits or more.
    """
    a, b = df_below / 2, df_above / 2
    end = math.atan2(math.sqrt(df_below), math.sqrt(df_above * f))
    nodes, weights = np.polynomial.legendre.leggauss(400)
    t = (nodes + 1) * end / 2
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    values = 2 * np.exp((2 * a - 1) * np.log(np.sin(t)) + (2 * b - 1) * np.log(np.cos(t)) - log_beta)
    return min(float(weights @ values) * end / 2, 1.0)


def _beside(threshold: float, grr: float, means: NDArray[np.float64], good: NDArray[np.bool_]) -> ThresholdZone:
    """Return the zone around the threshold in which a part may be decided either way."""
    low, high = threshold - SPREAD * grr, threshold + SPREAD * grr
    room = threshold - float(means[good].mean()) if good.any() else 0.0
    between = int(np.sum((means > low) & (means < high)))
    return ThresholdZone(low, high, between, SPREAD * grr / room if room > 0 else None)
