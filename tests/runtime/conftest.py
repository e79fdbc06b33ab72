"""A model whose every answer can be worked out by hand, and pictures for it.

A picture's anomaly map is its first channel (blue, of BGR) on a scale of 0 to 1, and the threshold is 0.5: black passes
with a score of 0, a patch of 255 is rejected with 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from stfpm_runtime.artifact.golden import Golden, golden_path, save_golden
from stfpm_runtime.artifact.spec import METADATA_KEY, Spec
from stfpm_runtime.engines import open_engine
from stfpm_runtime.engines.fake import FakeEngine, first_channel
from stfpm_runtime.files import sha256

PARITY = {"map_max_error": 1e-7, "failures": []}
HEIGHT, WIDTH = 8, 16
"""The size of the model; not square, so that exchanged sides are noticed."""


@pytest.fixture
def make_spec() -> Callable[..., Spec]:
    def make(**changes) -> Spec:
        fields = {
            "name": "bottle", "height": HEIGHT, "width": WIDTH, "backbone": "resnet18", "blocks": (2, 3, 4),
            "teacher": "imagenet", "teacher_sha256": "0" * 64, "threshold": 0.5, "parity": PARITY,
        }  # fmt: skip
        return Spec(**{**fields, **changes})

    return make


@pytest.fixture
def make_model(tmp_path: Path, make_spec) -> Callable[..., Path]:
    """Return a function that writes a model.onnx.

    One of kind `nan` divides 0 by 0 at a level of 51, a `failing` one breaks above 200,
    and an `endless` one never answers.

    Its golden results lie next to it, all of levels below 51.
    """

    def make(file: str = "model.onnx", kind: str = "first_channel", metadata: bool = True, **changes) -> Path:
        path, spec = tmp_path / file, make_spec(**changes)
        onnx.save(_graph(spec, kind, metadata), path)
        images = np.random.default_rng(0).integers(0, 50, (2, spec.height, spec.width, 3), np.uint8)
        save_golden(Golden(images, *first_channel(images), sha256(path)), golden_path(path))
        return path

    return make


@pytest.fixture
def model(make_model) -> Path:
    return make_model()


@pytest.fixture(params=["fake", "onnxruntime"])
def make_engine(request: pytest.FixtureRequest, make_spec, make_model):
    """Return a function that opens an engine of each kind that gives the same answers."""

    def make(**changes):
        if request.param == "fake":
            return FakeEngine(make_spec(**changes))
        return open_engine(make_model(**changes), threads=1)

    return make


@pytest.fixture
def in_berlin(monkeypatch) -> Iterator[None]:
    """The machine's local time is that of Berlin."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def paint() -> Callable[..., np.ndarray]:
    """Return a function that paints black pictures uint8 [H, W, 3] with a quarter, top left, whose blue is `level`."""

    def paint(level: int = 0, height: int = 4 * HEIGHT, width: int = 4 * WIDTH) -> np.ndarray:
        picture = np.zeros((height, width, 3), np.uint8)
        picture[: height // 2, : width // 2, 0] = level
        return picture

    return paint


@pytest.fixture
def write() -> Callable[..., Path]:
    """Return a function that writes a picture, and the folders above it."""

    def write(path: Path, pixels: np.ndarray, *flags: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels, flags)
        return path

    return write


@pytest.fixture
def write_video(paint) -> Callable[..., Path]:
    """Return a function that writes a video of frames with these levels, as far as motion JPEG keeps them."""

    def write(path: Path, levels: list[int]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 32))
        assert video.isOpened()
        for level in levels:
            picture = paint(level)
            picture[:, :, 1:] = picture[:, :, :1]  # grey: JPEG halves the resolution of colour
            video.write(picture)
        video.release()
        return path

    return write


def _graph(spec: Spec, kind: str, metadata: bool) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["image", "zero"], ["plane"], axis=3),
        helper.make_node("Cast", ["plane"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["levels", "full"], ["anomaly_map" if kind not in ("nan", "endless") else "sound_map"]),
    ]
    if kind == "nan":
        nodes += [
            helper.make_node("Sub", ["levels", "unlucky"], ["distance"]),
            helper.make_node("Div", ["distance", "distance"], ["one"]),
            helper.make_node("Mul", ["sound_map", "one"], ["anomaly_map"]),
        ]
    if kind == "endless":
        nodes += [
            helper.make_node("ReduceMax", ["levels"], ["start"], keepdims=0),
            helper.make_node("Loop", ["trips", "true", "start"], ["end"], body=_endless()),
            helper.make_node("Mul", ["end", "nothing"], ["added"]),
            helper.make_node("Add", ["sound_map", "added"], ["anomaly_map"]),
        ]
    score = "peak" if kind == "failing" else "score"
    nodes.append(helper.make_node("ReduceMax", ["anomaly_map", "sides"], [score], keepdims=0))
    if kind == "failing":  # the level is looked up in a table that ends at 200
        nodes += [
            helper.make_node("ReduceMax", ["levels"], ["level"], keepdims=0),
            helper.make_node("Cast", ["level"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["entry"]),
            helper.make_node("Add", ["peak", "entry"], ["score"]),
        ]
    graph = helper.make_graph(
        nodes, kind,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", spec.height, spec.width, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["n", spec.height, spec.width]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
        ],
        [
            helper.make_tensor("zero", TensorProto.INT64, [], [0]),
            helper.make_tensor("full", TensorProto.FLOAT, [], [255]),
            helper.make_tensor("sides", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("unlucky", TensorProto.FLOAT, [], [51]),
            helper.make_tensor("trips", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("true", TensorProto.BOOL, [], [True]),
            helper.make_tensor("nothing", TensorProto.FLOAT, [], [0]),
            helper.make_tensor("table", TensorProto.FLOAT, [201], [0] * 201),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if metadata:
        helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(model)
    return model


def _endless() -> onnx.GraphProto:
    """Return the body of a loop that goes on."""
    value = helper.make_tensor_value_info
    return helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["goes_on"]), helper.make_node("Abs", ["before"], ["after"])], "body",
        [value(name, kind, []) for name, kind in
         (("turn", TensorProto.INT64), ("go_on", TensorProto.BOOL), ("before", TensorProto.FLOAT))],
        [value("goes_on", TensorProto.BOOL, []), value("after", TensorProto.FLOAT, [])],
    )  # fmt: skip
