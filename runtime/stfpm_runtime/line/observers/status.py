"""What is to be seen of a line at this moment: counts, the newest picture and map of each place, the last rejects.

The loop writes it down, and whoever looks reads it from another thread. There is no lock: the loop sets one reference
or appends to one deque at a time, which the interpreter does as a whole, and nothing is drawn before somebody asks.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from stfpm_runtime.detector import Verdict
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.inspect import JudgedPart
from stfpm_runtime.line.journal.rows import VerdictRow

RECENT = 1000
"""Verdicts of each place that are remembered, for charts and percentiles."""
REJECTS = 60
"""Verdicts of the line that were not passed and are remembered."""

Place = tuple[str, str]
"""Camera and region."""


@dataclass(frozen=True, eq=False)
class LatestVerdict:
    """The newest verdict of a place, with what it was made from; the pixels are the camera's own, not a copy."""

    entry: VerdictRow
    image: Image | None
    verdict: Verdict


@dataclass(eq=False)
class PlaceStatus:
    """One region of one camera."""

    decisions: Counter[str] = field(default_factory=Counter)
    """Of this run."""
    dropped: int = 0
    """Frames of this run that were passed over."""
    newest: LatestVerdict | None = None
    """Of this run."""
    pictured: LatestVerdict | None = None
    """The newest verdict of this run that has an image: `newest`, or an older one where that has none."""
    recent: deque[VerdictRow] = field(default_factory=lambda: deque(maxlen=RECENT))
    """The newest ones, of runs before too."""

    def latency_ms(self) -> tuple[float, float] | None:
        """Median and 99th percentile of the newest ones; None where there are none."""
        values = [entry.latency_ms for entry in list(self.recent)]
        if not values:
            return None
        p50, p99 = np.percentile(values, [50, 99])
        return float(p50), float(p99)


class LiveStatus:
    """All places of a line. `take` and `turned` belong to the loop's thread, the rest to any."""

    def __init__(self, cameras: Iterable[CameraOptions], before: Iterable[VerdictRow] = ()) -> None:
        """`before` are verdicts of earlier runs, the oldest first: charts do not begin empty."""
        self.places: dict[Place, PlaceStatus] = {
            (camera.name, region.name): PlaceStatus() for camera in cameras for region in camera.regions
        }
        self.rejects: deque[VerdictRow] = deque(maxlen=REJECTS)
        self.started_s = self.turned_s = time.monotonic()
        """When the loop was begun, and when it last turned, `time.monotonic()`."""
        for entry in before:
            self._remember(entry)

    def take(self, entry: VerdictRow, judged: JudgedPart) -> None:
        """The journal has it: show it from now on."""
        place = self.places[entry.camera, entry.region]
        place.decisions[entry.decision] += 1
        place.dropped += entry.dropped
        place.newest = LatestVerdict(entry, judged.image, judged.verdict)
        if judged.image is not None:
            place.pictured = place.newest
        self._remember(entry)

    def turned(self) -> None:
        """The loop is alive."""
        self.turned_s = time.monotonic()

    def _remember(self, entry: VerdictRow) -> None:
        if place := self.places.get((entry.camera, entry.region)):
            place.recent.append(entry)
        if entry.decision != "pass":
            self.rejects.append(entry)
