"""Attribute agreement analysis: how often decisions repeat, agree with one another, and agree with the reference."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stfpm_runtime.binomial import rate_interval

from .presentations import DECISIONS, Study

BOUNDS = {"effectiveness": (0.90, 0.80), "miss rate": (0.02, 0.05), "false-alarm rate": (0.05, 0.10)}
"""AIAG's bounds: what is acceptable, and what is marginal. A miss is a defect that passes."""
KAPPA_BOUNDS = (0.75, 0.40)
"""Above the first, agreement is good; below the second it is poor."""
GRADES = ("acceptable", "marginal", "not acceptable")
SHOULD_BE = {"good": "pass", "defect": "reject"}


@dataclass(frozen=True)
class Rate:
    """A share with its interval of 95% confidence by Clopper and Pearson, all 0 to 1."""

    count: int
    of: int
    share: float | None
    """None of nothing."""
    low: float
    high: float


@dataclass(frozen=True)
class Appraiser:
    """How one appraiser decided. A fault is neither a miss nor a false alarm: nothing was decided."""

    name: str
    repeated: Rate
    """Parts with the same decision in every trial."""
    kappa_within: float | None
    """Fleiss' Kappa of the trials; None of one trial, or where all decisions are alike."""
    kappa_reference: float | None
    """Cohen's Kappa; a fault is a disagreement. None without references, or where all are alike."""
    effectiveness: Rate
    """Parts with the right decision in every trial; a fault is not right."""
    misses: Rate
    """Presentations of defects that passed."""
    false_alarms: Rate
    """Presentations of good parts that were rejected."""
    faults: Rate
    missed_parts: Rate
    """Defects that passed in at least one trial."""
    rejected_good_parts: Rate
    """Good parts that were rejected in at least one trial."""
    grades: dict[str, str]
    """What AIAG's bounds say of each figure; empty without references."""

    @property
    def grade(self) -> str:
        """Return the worst grade; an empty text without references."""
        return max(self.grades.values(), key=GRADES.index, default="")


@dataclass(frozen=True)
class Pair:
    """Two appraisers, trial by trial."""

    names: tuple[str, str]
    table: list[list[int]]
    """Decisions of the first by those of the second, in the order of DECISIONS."""
    kappa: float | None


@dataclass(frozen=True)
class Agreement:
    """The agreement of a study."""

    appraisers: list[Appraiser]
    pairs: list[Pair]
    all_agree: Rate
    """Parts with one decision of all appraisers in all trials."""
    all_right: Rate
    """Parts that all appraisers decided rightly in all trials."""


def analyse_agreement(study: Study) -> Agreement | None:
    """Return the agreement of those appraisers that made decisions; None where no one did."""
    deciding = [index for index in range(len(study.appraisers)) if np.all(study.decisions[index] != "")]
    if not deciding:
        return None
    decisions, truth = study.decisions[deciding], np.array([SHOULD_BE.get(one, "") for one in study.references])
    names = [study.appraisers[index] for index in deciding]
    pairs = []
    for first, second in itertools.combinations(range(len(names)), 2):
        table = cross_table(decisions[first], decisions[second])
        pairs.append(Pair((names[first], names[second]), table.tolist(), cohen_kappa(table)))
    together = decisions.transpose(1, 0, 2).reshape(len(study.parts), -1)
    return Agreement(
        [_appraiser(name, one, truth) for name, one in zip(names, decisions, strict=True)], pairs,
        _rate(np.all(together == together[:, :1], axis=1)),
        _rate(np.all(together == truth[:, None], axis=1)[truth != ""]),
    )  # fmt: skip


def _appraiser(name: str, decisions: NDArray[np.str_], truth: NDArray[np.str_]) -> Appraiser:
    """Return the figures of decisions [parts, trials]."""
    known, trials = truth != "", decisions.shape[1]
    defects, good = decisions[truth == "reject"], decisions[truth == "pass"]
    counts = np.stack([np.sum(decisions == one, axis=1) for one in DECISIONS], axis=1)
    kappa = cohen_kappa(cross_table(decisions[known], np.repeat(truth[known, None], trials, axis=1)))
    effectiveness = _rate(np.all(decisions == truth[:, None], axis=1)[known])
    misses, false_alarms = _rate(defects == "pass"), _rate(good == "reject")
    return Appraiser(
        name, _rate(np.all(decisions == decisions[:, :1], axis=1)), fleiss_kappa(counts), kappa,
        effectiveness, misses, false_alarms, _rate(decisions == "fault"),
        _rate(np.any(defects == "pass", axis=1)), _rate(np.any(good == "reject", axis=1)),
        _grades(effectiveness, misses, false_alarms, kappa),
    )  # fmt: skip


def cross_table(first: NDArray[np.str_], second: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return how often the first decided one thing and the second another, in the order of DECISIONS."""
    return np.array([[np.sum((first == one) & (second == other)) for other in DECISIONS] for one in DECISIONS])


def cohen_kappa(table: NDArray[np.int64]) -> float | None:
    """Return Cohen's Kappa of a table [K, K] of two appraisers' decisions; None where all are alike, or without any."""
    total = int(table.sum())
    if total == 0:
        return None
    by_chance = float(table.sum(axis=0) @ table.sum(axis=1)) / total**2
    return None if by_chance == 1 else float((np.trace(table) / total - by_chance) / (1 - by_chance))


def fleiss_kappa(counts: NDArray[np.int64]) -> float | None:
    """Return Fleiss' Kappa (Psychological Bulletin 76, 1971) of counts [parts, K] of decisions, n of each part.

    None where all decisions are alike, or where n is 1.
    """
    of_each = int(counts[0].sum())
    by_chance = float(np.sum((counts.sum(axis=0) / counts.sum()) ** 2))
    if by_chance == 1 or of_each < 2:
        return None
    agree = float(np.mean(np.sum(counts * (counts - 1), axis=1) / (of_each * (of_each - 1))))
    return (agree - by_chance) / (1 - by_chance)


def _rate(found: NDArray[np.bool_]) -> Rate:
    count, of = int(found.sum()), int(found.size)
    return Rate(count, of, count / of if of else None, *rate_interval(count, of))


def _grades(effectiveness: Rate, misses: Rate, false_alarms: Rate, kappa: float | None) -> dict[str, str]:
    """Return the grade of each figure that there is."""
    steps = {}
    if effectiveness.share is not None:
        steps["effectiveness"] = _step(-effectiveness.share, [-bound for bound in BOUNDS["effectiveness"]])
    for name, rate in (("miss rate", misses), ("false-alarm rate", false_alarms)):
        if rate.share is not None:
            steps[name] = _step(rate.share, BOUNDS[name])
    if kappa is not None:
        steps["Kappa"] = 0 if kappa > KAPPA_BOUNDS[0] else 1 if kappa >= KAPPA_BOUNDS[1] else 2
    return {name: GRADES[step] for name, step in steps.items()}


def _step(value: float, bounds: Sequence[float]) -> int:
    """Return how many of the bounds a value exceeds."""
    return sum(value > bound for bound in bounds)
