"""Percentiles of latencies with their confidence intervals, and signs that a machine is too noisy to measure on.

Frames come in rounds: a few back to back, then the other models' turns. Neighbours in time resemble each other, so that
the bootstrap draws whole rounds, not frames: an interval from single frames would be too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PERCENTILES = (50, 90, 99)
CONFIDENCE = 95
"""Confidence of every interval, in percent."""
RESAMPLES = 1000
NARROW = 0.02
"""Width of the p50's interval, as a share of the p50, at which enough has been measured."""
TOO_WIDE = 0.1
"""Width at the time limit from which on nothing can be said about this model on this machine."""
DRIFT = 0.15
"""Largest share by which the last third's median may differ from the first's."""
LOAD = 0.15
"""Largest share of the processor that other programs may use meanwhile."""

Rounds = npt.NDArray[np.float64]
"""Milliseconds [rounds, frames of a round], in the order of measuring."""


@dataclass(frozen=True)
class Estimate:
    """A value and the interval that holds the true one with 95% confidence."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Return the interval's width as a share of the value."""
        return (self.high - self.low) / self.value if self.value else 0.0


def estimate_percentiles(rounds: Rounds, resamples: int = RESAMPLES) -> dict[int, Estimate]:
    """Return p50, p90 and p99 of all frames, each with its bootstrap interval over rounds."""
    count = len(rounds)
    drawn = np.random.default_rng(0).integers(0, count, (resamples, count))
    replicas = np.percentile(rounds[drawn].reshape(resamples, -1), PERCENTILES, axis=1)
    tail = (100 - CONFIDENCE) / 2
    bounds = np.percentile(replicas, [tail, 100 - tail], axis=1)
    estimates = np.stack([np.percentile(rounds, PERCENTILES), *bounds], axis=1)
    return {which: Estimate(*map(float, one)) for which, one in zip(PERCENTILES, estimates, strict=True)}


def jitter(rounds: Rounds) -> float:
    """Return the mean difference between a frame's latency and the next one's, in milliseconds."""
    return float(np.abs(np.diff(rounds, axis=1)).mean()) if rounds.shape[1] > 1 else 0.0


def quantiles(values: Rounds) -> list[float]:
    """Return the 0th to the 100th percentile, 101 numbers."""
    return [round(float(value), 4) for value in np.percentile(values, np.arange(101))]


def drift(rounds: Rounds) -> float:
    """Return the median of the last third of the rounds over that of the first, less 1."""
    third = max(len(rounds) // 3, 1)
    return float(np.median(rounds[-third:]) / np.median(rounds[:third]) - 1)


def noise(samples: Sequence[tuple[str, Rounds]], others: float | None) -> tuple[str, ...]:
    """Return why these latencies cannot be trusted, one sentence each; nothing where they can.

    `samples` are each model's name and latencies, `others` the share of the processor that other programs used
    meanwhile, 0 to 1, None where that is not known.
    """
    reasons = []
    if others is not None and others > LOAD:
        reasons.append(f"other programs used {others:.0%} of the processor, at most {LOAD:.0%} is allowed")
    for name, rounds in samples:
        p50 = estimate_percentiles(rounds)[50]
        if p50.width > TOO_WIDE:
            reasons.append(
                f"{name}: after {rounds.size} frames the p50 is known to {p50.width:.0%} only "
                f"({p50.low:.2f} to {p50.high:.2f} ms), less than {TOO_WIDE:.0%} is allowed"
            )
    common_drift = float(np.median([drift(rounds) for _, rounds in samples])) if samples else 0.0
    if abs(common_drift) > DRIFT:
        reasons.append(f"latencies drifted by {common_drift:+.0%} while they were measured")
    return tuple(reasons)
