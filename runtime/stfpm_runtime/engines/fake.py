"""An engine without a model, whose answers are known by construction: for everybody's tests and dry runs.

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

from .base import Maps, Scores, check_images

Answer = Callable[[npt.NDArray[np.uint8]], tuple[Maps, Scores]]
"""From images uint8 [N, H, W, 3] to maps float32 [N, H, W] and scores float32 [N]."""


def first_channel(images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
    """The first channel, 0 to 1, as map: black is normal, and of a BGR image the blue is the anomaly."""
    maps = images[..., 0].astype(np.float32) / np.float32(255)
    return maps, maps.max(axis=(1, 2))


def not_a_number(images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
    """What a numerical accident gives: maps and scores all NaN."""
    return np.full(images.shape[:3], np.nan, np.float32), np.full(len(images), np.nan, np.float32)


def failing(images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
    """What a device that went away gives: an EngineError."""
    raise EngineError(f"the fake engine was told to fail; got {len(images)} images, expected another answer")


class FakeEngine:
    """Answers with `answer`, behind the same checks as the real engines.

    `batch_sizes` lists the number of images of each call that got past them.
    """

    def __init__(self, spec: Spec, answer: Answer = first_channel) -> None:
        self.batch_sizes: list[int] = []
        self._spec = spec
        self._answer = answer
        self._closed = False

    @property
    def spec(self) -> Spec:
        """What the engine was made with."""
        return self._spec

    @property
    def provider(self) -> str:
        """`fake`."""
        return "fake"

    def infer(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        """Anomaly maps float32 [N, H, W] and scores float32 [N] of images uint8 [N, H, W, 3]."""
        if self._closed:
            raise EngineError("the engine was closed; open it again")
        check_images(images, self._spec)
        self.batch_sizes.append(len(images))
        return self._answer(images)

    def close(self) -> None:
        """Refuse all that comes after."""
        self._closed = True
