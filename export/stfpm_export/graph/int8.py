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
from .rounding import Rounder


class Range(NamedTuple):
    """The lowest and the highest value of each channel of a tensor, float32 [C]."""

    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]


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
        rounder: Rounder | None = None,
    ) -> None:
        """Take the range of every activation of the float graph, as a calibration measured it.

        Without a `rounder` weights are rounded to the nearest integers.
        """
        super().__init__(factors)
        self._ranges = ranges
        self._rounder = rounder or Rounder({})
        self._target = target
        self._scales: dict[str, Scale] = {}
        self.features_are_integers = target == "cpu"
        self.pairs_fit_int16 = target != "tensorrt"  # a GPU adds in 32 bits
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
        values, scale, shift = self._rounder.round(name, weights.weight, self.pairs_fit_int16)
        exact_bias = weights.bias + shift
        weight = self._dequantised_constant(builder, f"{name}/weight", values, scale)
        if self._target == "tensorrt":  # its parser takes no int32 here, and it folds a float bias by itself
            bias = builder.constant(f"{name}/bias", exact_bias.astype(np.float32))
        else:
            unit = scale * self._scales[x].scale
            rounded = np.rint(exact_bias / unit).clip(-(2**31), 2**31 - 1).astype(np.int32)
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

    def features(self, builder: GraphBuilder, x: str) -> str:
        """Return the integers of an activation for ONNX Runtime, which would dequantise it again for each use."""
        if not self.features_are_integers:
            return x
        assert self._scales[x].zero_point == 0, "features are behind a ReLU"
        return _integers(x)

    def _requantise(self, builder: GraphBuilder, x: str, name: str, scale: Scale) -> str:
        constants = self._constants(builder, f"{name}/quantise", scale)
        quantised = builder.node("QuantizeLinear", [x, *constants], _integers(name))
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


def _integers(name: str) -> str:
    """Return the name of the integers of an activation."""
    return name.removesuffix(VALUES) + "/quantised"
