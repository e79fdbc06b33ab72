"""The detector makes a verdict from a camera's frame. A part that was not judged is never passed."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .engines.base import Engine, Maps
from .errors import ArtifactError, ImageError, OptionError, StfpmError
from .imaging.images import read_image
from .imaging.preprocessing import RESIZE, Image, preprocess
from .score import relative_score

Decision = Literal["pass", "reject", "fault"]
Picture = npt.NDArray[Any] | str | os.PathLike[str]
"""The argument of `Detector.inspect`: pixels, or the path of a file that holds them."""


@dataclass(frozen=True)
class Timings:
    """The time that one frame took, in milliseconds; in a batch, its share."""

    preprocess_ms: float = 0.0
    infer_ms: float = 0.0

    @property
    def latency_ms(self) -> float:
        """Return the time from the frame in memory to its score, in milliseconds."""
        return self.preprocess_ms + self.infer_ms


@dataclass(frozen=True)
class Verdict:
    """The decision on one frame.

    `fault` means that the frame was not judged: `reason` says why, score and map are None. It is never a pass.
    """

    decision: Decision
    score: float | None
    """The model's image score, higher for more anomalous."""
    threshold: float
    """A score above it is a reject."""
    anomaly_map: Maps | None = field(repr=False, default=None)
    """float32 [H, W] of the spec's size, at least 0, higher for more anomalous."""
    reason: str = ""
    """The reason of a fault; empty for every other decision."""
    timings: Timings = field(default_factory=Timings)

    @property
    def relative_score(self) -> float | None:
        """Return score / threshold: above 1 for a reject; None for a fault, and for a threshold of 0 or less."""
        return relative_score(self.score, self.threshold)


class Detector:
    """Judges frames with an engine and a threshold. One thread at a time: give each thread a detector of its own.

    >>> with Detector("bottle.onnx") as detector:
    ...     detector.inspect("part.png").decision
    'pass'
    """

    def __init__(self, engine: Engine | str | os.PathLike[str], threshold: float | None = None) -> None:
        """Use an engine, or open the model file at a path; use the spec's threshold unless a finite one is given.

        Raises ArtifactError for a model without a threshold or trained with another resize, OptionError for a
        threshold that is not finite.
        """
        if isinstance(engine, str | os.PathLike):
            from .engines import open_engine

            engine = open_engine(Path(engine))
        spec = engine.spec
        if spec.resize != RESIZE:
            raise ArtifactError(
                f"model {spec.name} was trained with the resize {spec.resize!r}, this stfpm-edge has {RESIZE!r}; "
                "train it again with this version, or use the version that trained it"
            )
        if threshold is None:
            threshold = spec.threshold
        if threshold is None:
            raise ArtifactError(f"model {spec.name} has no threshold; give one, or train it with held-out images")
        if not math.isfinite(threshold):
            raise OptionError(f"got a threshold of {threshold}; expected a finite number")
        self.engine: Engine = engine
        self.threshold = threshold

    def __enter__(self) -> Detector:
        """Return the detector, whose engine is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine."""
        self.engine.close()

    def inspect(self, frame: Picture) -> Verdict:
        """Return the verdict on one picture: the path of a file, or a frame of any size in memory.

        A frame is uint8 or uint16 [H, W, 3], BGR whatever the spec's order, or grey [H, W]; a uint16 frame has the
        spec's `bits`. A file is read by `read_image`, which ignores an EXIF orientation.

        A picture that cannot be read or judged, and an engine that fails, give a `fault`.
        Raises TypeError for an argument that is neither a path nor an array of these types.
        """
        return self.inspect_batch([frame])[0]

    def inspect_batch(self, frames: Sequence[Picture]) -> list[Verdict]:
        """Return the verdicts on pictures, in their order, from one run of the engine.

        A picture that cannot be used is a fault of its own; an engine that fails makes all of them faults.
        Raises TypeError as `inspect` does, before anything is judged.
        """
        for frame in frames:
            _check_type(frame)
        verdicts: list[Verdict | None] = [None] * len(frames)
        images, positions, preprocess_ms = [], [], []
        for position, frame in enumerate(frames):
            started = time.perf_counter()
            try:
                images.append(self._input(frame))
            except ImageError as error:
                verdicts[position] = self.fault(str(error))
                continue
            positions.append(position)
            preprocess_ms.append(_since_ms(started))
        if images:
            started = time.perf_counter()
            try:
                maps, scores = self.engine.infer(np.stack(images))
            except StfpmError as error:
                return [verdict or self.fault(str(error)) for verdict in verdicts]
            infer_ms = _since_ms(started) / len(images)
            for position, image_ms, anomaly_map, score in zip(positions, preprocess_ms, maps, scores, strict=True):
                verdicts[position] = self._judge(anomaly_map, float(score), Timings(image_ms, infer_ms))
        return [verdict or self.fault("the engine gave no result for this frame") for verdict in verdicts]

    def fault(self, reason: str) -> Verdict:
        """Return the verdict on a frame that could not be judged."""
        return Verdict("fault", None, self.threshold, reason=reason)

    def _input(self, frame: Picture) -> Image:
        """Return the frame as the graph takes it; the one place where channels are reordered for an RGB model."""
        spec = self.engine.spec
        if not isinstance(frame, np.ndarray):
            frame = read_image(frame, bits=spec.bits)
        image = preprocess(frame, spec.height, spec.width, spec.bits)
        return image if spec.channel_order == "BGR" else image[:, :, ::-1]

    def _judge(self, anomaly_map: Maps, score: float, timings: Timings) -> Verdict:
        if not math.isfinite(score) or not np.isfinite(anomaly_map).all():
            return Verdict(
                "fault", None, self.threshold, reason=f"the score is {score} or the map not finite", timings=timings
            )
        decision: Decision = "reject" if score > self.threshold else "pass"
        return Verdict(decision, score, self.threshold, anomaly_map, timings=timings)


def _check_type(frame: object) -> None:
    if isinstance(frame, np.ndarray):
        if frame.dtype not in (np.uint8, np.uint16):
            raise TypeError(f"got a frame of type {frame.dtype}; expected uint8 (0 to 255) or uint16 (0 to 65535)")
    elif not isinstance(frame, (str, os.PathLike)):
        raise TypeError(f"got a frame of type {type(frame).__name__}; expected a NumPy array or a path")


def _since_ms(started: float) -> float:
    return (time.perf_counter() - started) * 1e3
