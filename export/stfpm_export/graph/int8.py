"""int8 by explicit quantisation: which tensors are quantised, and by which scales, stands in the graph.

Weights are int8, symmetric, with a scale for each output channel; activations uint8 with one scale (Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018):

    q = clip(round(x / scale) + zero_point, 0, 255),  x' = (q - zero_point) scale

An activation behind a ReLU has zero point 0, so that an engine drops the ReLU: the clip is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stfpm_export.target import Target

from .builder import GraphBuilder
from .folding import ConvWeights
from .precision import VALUES, Factors, Float32

DAMPING = 0.01
"""This share of the mean variance is added to each input's: pictures of a product may hardly vary in some place."""


class Range(NamedTuple):
    """The lowest and the highest value of each channel of a tensor, float32 [C]."""

    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]


class InputStatistics(NamedTuple):
    """Mean [K] and covariance [K, K], float64, of what a convolution's weight [C_out, K] is multiplied with."""

    mean: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.float64]


class Scale(NamedTuple):
    """Scale and zero point of a quantised activation."""

    scale: np.float32
    zero_point: np.uint8 | np.int8


class Int8(Float32):
    """Quantised backbones."""

    precision = "int8"

    def __init__(
        self,
        ranges: Mapping[str, Range],
        target: Target,
        factors: Factors | None = None,
        pixels: InputStatistics | None = None,
    ) -> None:
        """Take the range of every activation of the float graph, as a calibration measured it.

        `pixels` is what the first convolution reads, see `round_weight`; None rounds its weights to the nearest.
        """
        super().__init__(factors)
        self._ranges = ranges
        self._pixels = pixels
        self._target = target
        self._scales: dict[str, Scale] = {}
        self.image_type = np.dtype(np.float32 if target == "tensorrt" else np.uint8)

    def image(self, builder: GraphBuilder) -> str:
        """Take the frame's bytes as quantised by a scale of 1. TensorRT's int8 cannot represent 255."""
        return super().image(builder) if self._target == "tensorrt" else "image"

    def planes(self, builder: GraphBuilder, planes: str) -> str:
        """Dequantise the planes by a scale of 1, see `image`."""
        if self._target == "tensorrt":
            return planes
        return self._dequantise(builder, planes, "planes" + VALUES, Scale(np.float32(1), np.uint8(0)))

    def convolution(
        self, builder: GraphBuilder, x: str, weights: ConvWeights, name: str, stride: int, padding: int
    ) -> str:
        """Write int8 weights; the bias is int32 in the product of both scales, as is the sum of integer products."""
        if x not in self._scales:  # TensorRT's conv1
            return super().convolution(builder, x, weights, name, stride, padding)
        weights = self._equalised(weights, x, name)
        values, scale = quantise_weight(weights.weight)
        if self._pixels and x == "planes" + VALUES:
            values, weights = round_weight(weights, scale, self._pixels)
        weight = self._dequantised_constant(builder, f"{name}/weight", values, scale)
        if self._target == "tensorrt":  # its parser takes no int32 here, and it folds a float bias by itself
            bias = builder.constant(f"{name}/bias", weights.bias)
        else:
            unit = scale * self._scales[x].scale
            rounded = np.rint(weights.bias.astype(np.float64) / unit).clip(-(2**31), 2**31 - 1).astype(np.int32)
            bias = self._dequantised_constant(builder, f"{name}/bias", rounded, unit)
        return builder.convolution([x, weight, bias], name, weights.weight.shape[2], stride, padding)

    def activation(self, builder: GraphBuilder, x: str, like: str | None = None) -> str:
        """Quantise and dequantise; a tensor `like` another one takes its scale, so that nothing is rounded twice."""
        return self._requantise(builder, x, x, self._scale(self._ranges[x]) if like is None else self._scales[like])

    def rectified(self, builder: GraphBuilder, x: str, name: str) -> str:
        """Quantise instead of a ReLU: uint8 clips at 0, and ONNX Runtime sums in integers only without a ReLU."""
        if self._target != "cpu":
            return super().rectified(builder, x, name)
        return self._requantise(builder, x, name, self._scale(self._ranges[name]))

    def residual_branch(self, builder: GraphBuilder, x: str) -> str:
        """Quantise the branch where the target wants that, see `Target`."""
        return self.activation(builder, x) if self._target == "cpu" else x

    def _requantise(self, builder: GraphBuilder, x: str, name: str, scale: Scale) -> str:
        constants = self._constants(builder, f"{name}/quantise", scale)
        quantised = builder.node("QuantizeLinear", [x, *constants], f"{name}/quantised")
        return self._dequantise(builder, quantised, name + VALUES, scale)

    def _scale(self, values: Range) -> Scale:
        low, high = min(float(values.low.min()), 0.0), max(float(values.high.max()), 0.0)
        if self._target == "tensorrt":
            return Scale(np.float32(max(-low, high, 1e-9) / 127), np.int8(0))
        scale = np.float32(max(high - low, 1e-9) / 255)
        return Scale(scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255)))

    def _dequantise(self, builder: GraphBuilder, quantised: str, name: str, scale: Scale) -> str:
        constants = self._constants(builder, f"{name}/dequantise", scale)
        self._scales[name] = scale
        return builder.node("DequantizeLinear", [quantised, *constants], name)

    def _constants(self, builder: GraphBuilder, name: str, scale: Scale) -> list[str]:
        return [
            builder.constant(f"{name}/scale", np.asarray(scale.scale)),
            builder.constant(f"{name}/zero_point", np.asarray(scale.zero_point)),
        ]

    def _dequantised_constant(
        self, builder: GraphBuilder, name: str, values: npt.NDArray[np.signedinteger], scale: npt.NDArray[np.float32]
    ) -> str:
        """Write integers and their scale for each index of the first axis, as the float tensor that they represent."""
        constants = [
            builder.constant(f"{name}/integers", values),
            builder.constant(f"{name}/scale", scale),
            builder.constant(f"{name}/zero_point", np.zeros(len(scale), values.dtype)),
        ]
        return builder.node("DequantizeLinear", constants, name, axis=0)


def quantise_weight(weight: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return int8 [C_out, C_in, k, k], -127 to 127, and float32 [C_out]: their product is nearest to the weight."""
    largest = np.abs(weight).max(axis=(1, 2, 3))
    scale = (np.maximum(largest, 1e-12) / 127).astype(np.float32)
    return np.rint(weight / scale.reshape(-1, 1, 1, 1)).clip(-127, 127).astype(np.int8), scale


def round_weight(
    weights: ConvWeights, scale: npt.NDArray[np.float32], inputs: InputStatistics
) -> tuple[npt.NDArray[np.int8], ConvWeights]:
    """Round a weight so that the convolution's result changes least for such inputs.

    Returns the integers, -127 to 127, and the weights with a bias that makes up for the change of the mean result.
    After GPTQ (Frantar et al., ICLR 2023): one input after the other is rounded, and the weights of those that are left
    make up for its error as far as the inputs are correlated.
    """
    exact = weights.weight.reshape(len(scale), -1).astype(np.float64) / scale[:, None]
    damped = inputs.covariance + DAMPING * np.trace(inputs.covariance) / len(inputs.mean) * np.eye(len(inputs.mean))
    order = np.argsort(-np.diag(damped), kind="stable")
    inverse = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    left, rounded = exact[:, order], np.zeros_like(exact)
    for number, position in enumerate(order):
        rounded[:, position] = np.rint(left[:, number]).clip(-127, 127)
        error = (left[:, number] - rounded[:, position]) / inverse[number, number]
        left[:, number:] -= np.outer(error, inverse[number, number:])
    bias = weights.bias + scale * ((exact - rounded) @ inputs.mean)
    values = rounded.astype(np.int8).reshape(weights.weight.shape)
    return values, ConvWeights(weights.weight, bias.astype(np.float32))
