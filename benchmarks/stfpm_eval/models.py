"""Open a model file that is to be measured: an exported file by the runtime, a checkpoint by PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from stfpm_runtime.engines import Engine, open_engine
from stfpm_runtime.errors import ArtifactError, MissingExtraError


def is_checkpoint(path: Path) -> bool:
    """Return whether the file is a checkpoint, which PyTorch runs, by its name."""
    return path.suffix.lower() == ".safetensors"


def open_model(path: Path, device: str = "auto", threads: int | None = None) -> Engine:
    """Return the engine of a model file: PyTorch for a .safetensors checkpoint, `open_engine` for everything else.

    `device` and `threads` are those of `open_engine`; PyTorch knows `cuda`, and runs on the CPU for every other.
    Raises what they raise, and MissingExtraError for a checkpoint where PyTorch is not installed.
    """
    if not is_checkpoint(path):
        return open_engine(path, device, threads)
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; expected a checkpoint that stfpm-train wrote")
    with requires_extra("train"):
        import torch

        from stfpm_edge.torch_engine import TorchEngine
    if threads is not None:
        torch.set_num_threads(threads)
    return TorchEngine(path, "cuda" if device.startswith("cuda") else "cpu")


@contextlib.contextmanager
def requires_extra(extra: str) -> Iterator[None]:
    """Turn an import in the block that fails into a MissingExtraError, which names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("stfpm_"):
            raise
        raise MissingExtraError(error.name.partition(".")[0], extra) from None
