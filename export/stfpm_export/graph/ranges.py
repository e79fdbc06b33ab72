"""Calibration of int8: the range of each activation on good images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F

from stfpm_edge.checkpoint import Checkpoint
from stfpm_runtime.imaging.preprocessing import Image

from .backbones import build_graph
from .int8 import InputStatistics, Range
from .precision import Float32


def measure_ranges(checkpoint: Checkpoint, images: Sequence[Image]) -> dict[str, Range]:
    """Return the lowest and highest value of each channel of each activation of the float32 graph over good images.

    Images are uint8 [H, W, 3].

    The extremes, and no percentile of them: what a defect excites lies above what good images do, and clipping it
    takes away what is to be found (on real images percentiles lowered the scores of defects by 10 % and more).
    """
    assert images, "a calibration needs at least one image"
    arithmetic = Float32()
    model = build_graph(checkpoint, arithmetic)
    names = arithmetic.activations
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ranges: dict[str, Range] = {}
    for image in images:
        for name, value in zip(names, session.run(names, {"image": image[np.newaxis]}), strict=True):
            low, high = value.min(axis=(0, 2, 3)), value.max(axis=(0, 2, 3))
            before = ranges.get(name, Range(low, high))
            ranges[name] = Range(np.minimum(before.low, low), np.maximum(before.high, high))
    return ranges


def measure_pixels(images: Sequence[Image]) -> InputStatistics:
    """Return mean and covariance of what the first convolution reads of good images uint8 [H, W, 3].

    These are the squares of 7x7 pixels of the frame's planes and a white one, see `folding.fold_normalisation`.
    """
    count, total, products = 0, np.zeros(1), np.zeros((1, 1))
    for image in images:
        white = torch.full((1, *image.shape[:2]), 255.0)
        planes = torch.cat([torch.from_numpy(image).permute(2, 0, 1).float(), white])
        squares = F.unfold(planes[None], 7, padding=3, stride=2)[0].double().numpy()
        count, total, products = count + squares.shape[1], total + squares.sum(axis=1), products + squares @ squares.T
    mean = total / count
    return InputStatistics(mean, products / count - np.outer(mean, mean))


def first_overflow(model: onnx.ModelProto, names: Sequence[str], image: Image) -> str | None:
    """Return the first of these tensors of a float16 graph that is not finite on an image; None where all are."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    half = onnx.TensorProto.FLOAT16
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(name, half, None) for name in names)
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    values = session.run(list(names), {"image": image[np.newaxis]})
    return next((name for name, value in zip(names, values, strict=True) if not np.isfinite(value).all()), None)
