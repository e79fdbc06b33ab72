"""Golden results: a few images and what PyTorch says of them, so that any device can repeat the proof.

`model.golden.npz` lies beside `model.onnx` and holds `images` uint8 [N, H, W, 3], `maps` float32 [N, H, W] and `scores`
float32 [N], PyTorch's; `sha256`, a text, is the model's.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stfpm_runtime.engines.base import Engine, Maps, Scores, check_images
from stfpm_runtime.errors import ArtifactError
from stfpm_runtime.files import atomic_path

MOST_BYTES = 1 << 29
"""The largest size of a golden file's arrays, unpacked, in bytes: more than four images of 2048x2048 need."""


@dataclass(frozen=True)
class Golden:
    """Images and PyTorch's results on them."""

    images: npt.NDArray[np.uint8]
    """[N, H, W, 3], of the model's input size and channel order."""
    maps: Maps
    scores: Scores
    sha256: str = ""
    """Of the model file that they belong to."""


@dataclass(frozen=True)
class GoldenResult:
    """How far an engine is from PyTorch on the golden images."""

    images: int
    map_max_error: float
    score_max_error: float
    score_relative_error: float
    """The largest of |error| / PyTorch's score."""
    scores: tuple[float, ...] = field(repr=False)
    """The scores of the engine, one for each image."""


def golden_path(model: Path) -> Path:
    """Where a model's golden results lie."""
    return model.with_suffix(".golden.npz")


def save_golden(golden: Golden, path: Path) -> None:
    """Write atomically. Raises OutputError where that fails."""
    with atomic_path(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **vars(golden))


def load_golden(path: Path) -> Golden:
    """Read what `save_golden` wrote. Raises ArtifactError for a file that is missing, damaged or something else."""
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; stfpm-export writes it beside the model, bring it along")
    try:
        with zipfile.ZipFile(path) as members:
            if (size := sum(member.file_size for member in members.infolist())) > MOST_BYTES:
                raise ValueError(f"it unpacks to {size} bytes, expected at most {MOST_BYTES}")
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = {name: file[name] for name in ("images", "maps", "scores", "sha256")}
    except Exception as error:  # what zipfile, zlib and NumPy raise for damaged files has no common base
        raise ArtifactError(f"{path}: damaged, or not one of ours ({error}); export the model again") from None
    maps, scores = arrays["maps"].shape, arrays["scores"].shape
    are_numbers = arrays["images"].dtype == np.uint8 and all(
        arrays[key].dtype.kind == "f" for key in ("maps", "scores")
    )
    fit = arrays["images"].ndim == 4 and maps == arrays["images"].shape[:3] and scores == maps[:1] and maps[0] > 0
    if not (are_numbers and fit):
        raise ArtifactError(f"{path}: its images, maps and scores do not belong together; export the model again")
    return Golden(arrays["images"], arrays["maps"], arrays["scores"], str(arrays["sha256"]))


def compare_with_golden(engine: Engine, golden: Golden) -> GoldenResult:
    """Run the golden images one by one. Raises EngineError where they do not fit the engine, or it fails."""
    check_images(golden.images, engine.spec)
    results = [engine.infer(image[np.newaxis]) for image in golden.images]
    maps, scores = (np.concatenate([result[k] for result in results]) for k in (0, 1))
    errors = np.abs(scores - golden.scores)
    return GoldenResult(
        images=len(scores),
        map_max_error=float(np.abs(maps - golden.maps).max()),
        score_max_error=float(errors.max()),
        score_relative_error=float((errors / np.maximum(golden.scores, 1e-12)).max()),
        scores=tuple(map(float, scores)),
    )
