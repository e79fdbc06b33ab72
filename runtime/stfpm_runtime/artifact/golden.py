"""Golden results: a few images and what PyTorch says of them, so that any device can repeat the proof.

`model.golden.npz` lies next to `model.onnx` and holds `images` uint8 [N, H, W, 3], `maps` float32 [N, H, W] and
`scores` float32 [N], PyTorch's; `sha256`, a text, is the model's.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stfpm_runtime.errors import ArtifactError
from stfpm_runtime.files import atomic_path

MAX_GOLDEN_BYTES = 1 << 29
"""The largest size of a golden file's arrays, unpacked, in bytes: more than four images of 2048x2048 need."""


@dataclass(frozen=True)
class Golden:
    """Images and PyTorch's results on them."""

    images: npt.NDArray[np.uint8]
    """[N, H, W, 3], of the model's input size and channel order."""
    maps: npt.NDArray[np.float32]
    """[N, H, W]."""
    scores: npt.NDArray[np.float32]
    """[N]."""
    sha256: str = ""
    """The SHA-256 of the model file that they belong to."""


def golden_path(model: Path) -> Path:
    """Return where a model's golden results lie."""
    return model.with_suffix(".golden.npz")


def save_golden(golden: Golden, path: Path) -> None:
    """Write golden results atomically. Raises OutputError where that fails."""
    with atomic_path(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **vars(golden))


def load_golden(path: Path) -> Golden:
    """Read what `save_golden` wrote. Raises ArtifactError for a file that is missing, damaged or something else."""
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; stfpm-export writes it next to the model, bring it along")
    try:
        with zipfile.ZipFile(path) as members:
            if (size := sum(member.file_size for member in members.infolist())) > MAX_GOLDEN_BYTES:
                raise ValueError(f"it unpacks to {size} bytes, expected at most {MAX_GOLDEN_BYTES}")
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = {name: file[name] for name in ("images", "maps", "scores", "sha256")}
    except Exception as error:  # what zipfile, zlib and NumPy raise for damaged files has no common base
        raise ArtifactError(
            f"{path}: damaged, or written by another program ({error}); export the model again"
        ) from None
    maps, scores = arrays["maps"].shape, arrays["scores"].shape
    are_numbers = arrays["images"].dtype == np.uint8 and all(
        arrays[key].dtype.kind == "f" for key in ("maps", "scores")
    )
    fit = arrays["images"].ndim == 4 and maps == arrays["images"].shape[:3] and scores == maps[:1] and maps[0] > 0
    if not (are_numbers and fit):
        raise ArtifactError(f"{path}: its images, maps and scores do not belong together; export the model again")
    return Golden(arrays["images"], arrays["maps"], arrays["scores"], str(arrays["sha256"]))
