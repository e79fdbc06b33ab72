"""What every engine offers, and the one check of its input, so that all refuse bad input with the same sentence."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from ..spec import Spec

Maps = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]


class Engine(Protocol):
    """Runs one model file. `infer` is not thread-safe: one thread at a time."""

    @property
    def spec(self) -> Spec:
        """What the model file says of itself."""
        ...

    @property
    def provider(self) -> str:
        """What really executes the graph, say `CPUExecutionProvider`."""
        ...

    def infer(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        """Anomaly maps float32 [N, H, W] and scores float32 [N] of images uint8 [N, H, W, 3].

        Raises EngineError for an input of another type or shape, and when the engine itself fails.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds. Closing twice is fine; inferring after it is an EngineError."""
        ...


def check_images(images: npt.NDArray[Any], spec: Spec) -> None:
    """Raise EngineError unless `images` is uint8 [N, H, W, 3] with the spec's H and W and N of at least 1."""
    expected = f"expected uint8 [N, {spec.height}, {spec.width}, 3] with N of at least 1; use stfpm_runtime.preprocess"
    if not isinstance(images, np.ndarray):
        raise EngineError(f"got {type(images).__name__}; {expected}")
    if images.dtype != np.uint8 or images.shape[1:] != spec.input_shape or images.shape[0] == 0:
        raise EngineError(f"got {images.dtype} {list(images.shape)}; {expected}")
