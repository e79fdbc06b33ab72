"""Engines: the ways to execute a model file. `open_engine` picks one by the file and by what is installed."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from os import PathLike
from pathlib import Path

from stfpm_runtime.artifact.onnx_metadata import read_spec
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.errors import ArtifactError, EngineError, MissingExtraError, OptionError
from stfpm_runtime.machine import is_x86
from stfpm_runtime.options import DEVICES

from .base import Engine, clips_int8

__all__ = ["Engine", "open_engine"]

LOG = logging.getLogger("stfpm")


def open_engine(path: str | PathLike[str], device: str = "auto", threads: int | None = None) -> Engine:
    """Open a model file for inference; close it when done.

    A plan (.engine) runs in TensorRT. For a model.onnx `device` is one of

        auto         the GPU where there is one and ONNX Runtime can use it, else the CPU; a warning says why not
        cpu          ONNX Runtime or OpenVINO, by the file and by what is installed; a bf16 file runs in OpenVINO only
        onnxruntime, openvino  one of the two by name, on the CPU
        cuda         ONNX Runtime on the GPU
        tensorrt     TensorRT within ONNX Runtime, which builds its engine on the first frame and keeps it

    `threads` bounds the CPU engine's threads for one frame; None leaves it the choice.
    Raises ArtifactError for a file that cannot be used, MissingExtraError for a package that is not installed,
    EngineError where the GPU that was asked for is not there, OptionError for an unknown device.
    """
    path = Path(path)
    if device not in DEVICES:
        raise OptionError(f"got device {device!r}; expected one of {', '.join(DEVICES)}")
    if threads is not None and threads < 1:
        raise OptionError(f"got {threads} threads; expected 1 or more")
    if path.suffix.lower() == ".engine":
        return _open_plan(path, device)
    if path.suffix.lower() != ".onnx":
        raise ArtifactError(
            f"{path}: got a file ending in {path.suffix!r}; expected a .onnx file, "
            "which stfpm-export makes from a .safetensors checkpoint"
        )
    spec = read_spec(path)
    if spec.precision == "bf16":
        if device not in ("auto", "cpu", "openvino"):
            raise OptionError(
                f"got device {device!r} for {path.name}, a bf16 file; expected openvino, cpu or auto: no other runs it"
            )
        device = "openvino"
    if device in ("cuda", "tensorrt"):
        return _open_on_gpu(path, device)
    if device == "auto" and (engine := _try_gpu(path)) is not None:
        return engine
    if device == "openvino" or (device != "onnxruntime" and _suits_openvino(spec)):
        from .openvino import OpenVinoEngine

        return OpenVinoEngine(path, threads)
    from .onnx_runtime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, threads)


def has_nvidia_gpu() -> bool:
    """Return whether Linux shows an NVIDIA GPU's driver: a card's, or a Jetson's."""
    return any(Path(node).exists() for node in ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg"))


def _try_gpu(path: Path) -> Engine | None:
    """Open the model on the GPU. Return None where ONNX Runtime has no CUDA, or with a warning cannot use it."""
    try:
        from .onnx_runtime import providers
    except MissingExtraError:
        return None  # there may be OpenVINO; the error of the CPU engine says what is missing
    if "CUDAExecutionProvider" not in providers():
        if has_nvidia_gpu():
            LOG.warning(
                "%s runs on the CPU: there is a GPU, but no ONNX Runtime for it; see README, Install", path.name
            )
        return None
    try:
        return _open_on_gpu(path, "cuda")
    except EngineError as error:
        LOG.warning("%s runs on the CPU: %s", path.name, error)
        return None


def _open_plan(path: Path, device: str) -> Engine:
    if device not in ("auto", "tensorrt"):
        raise OptionError(
            f"got device {device!r} for the plan {path.name}; expected tensorrt or auto: no other runs it"
        )
    from .tensorrt.engine import TensorRtEngine

    return TensorRtEngine(path)


def _open_on_gpu(path: Path, device: str) -> Engine:
    from .onnx_runtime_gpu import OnnxRuntimeGpuEngine

    return OnnxRuntimeGpuEngine(path, "TensorRT" if device == "tensorrt" else "CUDA")


def _suits_openvino(spec: Spec) -> bool:
    """Return whether OpenVINO is installed, the file was written for it, and it computes it exactly on this CPU.

    int8 sums that it would clip are left to ONNX Runtime, where that is installed.
    """
    if spec.target != "openvino" or not is_x86() or find_spec("openvino") is None:
        return False
    return not clips_int8(spec) or find_spec("onnxruntime") is None
