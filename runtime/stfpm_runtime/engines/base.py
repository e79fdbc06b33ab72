"""The interface of engines, and what they share: all refuse bad input with the same sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from stfpm_runtime.artifact.min_area import area_scores
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.errors import ArtifactError, EngineError
from stfpm_runtime.machine import may_saturate_int8

Maps = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]
Self = TypeVar("Self")


class Engine(Protocol):
    """Runs one model file. `infer` is not thread-safe: one thread at a time."""

    @property
    def spec(self) -> Spec:
        """Return what the model file says of itself."""
        ...

    @property
    def provider(self) -> str:
        """Return what really executes the graph, say `CPUExecutionProvider`."""
        ...

    def infer(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        """Return anomaly maps float32 [N, H, W] and scores float32 [N] of images uint8 [N, H, W, 3].

        Raises EngineError for an input of another type or shape, and when the engine itself fails.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds. It may be called twice; an `infer` after it raises EngineError."""
        ...

    def __enter__(self: Self) -> Self:
        """Return the engine, which is closed at the end of the block."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close the engine."""
        ...


class Closing:
    """Is closed at the end of a `with` block."""

    def close(self) -> None:
        """Free what is held: nothing, unless a subclass says so."""

    def __enter__(self: Self) -> Self:
        """Return the object, which is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


class BaseEngine(Closing):
    """The part that engines share: it checks the images, divides them into batches, and refuses them once closed.

    An engine defines `_run`, for one batch, and `_free`.
    """

    def __init__(self, spec: Spec, provider: str, batch: int | None = None) -> None:
        """Store what the engine is; `batch` is the only number of images that it runs at a time (None: any)."""
        self.spec = spec
        self.provider = provider
        self._batch = batch
        self._is_closed = False

    def infer(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        """Return anomaly maps float32 [N, H, W] and scores float32 [N] of images uint8 [N, H, W, 3].

        Raises EngineError for an input of another type or shape, after `close`, and when the engine itself fails.
        """
        if self._is_closed:
            raise EngineError("the engine was closed; open it again")
        check_images(images, self.spec)
        maps, scores = in_batches(images, self._batch or len(images), self._run)
        return maps, scores if self.spec.min_area == 1 else area_scores(maps, self.spec.min_area)

    def close(self) -> None:
        """Free what the engine holds. It may be called twice."""
        self._is_closed = True
        self._free()

    def _run(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        raise NotImplementedError

    def _free(self) -> None:
        pass


def clips_int8(spec: Spec) -> bool:
    """Return whether the fastest int8 products of this CPU would be wrong for a file: they clip sums to 16 bits."""
    return spec.precision == "int8" and not spec.pairs_fit_int16 and may_saturate_int8()


def check_images(images: npt.NDArray[Any], spec: Spec) -> None:
    """Raise EngineError unless `images` is uint8 [N, H, W, 3] with the spec's H and W and N of at least 1."""
    expected = f"expected uint8 [N, {spec.height}, {spec.width}, 3] with N of at least 1; use stfpm_runtime.preprocess"
    if not isinstance(images, np.ndarray):
        raise EngineError(f"got {type(images).__name__}; {expected}")
    if images.dtype != np.uint8 or images.shape[1:] != spec.input_shape or images.shape[0] == 0:
        raise EngineError(f"got {images.dtype} {list(images.shape)}; {expected}")


def check_graph(found: Sequence[tuple[str, str, list[int]]], spec: Spec, path: Path) -> None:
    """Raise ArtifactError unless inputs and outputs are those of the artifact's contract.

    `found` holds name, type as ONNX Runtime calls it, and all dimensions but the first, of inputs and then outputs.
    """
    sides = [spec.height, spec.width]
    expected = [
        ("image", "tensor(uint8)", [*sides, 3]),
        ("anomaly_map", "tensor(float)", sides),
        ("score", "tensor(float)", []),
    ]
    if found != expected:
        raise ArtifactError(f"{path}: its graph has {found}, its metadata promises {expected}; export it again")


def in_batches(
    images: npt.NDArray[np.uint8], batch: int, run: Callable[[npt.NDArray[np.uint8]], tuple[Maps, Scores]]
) -> tuple[Maps, Scores]:
    """Run any number of images through a graph that takes `batch` at a time: the last batch is filled up."""
    if len(images) == batch:
        return run(images)
    filled = np.concatenate([images, np.repeat(images[-1:], -len(images) % batch, axis=0)])
    results = [run(filled[start : start + batch]) for start in range(0, len(filled), batch)]
    maps, scores = (np.concatenate([result[k] for result in results])[: len(images)] for k in (0, 1))
    return maps, scores
