"""Engines: the ways to execute a model file. `open_engine` picks one by the file and by what is installed."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from os import PathLike
from pathlib import Path

from ..errors import ArtifactError, OptionError
from .base import Engine

__all__ = ["Engine", "open_engine"]


DEVICES = ("auto", "cpu", "onnxruntime", "openvino")


def open_engine(path: str | PathLike[str], device: str = "auto", threads: int | None = None) -> Engine:
    """Open a model file for inference; close it when done.

    `device` is `auto` or `cpu`, which choose ONNX Runtime or OpenVINO by the file and by what is installed, or one of
    the two by name. `threads` bounds the engine's threads for one frame; None leaves it the choice.
    Raises ArtifactError for a file that cannot be used, MissingExtraError for a package that is not installed,
    OptionError for an unknown device.
    """
    path = Path(path)
    if device not in DEVICES:
        raise OptionError(f"got device {device!r}; expected one of {', '.join(DEVICES)}")
    if threads is not None and threads < 1:
        raise OptionError(f"got {threads} threads; expected 1 or more")
    if path.suffix.lower() != ".onnx":
        raise ArtifactError(
            f"{path}: got a file ending in {path.suffix!r}; expected a .onnx file, "
            "which stfpm-export makes from a .safetensors checkpoint"
        )
    if device == "openvino" or (device != "onnxruntime" and _suits_openvino(path)):
        from .openvino import OpenVinoEngine

        return OpenVinoEngine(path, threads)
    from .onnx_runtime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, threads)


def _suits_openvino(path: Path) -> bool:
    """Whether OpenVINO is installed, its plug-in is at home on this CPU, and the file was written for it.

    The metadata is at the end of an ONNX file, as plain text: no need to parse 20 MB of weights to look into it.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or find_spec("openvino") is None:
        return False
    try:
        return b'"target": "openvino"' in path.read_bytes()
    except OSError:
        return False  # the engine that tries to read it says why
