"""Calibration of int8 on good images: the range of each activation, and what each convolution reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F

from stfpm_edge.checkpoint import Checkpoint
from stfpm_runtime.imaging.preprocessing import Image

from .backbones import build_graph
from .builder import FLOAT, FLOAT16
from .int8 import Range
from .precision import Factors, Float32
from .rounding import InputStatistics

PLACES = 256
"""Of each image so many places that a convolution reads are measured, drawn at random."""
TOGETHER = 8
"""The number of images whose products are summed at once, which only saves time."""


def measure_ranges(checkpoint: Checkpoint, images: Sequence[Image]) -> dict[str, Range]:
    """Return the lowest and highest value of each channel of each activation of the float32 graph over good images.

    Images are uint8 [H, W, 3].

    The extremes, and no percentile of them: what a defect excites lies above what good images do, and clipping it
    takes away what is to be found (on real images percentiles lowered the scores of defects by 10 % and more).
    """
    assert images, "a calibration needs at least one image"
    arithmetic = Float32()
    model = build_graph(checkpoint, arithmetic)
    ranges: dict[str, Range] = {}
    for values in _activations(model, arithmetic.activations, images):
        for name, value in values.items():
            low, high = value.min(axis=(0, 2, 3)), value.max(axis=(0, 2, 3))
            before = ranges.get(name, Range(low, high))
            ranges[name] = Range(np.minimum(before.low, low), np.maximum(before.high, high))
    return ranges


def measure_inputs(checkpoint: Checkpoint, images: Sequence[Image], factors: Factors) -> dict[str, InputStatistics]:
    """Return mean and covariance of what each convolution of the float32 graph reads of good images, by its name.

    Images are uint8 [H, W, 3]. The graph's channels are divided by `factors`, see `equalisation.equalise_stem`.
    """
    model = build_graph(checkpoint, Float32(factors))
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    random = np.random.default_rng(0)
    sums = {node.name: _Sums() for node in convolutions}
    for values in _activations(model, sorted({node.input[0] for node in convolutions}), images):
        for node in convolutions:
            sums[node.name].add(_read(node, values[node.input[0]], random))
    return {name: one.statistics() for name, one in sums.items()}


class _Sums:
    """The sums from which the statistics of what one convolution reads are computed; each column is one place."""

    def __init__(self) -> None:
        self._waiting: list[npt.NDArray[np.float32]] = []
        self._count = 0
        self._total: npt.NDArray[np.float64] = np.zeros(1)
        self._products: npt.NDArray[np.float64] = np.zeros((1, 1))

    def add(self, columns: npt.NDArray[np.float32]) -> None:
        self._waiting.append(columns)
        if len(self._waiting) == TOGETHER:
            self._sum()

    def statistics(self) -> InputStatistics:
        self._sum()
        mean = self._total / self._count
        covariance = self._products / self._count
        covariance -= np.outer(mean, mean)
        return InputStatistics(mean, covariance.astype(np.float32))

    def _sum(self) -> None:
        if self._waiting:
            columns = np.concatenate(self._waiting, axis=1)
            self._count += columns.shape[1]
            self._total = self._total + columns.sum(axis=1, dtype=np.float64)
            self._products = self._products + columns @ columns.T
            self._waiting = []


def _read(node: onnx.NodeProto, x: npt.NDArray[np.float32], random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return what a convolution reads of its input [1, C, H, W] at up to `PLACES` places, one in each column."""
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    kernel, padding, stride = attributes["kernel_shape"], attributes["pads"][:2], attributes["strides"]
    columns = F.unfold(torch.from_numpy(x), kernel, padding=padding, stride=stride)[0].numpy()
    if columns.shape[1] <= PLACES:
        return columns
    return columns[:, random.choice(columns.shape[1], PLACES, replace=False)]


def first_overflow(model: onnx.ModelProto, names: Sequence[str], image: Image) -> str | None:
    """Return the first of these tensors of a float16 graph that is not finite on an image; None where all are."""
    values = next(_activations(model, names, [image], FLOAT16))
    return next((name for name, value in values.items() if not np.isfinite(value).all()), None)


def _activations(
    model: onnx.ModelProto, names: Sequence[str], images: Sequence[Image], kind: int = FLOAT
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Yield these tensors of a graph, in ONNX Runtime, for each image."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(name, kind, None) for name in names)
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    for image in images:
        yield dict(zip(names, session.run(list(names), {"image": image[np.newaxis]}), strict=True))
