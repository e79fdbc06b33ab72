"""A category and a model whose every figure can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from stfpm_runtime.artifact.spec import METADATA_KEY, Spec

SIDE, MAP_SIDE = 32, 16
"""Of the pictures and of the anomaly map: the resize is one exact halving."""
SQUARE = np.s_[8:16, 16:24]
"""Where a defect lies in a picture: 8x8 pixels, 4x4 of the map."""
BLUE, RED = 0, 2

ModelMaker = Callable[..., Path]
CategoryMaker = Callable[..., Path]


@pytest.fixture
def make_model(tmp_path: Path) -> ModelMaker:
    """Writes a model whose anomaly map is the input's first channel times `factor`, and whose score is its maximum."""

    def make(name: str = "bottle.onnx", factor: float = 1.0, **changes: object) -> Path:
        values = {
            "name": "bottle", "height": MAP_SIDE, "width": MAP_SIDE, "backbone": "resnet18", "blocks": (2, 3, 4),
            "teacher": "none", "teacher_sha256": "0", "threshold": 50.0,
        } | changes  # fmt: skip
        path = tmp_path / name
        onnx.save(_graph(factor, Spec(**values)), path)  # type: ignore[arg-type]
        return path

    return make


@pytest.fixture
def make_category(tmp_path: Path) -> CategoryMaker:
    """Writes a category: good parts score 10 and 60, scratches 200 and 40, the dent 100. The threshold is 50."""

    def make(name: str = "bottle", channel: int = BLUE, masks: bool = True) -> Path:
        folder = tmp_path / "data" / name
        for number, level in enumerate((10, 60)):
            picture = np.zeros((SIDE, SIDE, 3), np.uint8)
            picture[:, :, channel] = level
            write(folder / "test" / "good" / f"{number:03}.png", picture)
        for kind, number, level in (("scratch", 0, 200), ("scratch", 1, 40), ("dent", 0, 100)):
            picture = np.zeros((SIDE, SIDE, 3), np.uint8)
            picture[SQUARE][:, :, channel] = level
            write(folder / "test" / kind / f"{number:03}.png", picture)
            if masks:
                mask = np.zeros((SIDE, SIDE), np.uint8)
                mask[SQUARE] = 255
                write(folder / "ground_truth" / kind / f"{number:03}_mask.png", mask)
        return folder

    return make


def write(path: Path, pixels: np.ndarray) -> None:
    """Write a picture, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def _graph(factor: float, spec: Spec) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["image", "first"], ["plane"], axis=3),
        helper.make_node("Cast", ["plane"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["levels", "factor"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["anomaly_map", "sides"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, "first_channel",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", spec.height, spec.width, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["n", spec.height, spec.width]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
        ],
        [
            helper.make_tensor("first", TensorProto.INT64, [], [0]),
            helper.make_tensor("factor", TensorProto.FLOAT, [], [factor]),
            helper.make_tensor("sides", TensorProto.INT64, [2], [1, 2]),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(model)
    return model
