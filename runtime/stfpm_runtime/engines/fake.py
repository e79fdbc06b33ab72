"""An engine without a model, whose answers are known by construction: for tests and dry runs.

>>> engine = FakeEngine(spec)                          # an image's anomaly map is its first channel / 255
>>> engine = FakeEngine(spec, answer=failing)          # each call raises EngineError
>>> engine = FakeEngine(spec, answer=lambda images: (maps, scores))
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.errors import EngineError

from .base import BaseEngine, Maps, Scores

Answer = Callable[[npt.NDArray[np.uint8]], tuple[Maps, Scores]]
"""Function from images uint8 [N, H, W, 3] to maps float32 [N, H, W] and scores float32 [N]."""


def first_channel(images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
    """Return the first channel, 0 to 1, as map: black is normal, and of a BGR image the blue is the anomaly."""
    maps = images[..., 0].astype(np.float32) / np.float32(255)
    return maps, maps.max(axis=(1, 2))


def not_a_number(images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
    """Return maps and scores that are all NaN, as after an overflow."""
    return np.full(images.shape[:3], np.nan, np.float32), np.full(len(images), np.nan, np.float32)


def failing(images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
    """Raise EngineError, as an engine whose device was removed."""
    raise EngineError(f"the fake engine was told to fail; got {len(images)} images, expected another answer")


class FakeEngine(BaseEngine):
    """Answers with `answer`, behind the same checks as the real engines.

    `batch_sizes` lists the number of images of each call that passed them.
    """

    def __init__(self, spec: Spec, answer: Answer = first_channel) -> None:
        super().__init__(spec, "fake")
        self.batch_sizes: list[int] = []
        self._answer = answer

    def _run(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        self.batch_sizes.append(len(images))
        return self._answer(images)
