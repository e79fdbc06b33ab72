"""Opening what is measured: an exported file by the runtime, a checkpoint by PyTorch."""

from __future__ import annotations

from pathlib import Path

from stfpm_runtime.engines import Engine, open_engine
from stfpm_runtime.errors import ArtifactError, MissingExtraError

CHECKPOINT = ".safetensors"


def is_checkpoint(path: Path) -> bool:
    """Whether the file's name says that PyTorch runs it."""
    return path.suffix.lower() == CHECKPOINT


def open_model(path: Path, device: str = "auto", threads: int | None = None) -> Engine:
    """The engine of a model file: PyTorch for a .safetensors checkpoint, `open_engine` for everything else.

    `device` and `threads` are those of `open_engine`; PyTorch knows `cuda`, and runs on the CPU for every other.
    Raises what they raise, and MissingExtraError for a checkpoint where PyTorch is not installed.
    """
    if not is_checkpoint(path):
        return open_engine(path, device, threads)
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; expected a checkpoint that stfpm-train wrote")
    try:
        import torch

        from stfpm_edge.torch_engine import TorchEngine
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("stfpm_"):
            raise
        raise MissingExtraError(error.name, "train") from None
    if threads is not None:
        torch.set_num_threads(threads)
    return TorchEngine(path, "cuda" if device.startswith("cuda") else "cpu")
