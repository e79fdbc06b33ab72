"""What a sample of latencies says, and how sure it is.

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
"""Of every interval, in percent."""
RESAMPLES = 1000
NARROW = 0.02
"""The p50's interval may be this share of the p50 when enough has been measured."""
HOPELESS = 0.1
"""Wider than this after all the time there was: nothing can be said about this model on this machine now."""
DRIFT = 0.15
"""The last third's median may differ from the first's by this share."""
LOAD = 0.15
"""The share of the processor that others may use meanwhile."""

Rounds = npt.NDArray[np.float64]
"""Milliseconds [rounds, frames of a round], in the order of measuring."""


@dataclass(frozen=True)
class Estimate:
    """A figure and the interval that holds the true one with 95% confidence."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Of the interval, as a share of the value."""
        return (self.high - self.low) / self.value if self.value else 0.0


def estimate_percentiles(rounds: Rounds, resamples: int = RESAMPLES) -> dict[int, Estimate]:
    """p50, p90 and p99 of all frames, each with its bootstrap interval over rounds."""
    count = len(rounds)
    drawn = np.random.default_rng(0).integers(0, count, (resamples, count))
    replicas = np.percentile(rounds[drawn].reshape(resamples, -1), PERCENTILES, axis=1)
    tail = (100 - CONFIDENCE) / 2
    low, high = np.percentile(replicas, [tail, 100 - tail], axis=1)
    values = np.percentile(rounds, PERCENTILES)
    return {
        which: Estimate(float(values[k]), float(low[k]), float(high[k])) for k, which in enumerate(PERCENTILES)
    }  # fmt: skip


def jitter(rounds: Rounds) -> float:
    """The mean difference between a frame's latency and the next one's, in milliseconds."""
    return float(np.abs(np.diff(rounds, axis=1)).mean()) if rounds.shape[1] > 1 else 0.0


def quantiles(values: Rounds) -> list[float]:
    """The 0th to the 100th percentile: a distribution in 101 numbers."""
    return [round(float(value), 4) for value in np.percentile(values, np.arange(101))]


def drift(rounds: Rounds) -> float:
    """The median of the last third of the rounds over that of the first, less 1."""
    third = max(len(rounds) // 3, 1)
    return float(np.median(rounds[-third:]) / np.median(rounds[:third]) - 1)


def noise(samples: Sequence[tuple[str, Rounds]], others: float | None) -> tuple[str, ...]:
    """Why these figures cannot be trusted, one sentence each; nothing where they can.

    `samples` are each model's name and latencies, `others` the share of the processor that other programs used
    meanwhile, 0 to 1, None where that is not known.
    """
    reasons = []
    if others is not None and others > LOAD:
        reasons.append(f"other programs used {others:.0%} of the processor, at most {LOAD:.0%} would do")
    for name, rounds in samples:
        median = estimate_percentiles(rounds)[50]
        if median.width > HOPELESS:
            reasons.append(
                f"{name}: after {rounds.size} frames the p50 is known to {median.width:.0%} only "
                f"({median.low:.2f} to {median.high:.2f} ms), {HOPELESS:.0%} would do"
            )
    drifts = [drift(rounds) for _, rounds in samples]
    if drifts and abs(float(np.median(drifts))) > DRIFT:
        reasons.append(f"latencies drifted by {float(np.median(drifts)):+.0%} while they were measured")
    return tuple(reasons)
