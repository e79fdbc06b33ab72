"""What the dashboard shows of a line now: counts, the newest picture and map of each place, the last rejects.

The loop writes it, and the dashboard's threads read it. There is no lock: the loop sets one reference or appends to one
deque at a time, which the interpreter does as a whole, and nothing is drawn before it is asked for.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from stfpm_runtime.detector import Verdict
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.journal.rows import VerdictRow
from stfpm_runtime.verdict_counter import VerdictCounter

from .base import KeptParts, Observer

RECENT = 1000
"""The number of verdicts of each place that are kept for charts and percentiles."""
REJECTS = 60
"""The number of verdicts of the line that were not passed and are kept."""

Place = tuple[str, str]
"""The names of camera and region."""


@dataclass(frozen=True, eq=False)
class LatestVerdict:
    """The newest verdict of a place, with what it was made from; the pixels are the camera's own, not a copy."""

    row: VerdictRow
    image: Image | None
    verdict: Verdict


class PlaceStatus(VerdictCounter):
    """One region of one camera. Its counts are those of this run, its latencies also those of the runs before."""

    def __init__(self) -> None:
        super().__init__(RECENT)
        self.dropped = 0
        """Frames of this run that were replaced by newer ones before they were judged."""
        self.newest: LatestVerdict | None = None
        """The newest verdict of this run."""
        self.pictured: LatestVerdict | None = None
        """The newest verdict of this run that has an image: `newest`, or an older one where that has none."""
        self.recent: deque[VerdictRow] = deque(maxlen=RECENT)
        """The newest verdicts, of this run and those before."""


class LiveStatus(Observer):
    """All places of a line."""

    name = "live_status"

    def __init__(self, cameras: Iterable[CameraOptions], before: Iterable[VerdictRow] = ()) -> None:
        """Begin with the verdicts of earlier runs, the oldest first, so that charts are not empty."""
        self.places: dict[Place, PlaceStatus] = {
            (camera.name, region.name): PlaceStatus() for camera in cameras for region in camera.regions
        }
        self.rejects: deque[VerdictRow] = deque(maxlen=REJECTS)
        self.frames: dict[str, Image] = {}
        """The newest whole frame of each camera of which a part was judged; the camera's own pixels, not a copy."""
        self.started_s = self.turned_s = time.monotonic()
        """When the loop was begun, and when it last took frames, `time.monotonic()`."""
        for row in before:
            if place := self.places.get((row.camera, row.region)):
                place.newest_ms.append(row.latency_ms)
            self._keep(row)

    def observe(self, parts: KeptParts) -> None:
        """Show these verdicts from now on."""
        for judged, row in parts:
            place = self.places[row.camera, row.region]
            place.count(row.decision, row.reason, row.latency_ms)
            place.dropped += row.dropped
            place.newest = LatestVerdict(row, judged.image, judged.verdict)
            if judged.triggered.frame.image is not None:
                self.frames[row.camera] = judged.triggered.frame.image
            if judged.image is not None:
                place.pictured = place.newest
            self._keep(row)

    def do_maintenance(self) -> None:
        """Remember that the loop runs."""
        self.turned_s = time.monotonic()

    def _keep(self, row: VerdictRow) -> None:
        if place := self.places.get((row.camera, row.region)):
            place.recent.append(row)
        if row.decision != "pass":
            self.rejects.append(row)
