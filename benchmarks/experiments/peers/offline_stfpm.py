"""Anomalib's Stfpm without the internet: its backbone wants to download a teacher whenever a model is built."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import timm
from anomalib.data import Folder
from anomalib.models import Stfpm
from torchvision.transforms.v2 import Resize

BATCH = 8


@contextmanager
def without_download() -> Iterator[None]:
    """Make timm give every backbone random weights, also where pre-trained ones are requested."""
    create = timm.create_model

    def random(name: str, **options: Any) -> Any:  # noqa: ANN401
        return create(name, **options | {"pretrained": False})

    with patch.object(timm, "create_model", random):
        yield


def build_stfpm(checkpoint: Path | None, size: int) -> Stfpm:
    """Return a trained model, or one of random weights (its speed is the same) for square images of `size` pixels."""
    with without_download():
        if checkpoint:
            return Stfpm.load_from_checkpoint(checkpoint, map_location="cpu")
        return Stfpm(pre_processor=Stfpm.configure_pre_processor((size, size)))


def image_folder(good: Path, defective: Path | None, size: int) -> Folder:
    """Return images as anomalib's data module, a fifth of the good ones and all defective ones for validation."""
    return Folder(
        name=good.name,
        normal_dir=good.resolve(),
        abnormal_dir=defective.resolve() if defective else None,
        normal_split_ratio=0.2,
        val_split_mode="same_as_test",
        augmentations=Resize((size, size), antialias=True),
        train_batch_size=BATCH,
        eval_batch_size=BATCH,
        num_workers=0,
        seed=0,
    )
