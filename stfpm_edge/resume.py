"""The state of an unfinished training, written next to the output after every epoch: a kill loses at most one epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stfpm_runtime.errors import ArtifactError, OptionError
from stfpm_runtime.files import atomic_path

from .backbone import Pyramid
from .checkpoint import load_metadata, load_tensors, save_tensors, strip_prefix


@dataclass
class Progress:
    """The progress of a training."""

    epoch: int = 0
    """Epochs finished."""
    best_epoch: int = 0
    """The epoch with the lowest validation error; 0 before the first."""
    best_error: float = float("inf")
    losses: list[float] = field(default_factory=list)
    """Mean training loss of each epoch."""
    errors: list[float] = field(default_factory=list)
    """Validation error of each epoch."""
    seconds: float = 0.0
    """Spent in epochs, over all sittings."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """The student's state at the best epoch."""


def resume_path(output: Path) -> Path:
    """Return the path of the state of an unfinished training."""
    return output.with_name(f"{output.stem}.unfinished.safetensors")


def save_progress(
    path: Path, progress: Progress, student: Pyramid, optimizer: torch.optim.Optimizer, identity: dict[str, object]
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


def check_progress(path: Path, identity: dict[str, object]) -> dict[str, Any]:
    """Return the figures of an unfinished training, without its weights.

    Raises OptionError, naming what differs, where the file is of another training, and ArtifactError for another file.
    """
    metadata = load_metadata(path)
    try:
        was, figures = json.loads(metadata["identity"]), json.loads(metadata["progress"])
    except (KeyError, json.JSONDecodeError):
        raise ArtifactError(f"{path}: not the state of a training; delete it and train from the beginning") from None
    if changes := differences(was, identity):
        raise OptionError(f"{path}: is of a training that differs in {changes}; use the same options, or delete it")
    assert isinstance(figures, dict), "save_progress writes it"
    return figures


def differences(was: Mapping[str, object], now: Mapping[str, object]) -> str:
    """Return what differs between two records of options, `lr (was 0.1, is 0.2)`; empty where they are equal."""
    return ", ".join(f"{name} (was {was.get(name)}, is {now[name]})" for name in now if was.get(name) != now[name])


def load_progress(
    path: Path, student: Pyramid, optimizer: torch.optim.Optimizer, identity: dict[str, object]
) -> Progress:
    """Load student and optimizer as `save_progress` wrote them.

    Raises OptionError, naming what differs, where the file is of another training.
    """
    figures = check_progress(path, identity)
    tensors, _ = load_tensors(path)
    student.load_state_dict(strip_prefix(tensors, "student."))
    for name, parameter in student.named_parameters():
        if (momentum := tensors.get(f"momentum.{name}")) is not None:
            optimizer.state[parameter]["momentum_buffer"] = momentum.to(parameter.device)
    return Progress(**figures, best=strip_prefix(tensors, "best."))
