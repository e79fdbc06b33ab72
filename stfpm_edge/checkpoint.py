"""A trained model on disk: teacher and student, their Spec, and a few images, in one .safetensors file.

The state of an unfinished training is written next to it after every epoch, so that a kill loses at most one epoch.

Tensors are named `teacher.NAME` and `student.NAME`, in torchvision's names, `head.place_scale` where the head has one
(float32 [H, W]), and `image.train.N`, `image.held_out.N`: pictures of the model's input size as PNG files
(uint8 [bytes]), which export and calibration need when the training folder is far away.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stfpm_runtime.artifact.spec import METADATA_KEY, Spec
from stfpm_runtime.errors import ArtifactError, OptionError
from stfpm_runtime.files import atomic_path
from stfpm_runtime.imaging.preprocessing import Image

from .model import Head, Stfpm
from .networks import Pyramid
from .teacher import fingerprint, load_weights

PLACE_SCALE = "head.place_scale"
"""The name of the tensor that the head divides maps by, see `stfpm_edge.model.Head`."""


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a .safetensors file of ours. Images are uint8 [H, W, 3] of the spec's size and channel order."""

    spec: Spec
    teacher: Pyramid
    student: Pyramid
    train_images: list[Image] = field(default_factory=list)
    held_out_images: list[Image] = field(default_factory=list)
    place_scale: Tensor | None = None
    """The head's, float32 [H, W] of the spec's size."""

    @property
    def head(self) -> Head:
        """Return the head that the spec and the stored tensors describe."""
        spec = self.spec
        return Head(spec.top_share, spec.score_scale, spec.min_area, spec.blur, self.place_scale)

    def model(self) -> Stfpm:
        """Return the detector, in evaluation mode."""
        return Stfpm(self.teacher, self.student, self.spec.channel_order, self.head)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write the checkpoint atomically. Raise OutputError where that fails."""
    tensors = {}
    for name in ("teacher", "student"):
        for key, tensor in getattr(checkpoint, name).state_dict().items():
            tensors[f"{name}.{key}"] = tensor.cpu().contiguous()
    tensors |= _encode("image.train", checkpoint.train_images) | _encode("image.held_out", checkpoint.held_out_images)
    if checkpoint.place_scale is not None:
        tensors[PLACE_SCALE] = checkpoint.place_scale.cpu().contiguous()
    with atomic_path(path) as unfinished:
        save_tensors(tensors, unfinished, {METADATA_KEY: checkpoint.spec.to_json()})


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote.

    Raises ArtifactError for a file that is missing, cut off, not ours, of a newer schema, or whose teacher is not the
    one that its metadata names.
    """
    tensors, metadata = load_tensors(path)
    if METADATA_KEY not in metadata:
        raise ArtifactError(
            f"{path}: a .safetensors file that stfpm-train did not write; expected one that stfpm-train wrote"
        )
    spec = Spec.from_json(metadata[METADATA_KEY], str(path))
    teacher = Pyramid(spec.backbone, spec.blocks)
    student = Pyramid(spec.backbone, spec.blocks, teacher)
    for name, pyramid in (("teacher", teacher), ("student", student)):
        load_weights(pyramid, strip_prefix(tensors, f"{name}."), f"{path} ({name})")
        pyramid.eval().requires_grad_(False)
    if fingerprint(teacher) != spec.teacher_sha256:
        raise ArtifactError(
            f"{path}: its teacher has SHA-256 {fingerprint(teacher)[:12]}..., its metadata names "
            f"{spec.teacher_sha256[:12]}...; the file was changed after training, train again"
        )
    train, held_out = (_decode(strip_prefix(tensors, prefix), path) for prefix in ("image.train.", "image.held_out."))
    place_scale = tensors.get(PLACE_SCALE)
    if place_scale is not None and (
        tuple(place_scale.shape) != (spec.height, spec.width) or not bool((place_scale > 0).all())
    ):
        raise ArtifactError(f"{path}: its {PLACE_SCALE} does not fit its input size or is not positive; train again")
    return Checkpoint(spec, teacher, student, train, held_out, place_scale)


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a .safetensors file; an OSError where that fails."""
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:  # its I/O errors are not OSErrors
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


@dataclass
class TrainingProgress:
    """The progress of a training."""

    epoch: int = 0
    """Epochs finished."""
    best_epoch: int = 0
    """The epoch whose student is kept; 0 before the first."""
    losses: list[float] = field(default_factory=list)
    """Mean training loss of each epoch."""
    errors: list[float] = field(default_factory=list)
    """Validation error of each epoch; empty where the recipe keeps the last epoch."""
    seconds: float = 0.0
    """The seconds spent in epochs, over all runs of this training."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """The student's state at that epoch."""


def resume_path(output: Path) -> Path:
    """Return the path of the state of an unfinished training."""
    return output.with_name(f"{output.stem}.unfinished.safetensors")


def save_progress(
    path: Path,
    progress: TrainingProgress,
    student: Pyramid,
    optimizer: torch.optim.Optimizer,
    identity: dict[str, object],
) -> None:
    """Write student, momentum, best student and losses, atomically. `identity` identifies the training."""
    tensors = {f"student.{name}": tensor for name, tensor in student.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
    for name, parameter in student.named_parameters():
        if (momentum := optimizer.state[parameter].get("momentum_buffer")) is not None:
            tensors[f"momentum.{name}"] = momentum
    figures = {name: value for name, value in asdict(progress).items() if name != "best"}
    metadata = {"identity": json.dumps(identity), "progress": json.dumps(figures)}
    with atomic_path(path) as unfinished:
        save_tensors({name: t.cpu().contiguous() for name, t in tensors.items()}, unfinished, metadata)


def load_identity(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what identifies an unfinished training, and its figures. Raise ArtifactError for another file."""
    metadata = load_metadata(path)
    try:
        return json.loads(metadata["identity"]), json.loads(metadata["progress"])
    except (KeyError, json.JSONDecodeError):
        raise ArtifactError(f"{path}: not the state of a training; delete it and train from the beginning") from None


def check_progress(path: Path, identity: dict[str, object]) -> dict[str, Any]:
    """Return the figures of an unfinished training, without its weights.

    Raises OptionError, naming what differs, where the file is of another training, and ArtifactError for another file.
    """
    was, figures = load_identity(path)
    if changes := differences(was, identity):
        raise OptionError(f"{path}: is of a training that differs in {changes}; use the same options, or delete it")
    return figures


def differences(was: Mapping[str, object], now: Mapping[str, object]) -> str:
    """Return what differs between two records of options, `lr (was 0.1, is 0.2)`; empty where they are equal."""
    return ", ".join(f"{name} (was {was.get(name)}, is {now[name]})" for name in now if was.get(name) != now[name])


def load_progress(
    path: Path, student: Pyramid, optimizer: torch.optim.Optimizer, identity: dict[str, object]
) -> TrainingProgress:
    """Load student and optimizer as `save_progress` wrote them.

    Raises OptionError, naming what differs, where the file is of another training.
    """
    figures = check_progress(path, identity)
    tensors, _ = load_tensors(path)
    student.load_state_dict(strip_prefix(tensors, "student."))
    for name, parameter in student.named_parameters():
        if (momentum := tensors.get(f"momentum.{name}")) is not None:
            optimizer.state[parameter]["momentum_buffer"] = momentum.to(parameter.device)
    return TrainingProgress(**figures, best=strip_prefix(tensors, "best."))
