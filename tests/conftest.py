"""A seeded tiny model, made and exported once a session."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from stfpm_edge.checkpoint import Checkpoint, save_checkpoint
from stfpm_export.export import ExportOptions, export
from tiny_model import make_checkpoint, make_images

pytest_plugins = ["known_answers"]


@pytest.fixture(scope="session")
def tiny() -> Checkpoint:
    checkpoint = make_checkpoint()
    with torch.inference_mode():
        scores = checkpoint.model()(torch.from_numpy(np.stack(checkpoint.held_out_images)))[1].tolist()
    fields = {"threshold": max(scores), "false_alarm_rate": 1 / 3, "held_out_scores": tuple(scores)}
    spec = dataclasses.replace(checkpoint.spec, **fields)
    return dataclasses.replace(checkpoint, spec=spec)


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    save_checkpoint(tiny, path)
    return path


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint: Path) -> Path:
    path = tiny_checkpoint.with_suffix(".onnx")
    export(ExportOptions(tiny_checkpoint, path), print)
    return path


@pytest.fixture(scope="session")
def good_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ten PNG pictures of 80x72."""
    folder = tmp_path_factory.mktemp("good")
    for number, image in enumerate(make_images(10, 72, 80, seed=3)):
        cv2.imwrite(str(folder / f"{number:03d}.png"), image)
    return folder
