"""Drift: compares scores and brightness of passed parts with those of the good parts of the training.

It computes the two-sample Kolmogorov-Smirnov statistic over a sliding window for each place: light and lenses change
more often than parts do. Only passed parts are compared, and therefore only held-out scores at or below the threshold.
The mean grey level of the same parts is compared with that of the training pictures: it names the lamp as the cause,
and often moves before the scores do. The alarm is for people, and changes no verdict. Tiled regions are left out: their
score is the highest of many.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stfpm_runtime.imaging.preprocessing import Image, grey_level
from stfpm_runtime.line.config.line import DriftOptions
from stfpm_runtime.line.journal.rows import LogEvent, VerdictRow
from stfpm_runtime.model_check import Model

from .base import KeptParts, Observer

MIN_HELD_OUT = 8
"""The least number of held-out scores: with fewer, no window differs from them significantly."""
STEPS = 10
"""The number of comparisons in the time of one window."""
CALM = 10.0
"""An alarm ends when the p-value is this many times the alarm level."""
MIN_LIGHT_CHANGE = 5.0
"""The least change of the mean grey level, of 255, that is an alarm; it also has to be `DEVIATIONS` of single pictures'
standard deviations at training."""
DEVIATIONS = 3.0
CALM_LIGHT = 0.8
"""An alarm ends when the change is this share of the alarm's."""

Window = deque[tuple[float, float | None]]
"""The score and the mean grey level of each of the newest parts; None where the part's pixels are not known."""


@dataclass(frozen=True)
class Drift:
    """The newest comparison of a place."""

    camera: str
    region: str
    parts: int
    """The number of parts compared."""
    held_out: int
    statistic: float
    """The largest distance between the two distribution functions, 0 to 1."""
    p_value: float
    """The probability of this distance or a larger one, if nothing had changed."""
    alarm: bool
    median: float
    """The median of the window's scores."""
    held_out_median: float
    light: str = ""
    """`brighter` or `darker` than at training, `same`; empty where the model or the parts have no grey level."""
    grey_level: float | None = None
    """The mean of the window's pictures, 0 to 255."""
    trained_grey_level: float | None = None


def ks_statistic(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return sup |F1 - F2| of the empirical distribution functions of two samples, neither of them empty."""
    a, b = np.sort(np.asarray(first, np.float64)), np.sort(np.asarray(second, np.float64))
    values = np.concatenate([a, b])
    distances = np.searchsorted(a, values, side="right") / a.size - np.searchsorted(b, values, side="right") / b.size
    return float(np.abs(distances).max())


def ks_p_value(statistic: float, n: int, m: int) -> float:
    """Return Kolmogorov's asymptotic p-value for samples of n and m, with Stephens's correction for small ones.

    Q(x) = 2 sum over k >= 1 of (-1)^(k-1) exp(-2 k^2 x^2), x = (sqrt(e) + 0.12 + 0.11 / sqrt(e)) D, e = nm / (n + m)
    (Stephens: Use of the Kolmogorov-Smirnov and related statistics without extensive tables, 1970).
    """
    root = math.sqrt(n * m / (n + m))
    x = (root + 0.12 + 0.11 / root) * statistic
    if x < 0.2:  # Q(0.2) is 1 to 12 digits, and the sum converges slowly for smaller x
        return 1.0
    terms = (2 * (-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101))
    return min(1.0, max(0.0, math.fsum(terms)))


class DriftWatch(Observer):
    """Compares the scores of all places. The loop's thread alone calls its methods; `found` may be read from any."""

    name = "drift"

    def __init__(self, options: DriftOptions, log_event: LogEvent) -> None:
        """Store the options; `use_model` comes next."""
        self.found: dict[tuple[str, str], Drift] = {}
        """The newest comparison of each place; a place is not in it before its first window is full."""
        self._options = options
        self._log_event = log_event
        self._model = ""
        """The SHA-256 of the model: a part that another recipe judges late is not compared; empty: any."""
        self._held_out: npt.NDArray[np.float64] = np.zeros(0)
        self._trained: tuple[float, float] | None = None
        """Mean and standard deviation of the training pictures' grey levels."""
        self._windows: dict[tuple[str, str], Window] = {}
        self._due: dict[tuple[str, str], int] = {}

    def use_model(self, model: Model) -> None:
        """Compare with this model's held-out scores from now on; windows of the model before are forgotten.

        Scores of other students (calibration by folds) differ from the model's own without any drift: they are not
        compared, and an event says so.
        """
        if model.spec.folds:
            self._log_event("drift", "is not watched: the model was calibrated by folds and has no scores of its own")
        self.begin(() if model.spec.folds else model.spec.held_out_scores, model.spec.grey_levels)
        self._model = model.sha256

    def begin(self, held_out: Sequence[float], trained: tuple[float, float] | None = None) -> None:
        """Compare with these held-out scores, and this mean and deviation of grey levels, from now on."""
        self.end("another model is used")
        self._held_out = np.sort(np.asarray(held_out, np.float64))
        self._trained = trained
        self._windows.clear()
        self._due.clear()

    def close(self) -> None:
        """End all alarms."""
        self.end("the line stopped")

    def end(self, why: str, places: Collection[tuple[str, str]] | None = None) -> None:
        """End the alarms of these places, or of all, each with an event, and forget what was found there."""
        ended = [drift for place, drift in self.found.items() if places is None or place in places]
        self.found = {place: drift for place, drift in self.found.items() if drift not in ended}
        for drift in ended:
            if drift.alarm:
                self._log_event("drift", f"over: {drift.camera}/{drift.region}: {why}")

    def observe(self, parts: KeptParts) -> None:
        """Add the scores and grey levels of passed parts to the windows of their places."""
        for judged, row in parts:
            self.update(row, judged.pictures, judged.image)

    def update(self, row: VerdictRow, pictures: int = 1, image: Image | None = None) -> None:
        """Add one verdict; its score is the highest of so many `pictures`, `image` is the region, uint8 [H, W, 3]."""
        if row.decision != "pass" or row.score is None or pictures != 1 or self._model not in ("", row.model):
            return
        place = row.camera, row.region
        window = self._windows.setdefault(place, deque(maxlen=self._options.window))
        window.append((row.score, None if image is None or self._trained is None else grey_level(image)))
        self._due[place] = self._due.get(place, self._options.window) - 1
        if self._due[place] <= 0:
            self._due[place] = max(1, self._options.window // STEPS)
            self._compare(place, window, row.threshold)

    def _compare(self, place: tuple[str, str], window: Window, threshold: float) -> None:
        held_out = self._held_out[self._held_out <= threshold]
        if held_out.size < MIN_HELD_OUT:
            self.end(f"{held_out.size} held-out scores are below the threshold, too few to compare with", [place])
            return
        scores = [score for score, _ in window]
        statistic = ks_statistic(scores, held_out)
        p_value = ks_p_value(statistic, len(window), held_out.size)
        before = self.found.get(place)
        was = before is not None and before.alarm
        light, grey = self._light([level for _, level in window if level is not None], before)
        alarm = p_value < self._options.alarm * (CALM if was else 1.0) or light in ("brighter", "darker")
        drift = Drift(
            *place,
            parts=len(window),
            held_out=int(held_out.size),
            statistic=round(statistic, 4),
            p_value=p_value,
            alarm=alarm,
            median=float(np.median(scores)),
            held_out_median=float(np.median(held_out)),
            light=light,
            grey_level=grey,
            trained_grey_level=self._trained and round(self._trained[0], 1),
        )
        self.found = {**self.found, place: drift}
        if alarm != was:
            self._log_event("drift", describe(drift))

    def _light(self, levels: Sequence[float], before: Drift | None) -> tuple[str, float | None]:
        """Return how the light is compared with the training's, and the mean grey level of these pictures."""
        if self._trained is None or not levels:
            return "", None
        mean, deviation = self._trained
        change = float(np.mean(levels)) - mean
        limit = max(MIN_LIGHT_CHANGE, DEVIATIONS * deviation)
        if before is not None and before.light in ("brighter", "darker"):
            limit *= CALM_LIGHT
        light = "same" if abs(change) <= limit else "brighter" if change > 0 else "darker"
        return light, round(mean + change, 1)


def describe(drift: Drift) -> str:
    """Return the comparison in one line, as the journal's events have it."""
    place = f"{drift.camera}/{drift.region}"
    if not drift.alarm:
        return f"over: {place}: KS {drift.statistic:.2f}, p {drift.p_value:.1e}"
    if drift.light in ("brighter", "darker"):
        return (
            f"alarm: {place}: the last {drift.parts} passed parts are {drift.light} than at training (mean grey level "
            f"{drift.grey_level}, at training {drift.trained_grey_level}); check the lamp"
        )
    return (
        f"alarm: {place}: scores of the last {drift.parts} passed parts are unlike the held-out "
        f"ones (KS {drift.statistic:.2f}, p {drift.p_value:.1e}; median {drift.median:.4g}, "
        f"held out {drift.held_out_median:.4g})"
    )
