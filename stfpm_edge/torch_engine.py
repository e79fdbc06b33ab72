"""A checkpoint run by PyTorch, as an engine: the reference that exported files are compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.engines.base import Closing, Maps, Scores, check_images
from stfpm_runtime.errors import EngineError

from .checkpoint import Checkpoint, load_checkpoint
from .model import Stfpm


class TorchEngine(Closing):
    """An `Engine` that runs a .safetensors checkpoint in PyTorch."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        """Load a checkpoint. Raise ArtifactError for a file that cannot be used."""
        self._open(load_checkpoint(path), device)

    @classmethod
    def of(cls, checkpoint: Checkpoint, device: str = "cpu") -> TorchEngine:
        """Return an engine of a checkpoint that is in memory."""
        engine = cls.__new__(cls)
        engine._open(checkpoint, device)
        return engine

    def _open(self, checkpoint: Checkpoint, device: str) -> None:
        self._device = torch.device(device)
        self._spec = checkpoint.spec
        self._model: Stfpm | None = checkpoint.model().to(self._device)

    @property
    def spec(self) -> Spec:
        """Return the checkpoint's Spec."""
        return self._spec

    @property
    def provider(self) -> str:
        """Return `PyTorch` and its device."""
        return f"PyTorch {self._device}"

    @torch.inference_mode()
    def infer(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        """Compute anomaly maps float32 [N, H, W] and scores float32 [N] of images uint8 [N, H, W, 3]."""
        if self._model is None:
            raise EngineError("the engine was closed; open it again")
        check_images(images, self._spec)
        maps, scores = self._model(torch.from_numpy(images).to(self._device))
        return maps.cpu().numpy(), scores.cpu().numpy()

    def close(self) -> None:
        """Give the model's memory back."""
        self._model = None
