"""Split conformal prediction: a threshold with a guarantee, from the scores of held-out good images.

If a good part of tomorrow is exchangeable with the n held-out ones, its score exceeds the k-th smallest of theirs with
a probability of at most 1 - k / (n + 1) (Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World, 2005).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from stfpm_runtime.errors import DataError, OptionError


@dataclass(frozen=True)
class Threshold:
    """A score above `value` is a reject; of good parts at most `guaranteed_rate` are rejected, on average."""

    value: float
    guaranteed_rate: float
    requested_rate: float

    @property
    def meets_request(self) -> bool:
        """Return whether the number of held-out images is enough for the requested rate."""
        return self.guaranteed_rate <= self.requested_rate


def check_false_alarm_rate(rate: float) -> None:
    """Raise OptionError for a rate that is not between 0 and 1."""
    if not 0 < rate < 1:
        raise OptionError(f"a false-alarm rate of {rate} was asked for; expected one between 0 and 1, say 0.01")


def conformal_threshold(scores: Sequence[float], false_alarm_rate: float) -> Threshold:
    """Return the lowest threshold that keeps false alarms at or below `false_alarm_rate` (0 < rate < 1).

    With n scores, 1 / (n + 1) is the lowest rate that can be guaranteed: below it the largest score is taken, and
    `meets_request` is false. Raises DataError without scores or with a non-finite one, OptionError for a rate outside
    0 to 1.
    """
    check_false_alarm_rate(false_alarm_rate)
    if not scores or not all(math.isfinite(score) for score in scores):
        raise DataError(f"{len(scores)} held-out scores, not all of them finite; expected at least one and all finite")
    n = len(scores)
    # The tiny slack keeps (n + 1) * (1 - rate), an integer on paper, from being rounded up to the next one.
    k = min(math.ceil((n + 1) * (1 - false_alarm_rate) - 1e-9), n)
    k = max(k, 1)
    return Threshold(
        value=sorted(scores)[k - 1], guaranteed_rate=(n + 1 - k) / (n + 1), requested_rate=false_alarm_rate
    )


class PValues:
    """Gives the p-value of scores: the share of good parts that would score at least as high.

    It is (1 + #{held_out >= score}) / (n + 1). The held-out scores are sorted once.
    """

    def __init__(self, held_out: Sequence[float]) -> None:
        self._sorted = sorted(held_out)

    def of(self, score: float, looks: int = 1) -> float | None:
        """Return the p-value of a score that is the highest of `looks` pictures (tiles); None without held-out scores.

        For more than one picture it is the p-value of one times their number (Bonferroni's bound).
        """
        n = len(self._sorted)
        if not n:
            return None
        at_least = n - bisect.bisect_left(self._sorted, score)
        return min(1.0, looks * (1 + at_least) / (n + 1))
