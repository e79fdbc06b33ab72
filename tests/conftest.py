"""A seeded tiny model, made and exported once a session."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from stfpm_edge.checkpoint import Checkpoint, save_checkpoint
from stfpm_export.export import ExportOptions, export_checkpoint
from stfpm_runtime.machine import describe_machine
from tiny_model import make_checkpoint, make_images

pytest_plugins = ["known_answers"]
POOLS = ("asyncio_", "AnyIO", "ThreadPoolExecutor")
"""Threads whose names begin like this belong to libraries, which keep them for later."""
END_S = 20.0
"""The time that a thread has to end after its test, in seconds."""


def pytest_report_header() -> str:
    """Name the processor and its int8 instructions: int8 results differ between processors."""
    return f"machine: {describe_machine().title}"


@pytest.fixture(autouse=True)
def no_thread_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread running that it has started."""
    before = set(threading.enumerate())
    yield
    deadline_s = time.monotonic() + END_S
    while left := [
        thread.name for thread in threading.enumerate() if thread not in before and not thread.name.startswith(POOLS)
    ]:
        if time.monotonic() > deadline_s:
            pytest.fail(f"the test left threads running: {', '.join(left)}")
        time.sleep(0.01)


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
    export_checkpoint(ExportOptions(tiny_checkpoint, path), print)
    return path


@pytest.fixture(scope="session")
def good_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ten PNG pictures of 80x72."""
    folder = tmp_path_factory.mktemp("good")
    for number, image in enumerate(make_images(10, 72, 80, seed=3)):
        cv2.imwrite(str(folder / f"{number:03d}.png"), image)
    return folder
