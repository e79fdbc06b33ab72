"""Engines: the ways to execute a model file. `open_engine` picks one by the file and by what is installed."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from ..errors import ArtifactError, OptionError
from .base import Engine

__all__ = ["Engine", "open_engine"]


def open_engine(path: str | PathLike[str], device: str = "auto", threads: int | None = None) -> Engine:
    """Open a model file for inference; close it when done.

    `device` is `auto` or `cpu`. `threads` bounds the engine's threads for one frame; None leaves it the choice.
    Raises ArtifactError for a file that cannot be used, MissingExtraError for a package that is not installed,
    OptionError for an unknown device.
    """
    path = Path(path)
    if device not in ("auto", "cpu"):
        raise OptionError(f"got device {device!r}; expected auto or cpu")
    if threads is not None and threads < 1:
        raise OptionError(f"got {threads} threads; expected 1 or more")
    if path.suffix.lower() != ".onnx":
        raise ArtifactError(
            f"{path}: got a file ending in {path.suffix!r}; expected a .onnx file, "
            "which stfpm-export makes from a .safetensors checkpoint"
        )
    from .onnx_runtime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, threads)
