"""Whether the scores of passed parts still look like those of the good parts that were held out of training.

The two-sample Kolmogorov-Smirnov statistic, over a sliding window for each place. Lighting and lenses drift before
parts do. It is an alarm for people, and has no say in any verdict. Only what was passed is compared, so of the held-out
scores only those at or below the threshold are. Tiled regions are left out: theirs is the highest of many scores.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stfpm_runtime.line.config.line import DriftOptions
from stfpm_runtime.line.journal.rows import VerdictRow

LogEvent = Callable[[str, str], None]
LEAST = 8
"""Held-out scores; with fewer no window could ever be told from them."""
STEPS = 10
"""Comparisons while a window passes by."""
CALM = 10.0
"""An alarm ends when the p-value is this many times the alarm level."""


@dataclass(frozen=True)
class Drift:
    """What the newest comparison of a place found."""

    camera: str
    region: str
    parts: int
    """Compared."""
    held_out: int
    statistic: float
    """The largest distance between the two distribution functions, 0 to 1."""
    p_value: float
    """Of a distance as large or larger, if nothing had changed."""
    alarm: bool
    median: float
    """Of the window's scores."""
    held_out_median: float


def ks_statistic(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Sup |F1 - F2| of the empirical distribution functions of two samples, neither of them empty."""
    a, b = np.sort(np.asarray(first, np.float64)), np.sort(np.asarray(second, np.float64))
    values = np.concatenate([a, b])
    distances = np.searchsorted(a, values, side="right") / a.size - np.searchsorted(b, values, side="right") / b.size
    return float(np.abs(distances).max())


def ks_p_value(statistic: float, n: int, m: int) -> float:
    """Kolmogorov's asymptotic p-value for samples of n and m, with Stephens's correction for small ones.

    Q(x) = 2 sum over k >= 1 of (-1)^(k-1) exp(-2 k^2 x^2), x = (sqrt(e) + 0.12 + 0.11 / sqrt(e)) D, e = nm / (n + m)
    (Stephens: Use of the Kolmogorov-Smirnov and related statistics without extensive tables, 1970).
    """
    root = math.sqrt(n * m / (n + m))
    x = (root + 0.12 + 0.11 / root) * statistic
    if x < 0.2:  # Q(0.2) is 1 to 12 digits, and the sum slow to settle below
        return 1.0
    terms = (2 * (-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101))
    return min(1.0, max(0.0, math.fsum(terms)))


class DriftWatch:
    """Watches all places. `take` belongs to the loop's thread; `found` may be read from any."""

    def __init__(self, options: DriftOptions, log_event: LogEvent) -> None:
        self.found: dict[tuple[str, str], Drift] = {}
        """The newest comparison of each place; a place is not in it before its first window is full."""
        self._options = options
        self._log_event = log_event
        self._held_out: npt.NDArray[np.float64] = np.zeros(0)
        self._windows: dict[tuple[str, str], deque[float]] = {}
        self._due: dict[tuple[str, str], int] = {}

    def begin(self, held_out: Sequence[float]) -> None:
        """A model with these held-out scores rules from now on: what was seen before is another's."""
        self.end("another model is used")
        self._held_out = np.sort(np.asarray(held_out, np.float64))
        self._windows.clear()
        self._due.clear()

    def end(self, why: str, places: Collection[tuple[str, str]] | None = None) -> None:
        """End the alarms of these places, or of all, each with an event, and forget what was found there."""
        ended = [drift for place, drift in self.found.items() if places is None or place in places]
        self.found = {place: drift for place, drift in self.found.items() if drift not in ended}
        for drift in ended:
            if drift.alarm:
                self._log_event("drift", f"over: {drift.camera}/{drift.region}: {why}")

    def take(self, entry: VerdictRow, looks: int = 1) -> None:
        """One more verdict; `looks` is how many pictures its score is the highest of."""
        if entry.decision != "pass" or entry.score is None or looks != 1:
            return
        place = entry.camera, entry.region
        window = self._windows.setdefault(place, deque(maxlen=self._options.window))
        window.append(entry.score)
        self._due[place] = self._due.get(place, self._options.window) - 1
        if self._due[place] <= 0:
            self._due[place] = max(1, self._options.window // STEPS)
            self._compare(place, window, entry.threshold)

    def _compare(self, place: tuple[str, str], window: Sequence[float], threshold: float) -> None:
        held_out = self._held_out[self._held_out <= threshold]
        if held_out.size < LEAST:
            self.end(f"{held_out.size} held-out scores are below the threshold, too few to compare with", [place])
            return
        statistic = ks_statistic(window, held_out)
        p_value = ks_p_value(statistic, len(window), held_out.size)
        before = self.found.get(place)
        was = before is not None and before.alarm
        alarm = p_value < self._options.alarm * (CALM if was else 1.0)
        drift = Drift(
            *place,
            parts=len(window),
            held_out=int(held_out.size),
            statistic=round(statistic, 4),
            p_value=p_value,
            alarm=alarm,
            median=float(np.median(window)),
            held_out_median=float(np.median(held_out)),
        )
        self.found = {**self.found, place: drift}
        if alarm != was:
            self._log_event("drift", describe(drift))


def describe(drift: Drift) -> str:
    """The comparison in a line, as the journal's events have it."""
    what = "alarm" if drift.alarm else "over"
    return (
        f"{what}: {drift.camera}/{drift.region}: scores of the last {drift.parts} passed parts are unlike the held-out "
        f"ones (KS {drift.statistic:.2f}, p {drift.p_value:.1e}; median {drift.median:.4g}, "
        f"held out {drift.held_out_median:.4g})"
        if drift.alarm
        else f"{what}: {drift.camera}/{drift.region}: KS {drift.statistic:.2f}, p {drift.p_value:.1e}"
    )
