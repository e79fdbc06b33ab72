"""A trained model on disk: teacher and student, their Spec, and a few images, in one .safetensors file.

Tensors are named `teacher.NAME` and `student.NAME`, in torchvision's names, and `image.train.N`, `image.held_out.N`:
pictures of the model's input size as PNG files (uint8 [bytes]), which export and calibration need when the training
folder is far away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stfpm_runtime.artifact.spec import METADATA_KEY, Spec
from stfpm_runtime.errors import ArtifactError
from stfpm_runtime.files import atomic_path
from stfpm_runtime.imaging.preprocessing import Image

from .backbone import Pyramid
from .model import Stfpm
from .teacher import fingerprint, load_weights


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a .safetensors file of ours. Images are uint8 [H, W, 3] of the spec's size and channel order."""

    spec: Spec
    teacher: Pyramid
    student: Pyramid
    train_images: list[Image] = field(default_factory=list)
    held_out_images: list[Image] = field(default_factory=list)

    def model(self) -> Stfpm:
        """Return the detector, in evaluation mode."""
        return Stfpm(self.teacher, self.student, self.spec.channel_order)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write the checkpoint atomically. Raise OutputError where that fails."""
    tensors = {}
    for name in ("teacher", "student"):
        for key, tensor in getattr(checkpoint, name).state_dict().items():
            tensors[f"{name}.{key}"] = tensor.cpu().contiguous()
    tensors |= _encode("image.train", checkpoint.train_images) | _encode("image.held_out", checkpoint.held_out_images)
    with atomic_path(path) as unfinished:
        save_tensors(tensors, unfinished, {METADATA_KEY: checkpoint.spec.to_json()})


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote.

    Raises ArtifactError for a file that is missing, cut off, not ours, of a newer schema, or whose teacher is not the
    one that its metadata names.
    """
    tensors, metadata = load_tensors(path)
    if METADATA_KEY not in metadata:
        raise ArtifactError(f"{path}: a .safetensors file, but not one of ours; expected one that stfpm-train wrote")
    spec = Spec.from_json(metadata[METADATA_KEY], str(path))
    pyramids = []
    for name in ("teacher", "student"):
        pyramid = Pyramid(spec.backbone, spec.blocks)
        load_weights(pyramid, strip_prefix(tensors, f"{name}."), f"{path} ({name})")
        pyramids.append(pyramid.eval().requires_grad_(False))
    teacher, student = pyramids
    if fingerprint(teacher) != spec.teacher_sha256:
        raise ArtifactError(
            f"{path}: its teacher has SHA-256 {fingerprint(teacher)[:12]}..., its metadata names "
            f"{spec.teacher_sha256[:12]}...; the file was changed after training, train again"
        )
    images = [_decode(strip_prefix(tensors, prefix), path) for prefix in ("image.train.", "image.held_out.")]
    return Checkpoint(spec, teacher, student, *images)


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a .safetensors file; an OSError where that fails."""
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:  # its I/O errors are no OSErrors
        raise OSError(None, str(error)) from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata of a .safetensors file. Raise ArtifactError for a missing or damaged file."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def load_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a .safetensors file without its tensors. Raises ArtifactError as `load_tensors` does."""
    with _opened(path) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; expected a .safetensors checkpoint that stfpm-train wrote")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ArtifactError(f"{path}: damaged or cut off ({error}); copy it again, or train again") from None


def strip_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _encode(prefix: str, images: Sequence[Image]) -> dict[str, Tensor]:
    pngs = [cv2.imencode(".png", image)[1].reshape(-1) for image in images]
    return {f"{prefix}.{number:04d}": torch.from_numpy(png) for number, png in enumerate(pngs)}


def _decode(tensors: dict[str, Tensor], path: Path) -> list[Image]:
    images = []
    for name, tensor in sorted(tensors.items()):
        image = cv2.imdecode(tensor.numpy(), cv2.IMREAD_COLOR)
        if image is None:
            raise ArtifactError(f"{path}: its image {name} is damaged; train again")
        images.append(np.asarray(image, np.uint8))
    return images
