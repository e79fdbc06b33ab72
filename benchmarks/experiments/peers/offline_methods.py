"""Anomalib's other methods without the internet: PatchCore, PaDiM on a teacher from a file, EfficientAd untrained."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from pathlib import Path
from typing import Any

from anomalib.models import EfficientAd, Padim, Patchcore
from offline_stfpm import without_download
from safetensors.torch import load_file

METHODS = ("patchcore", "padim", "efficientad")
RANDOM = ("efficientad",)
"""Methods whose weights cannot be had here: their speed is right, their verdicts are not."""


def build_method(name: str, size: int, teacher: Path | None) -> Any:  # noqa: ANN401
    """Return a model for square images of `size` pixels, ResNet-18 where the method has a backbone of choice.

    PatchCore's default is a Wide ResNet-50-2, much slower; here it has the network that the others have, and a
    memory of 1% of the patches, its paper's smallest: choosing 10%, anomalib's default, takes over an hour here.
    """
    with without_download():
        if name == "efficientad":
            return EfficientAd(pre_processor=EfficientAd.configure_pre_processor((size, size)))
        method = {"patchcore": Patchcore, "padim": Padim}[name]
        memory = {"coreset_sampling_ratio": 0.01} if name == "patchcore" else {}
        model = method(backbone="resnet18", pre_processor=method.configure_pre_processor((size, size)), **memory)
    if teacher is not None:
        load_backbone(model.model.feature_extractor, teacher)
    return model


def load_backbone(module: Any, path: Path) -> None:  # noqa: ANN401
    """Fill a timm ResNet-18 from a file in torchvision's names, which are timm's."""
    weights = load_file(path)
    found = dict(module.named_modules())
    backbone = next(one for one in found.values() if hasattr(one, "conv1") and hasattr(one, "layer1"))
    missing, _ = backbone.load_state_dict(weights, strict=False)
    wanted = [name for name in missing if not name.startswith(("fc", "layer4")) and "num_batches" not in name]
    if wanted:
        raise SystemExit(f"{path}: {len(wanted)} tensors are missing, first {wanted[0]}; expected a ResNet-18")
