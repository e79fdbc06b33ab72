"""Judging frames that meet: their regions and tiles go through the engine together, and come back as verdicts."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stfpm_runtime.detector import Decision, Detector, Timings, Verdict
from stfpm_runtime.errors import ImageError
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.imaging.regions import Cut, cut

from .cameras.mailbox import TriggeredFrame
from .config.line import CameraOptions, RegionOptions

LOG = logging.getLogger("stfpm.inspector")
PROBE_S = 1.0
"""Between two attempts to run an engine that failed, while no frame comes."""
ThresholdOf = Callable[[str, str], float]
"""The threshold of a camera's region, by their names."""


@dataclass(frozen=True, eq=False)
class Judged:
    """One part of a frame, and the verdict on it alone: no frame before it had a say."""

    shot: TriggeredFrame
    region: RegionOptions
    verdict: Verdict
    taken_ns: int
    """`time.monotonic_ns()` when the loop took the frame."""
    image: Image | None = None
    """The region's pixels, uint8 [H, W, 3]; None where there are none."""
    looks: int = 1
    """How many pictures the engine saw of it."""


class Inspector:
    """Judges whatever frames are at hand, of any cameras, with one detector."""

    def __init__(self, detector: Detector, batch: int = 16, thresholds: ThresholdOf | None = None) -> None:
        """Without `thresholds` each region has the innermost that the configuration names, or the detector's."""
        self._detector = detector
        self._batch = batch
        self._thresholds = thresholds
        self._works = True
        self._probe_s = 0.0

    def judge(self, shots: Sequence[TriggeredFrame]) -> list[Judged]:
        """A verdict for each region of each shot, in their order. Whatever breaks is a fault; nothing is raised.

        Even a bug: its traceback is logged, its frames are faults, and the line goes on.
        """
        taken_ns = time.monotonic_ns()
        try:
            return self._judge(shots, taken_ns)
        except Exception as error:
            LOG.exception("a bug: these frames were not judged")
            return self.refuse(shots, f"internal error: {type(error).__name__}: {error}")

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
        """Run the engine on pictures, and keep whether it gave usable results for all of them."""
        self._works, self._probe_s = False, time.monotonic() + PROBE_S
        verdicts = [
            verdict
            for start in range(0, len(crops), self._batch)
            for verdict in self._detector.inspect_batch(crops[start : start + self._batch])
        ]
        self._works = all(verdict.decision != "fault" for verdict in verdicts)
        self._probe_s = time.monotonic() + PROBE_S
        return verdicts

    def refuse(self, shots: Sequence[TriggeredFrame], reason: str) -> list[Judged]:
        """Faults for all their regions, unseen."""
        taken_ns = time.monotonic_ns()
        return [self._fault(shot, region, reason, taken_ns) for shot in shots for region in shot.camera.regions]

    def _judge(self, shots: Sequence[TriggeredFrame], taken_ns: int) -> list[Judged]:
        parts = [(shot, region, self._cut(shot, region)) for shot in shots for region in shot.camera.regions]
        crops = [crop for _, _, found in parts if isinstance(found, Cut) for crop in found.crops]
        verdicts = iter(self._run(crops) if crops else ())
        judged = []
        for shot, region, found in parts:
            if isinstance(found, str):
                judged.append(self._fault(shot, region, found, taken_ns))
                continue
            own = list(itertools.islice(verdicts, len(found.crops)))
            verdict = merge(found, own, self._threshold(shot.camera, region))
            judged.append(Judged(shot, region, verdict, taken_ns, found.image, len(own)))
        return judged

    def _cut(self, shot: TriggeredFrame, region: RegionOptions) -> Cut | str:
        """The region, or why there is none."""
        if shot.frame.image is None:
            return shot.frame.error or "the source gave a frame without pixels"
        try:
            return cut(shot.frame.image, region)
        except ImageError as error:
            return str(error)

    def _fault(self, shot: TriggeredFrame, region: RegionOptions, reason: str, taken_ns: int) -> Judged:
        threshold = self._threshold(shot.camera, region)
        verdict = Verdict("fault", None, threshold, reason=reason)
        return Judged(shot, region, verdict, taken_ns, shot.frame.image)

    def _threshold(self, camera: CameraOptions, region: RegionOptions) -> float:
        if self._thresholds is not None:
            return self._thresholds(camera.name, region.name)
        return threshold_of(camera, region, self._detector.threshold)


def threshold_of(camera: CameraOptions, region: RegionOptions, default: float) -> float:
    """The innermost threshold that is set."""
    return next(value for value in (region.threshold, camera.threshold, default) if value is not None)


def merge(found: Cut, verdicts: Sequence[Verdict], threshold: float) -> Verdict:
    """The verdicts on a region's crops as one; it is a fault if one of them is."""
    timings = Timings(
        sum(verdict.timings.preprocess_ms for verdict in verdicts),
        sum(verdict.timings.infer_ms for verdict in verdicts),
    )
    maps = [verdict.anomaly_map for verdict in verdicts if verdict.anomaly_map is not None]
    if len(maps) < len(found.crops):
        reason = next((verdict.reason for verdict in verdicts if verdict.reason), "a tile has no verdict")
        return Verdict("fault", None, threshold, reason=reason, timings=timings)
    if found.tiling is None and found.polygon is None:
        (verdict,) = verdicts
        anomaly_map, score = verdict.anomaly_map, verdict.score
    else:
        anomaly_map = found.merge(maps)
        score = float(anomaly_map.max())
    assert score is not None, "it has a map"
    decision: Decision = "reject" if score > threshold else "pass"
    return dataclasses.replace(
        verdicts[0], decision=decision, score=score, threshold=threshold, anomaly_map=anomaly_map, timings=timings
    )
