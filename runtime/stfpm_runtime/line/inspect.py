"""Judge frames of all cameras together: their regions and tiles go through the engine in one batch."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stfpm_runtime.artifact.map_score import map_score
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.detector import Detector, Timings, Verdict
from stfpm_runtime.errors import ImageError
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.imaging.regions import Cut, cut

from .cameras.worker import TriggeredFrame
from .config.camera import RegionOptions
from .decide import apply_threshold

LOG = logging.getLogger("stfpm.inspector")
PROBE_S = 1.0
"""Seconds between two attempts to run an engine that failed, while no frame comes."""
ThresholdOf = Callable[[str, str], float]
"""Returns the threshold of a camera's region, by their names."""


@dataclass(frozen=True, eq=False)
class JudgedPart:
    """One part of a frame, and the verdict on it without regard to the frames before."""

    triggered: TriggeredFrame
    region: RegionOptions
    verdict: Verdict
    taken_ns: int
    """`time.monotonic_ns()` when the loop took the frame."""
    image: Image | None = None
    """The region's pixels, uint8 [H, W, 3]; the whole frame where it was not cut, None where there are none."""
    pictures: int = 1
    """How many pictures the engine got of it; the score is the highest of theirs. 0: none, as it was not cut."""


class Inspector:
    """Judges frames with one detector. For one thread."""

    def __init__(self, detector: Detector, batch: int, threshold_of: ThresholdOf) -> None:
        """Store the detector, the number of pictures in one run of it at most, and where thresholds come from."""
        self._detector = detector
        self._batch = batch
        self._threshold_of = threshold_of
        self._works = True
        self._probe_s = 0.0

    def judge(self, frames: Sequence[TriggeredFrame]) -> list[JudgedPart]:
        """Return a verdict for each region of each frame, in their order. A failure makes a fault; nothing is raised.

        That includes an internal error: its traceback is logged, its frames are faults, and the line goes on.
        """
        taken_ns = time.monotonic_ns()
        try:
            return self._judge(frames, taken_ns)
        except Exception as error:
            LOG.exception("internal error: these frames were not judged")
            return self.refuse(frames, f"internal error: {type(error).__name__}: {error}")

    def engine_works(self) -> bool:
        """Return whether the engine gave usable results when it was last run. For the loop's thread.

        An engine that failed is run again on a black picture once a second: a PLC that waits for the heartbeat sends
        no parts, and without parts it would never show that the engine works again.
        """
        if not self._works and time.monotonic() >= self._probe_s:
            spec = self._detector.engine.spec
            try:
                self._run([np.zeros((spec.height, spec.width, 3), np.uint8)])
            except Exception:
                LOG.exception("internal error: the engine that failed cannot be run again")
        return self._works

    def _run(self, crops: Sequence[Image]) -> list[Verdict]:
        """Run the engine on pictures, and store whether it gave usable results for all of them."""
        self._works, self._probe_s = False, time.monotonic() + PROBE_S
        verdicts = [
            verdict
            for start in range(0, len(crops), self._batch)
            for verdict in self._detector.inspect_batch(crops[start : start + self._batch])
        ]
        self._works = all(verdict.decision != "fault" for verdict in verdicts)
        self._probe_s = time.monotonic() + PROBE_S
        return verdicts

    def refuse(self, frames: Sequence[TriggeredFrame], reason: str) -> list[JudgedPart]:
        """Return faults for all regions of these frames, without running the engine."""
        taken_ns = time.monotonic_ns()
        return [
            self._fault(triggered, region, reason, taken_ns)
            for triggered in frames
            for region in triggered.camera.regions
        ]

    def _judge(self, frames: Sequence[TriggeredFrame], taken_ns: int) -> list[JudgedPart]:
        parts = [
            (triggered, region, self._cut(triggered, region))
            for triggered in frames
            for region in triggered.camera.regions
        ]
        crops = [crop for _, _, found in parts if isinstance(found, Cut) for crop in found.crops]
        verdicts = iter(self._run(crops) if crops else ())
        judged = []
        for triggered, region, found in parts:
            if isinstance(found, str):
                judged.append(self._fault(triggered, region, found, taken_ns))
                continue
            own = list(itertools.islice(verdicts, len(found.crops)))
            verdict = apply_threshold(
                merge(found, own, self._detector.engine.spec), self._threshold_of(triggered.camera.name, region.name)
            )
            judged.append(JudgedPart(triggered, region, verdict, taken_ns, found.image, len(own)))
        return judged

    def _cut(self, triggered: TriggeredFrame, region: RegionOptions) -> Cut | str:
        """Return the region's pictures, or why there are none."""
        if triggered.frame.image is None:
            return triggered.frame.error or "the source gave a frame without pixels"
        try:
            return cut(
                triggered.frame.image, region.name, region.rectangle, region.polygon, region.tile, region.overlap
            )
        except ImageError as error:
            return str(error)

    def _fault(self, triggered: TriggeredFrame, region: RegionOptions, reason: str, taken_ns: int) -> JudgedPart:
        threshold = self._threshold_of(triggered.camera.name, region.name)
        verdict = Verdict("fault", None, threshold, reason=reason)
        return JudgedPart(triggered, region, verdict, taken_ns, triggered.frame.image, 0)


def peak_of(verdict: Verdict) -> tuple[float | None, float | None]:
    """Return where the verdict's map is highest: x and y as shares of its width and height, 0 to 1; or None, None."""
    if verdict.score is None or verdict.anomaly_map is None:
        return None, None
    rows, columns = verdict.anomaly_map.shape
    row, column = divmod(int(verdict.anomaly_map.argmax()), columns)
    return round((column + 0.5) / columns, 4), round((row + 0.5) / rows, 4)


def merge(found: Cut, verdicts: Sequence[Verdict], spec: Spec) -> Verdict:
    """Return the verdicts on a region's pictures as one, before its threshold; it is a fault if one of them is.

    The score is the highest of the tiles', each taken by the model's head from the tile's part of the blended map. A
    smallest area is looked for in the whole map: a defect may lie across tiles.
    """
    timings = Timings(
        sum(verdict.timings.preprocess_ms for verdict in verdicts),
        sum(verdict.timings.infer_ms for verdict in verdicts),
    )
    maps = [verdict.anomaly_map for verdict in verdicts if verdict.anomaly_map is not None]
    if len(maps) < len(found.crops):
        reason = next((verdict.reason for verdict in verdicts if verdict.reason), "a tile has no verdict")
        return Verdict("fault", None, verdicts[0].threshold, reason=reason, timings=timings)
    if found.tiling is None and found.polygon is None:
        return verdicts[0]
    anomaly_map = found.merge(maps)
    inside = found.inside(anomaly_map.shape)
    windows = found.windows(*maps[0].shape) if spec.min_area == 1 else [(slice(None), slice(None))]
    score = max(map_score(anomaly_map[at], spec, None if inside is None else inside[at]) for at in windows)
    return dataclasses.replace(verdicts[0], score=score, anomaly_map=anomaly_map, timings=timings)
