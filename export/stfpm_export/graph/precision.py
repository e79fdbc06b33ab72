"""The arithmetic of the backbones, as nodes of the graph: a precision is a property of the file, never a flag.

    fp32  float32 everywhere
    fp16  float16 weights and activations from the frame to the features
    bf16  bfloat16 weights and activations: float32's range, with eight bits of mantissa
    int8  QuantizeLinear/DequantizeLinear pairs around every convolution (see `int8`)

The head is float32 in all of them: 1 - cos has no digits left in half precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from .builder import BFLOAT16, FLOAT, FLOAT16, OPSET, GraphBuilder
from .folding import ConvWeights

Factors = Mapping[str, npt.NDArray[np.float32]]
"""What the channels of a tensor are divided by, float32 [C], above 0, by the tensor's name."""
VALUES = "/values"
"""The end of the name of a tensor that was quantised and dequantised."""


class Float32:
    """float32 everywhere. Keeps the names of the activations, whose ranges a calibration measures."""

    precision = "fp32"
    opset = OPSET
    """The ONNX opset of the graph."""
    pairs_fit_int16 = False
    """See `stfpm_runtime.artifact.spec.Spec`."""
    image_type: npt.DTypeLike = np.float32
    """The type of the result of `image`, and of the planes."""
    features_are_integers = False
    """If true, `features` returns the uint8 values of the quantised features; else it returns float32 values."""

    def __init__(self, factors: Factors | None = None) -> None:
        """Take what the channels of tensors are divided by, see `equalisation`; None leaves them as they are."""
        self.activations: list[str] = []
        """The names that `activation` was called with."""
        self._factors = factors or {}

    def image(self, builder: GraphBuilder) -> str:
        """Cast the uint8 frames [N, H, W, 3], 0 to 255, to the planes' type: all that TensorRT does with bytes."""
        return builder.node("Cast", ["image"], "planes/float", to=FLOAT)

    def planes(self, builder: GraphBuilder, planes: str) -> str:
        """Return the planes [N, 4, H, W] as conv1 takes them."""
        return planes

    def convolution(
        self, builder: GraphBuilder, x: str, weights: ConvWeights, name: str, stride: int, padding: int
    ) -> str:
        """Write a convolution of an activation; its result is not an activation yet."""
        weights = self._equalised(weights, x, name)
        weight = builder.constant(f"{name}/weight", self._cast(weights.weight))
        bias = builder.constant(f"{name}/bias", self._cast(weights.bias))
        return builder.convolution([x, weight, bias], name, weights.weight.shape[2], stride, padding)

    def activation(self, builder: GraphBuilder, x: str, like: str | None = None) -> str:
        """Make a tensor readable by convolutions and sums; its values are among those of `like`, if given."""
        if like is None:
            self.activations.append(x)
        return x

    def rectified(self, builder: GraphBuilder, x: str, name: str) -> str:
        """Write the activation max(x, 0)."""
        return self.activation(builder, builder.node("Relu", [x], name))

    def identity_shortcut(self, builder: GraphBuilder, x: str, name: str) -> str:
        """Return the input of a residual unit as the unit adds it; where channels were divided, they are multiplied.

        A 1x1 convolution, called `name`, multiplies them: it stays in integers in int8.
        """
        factors = self._factors.get(x.removesuffix(VALUES))
        if factors is None:
            return x
        same = np.eye(len(factors), dtype=np.float32).reshape(len(factors), -1, 1, 1)
        weights = ConvWeights(same, np.zeros(len(factors), np.float32))
        return self.activation(builder, self.convolution(builder, x, weights, name, 1, 0))

    def residual_branch(self, builder: GraphBuilder, x: str) -> str:
        """Make an activation of a convolution's result that is added to a shortcut."""
        return self.activation(builder, x)

    def features(self, builder: GraphBuilder, x: str) -> str:
        """Return an activation for the head, in float32 or as `features_are_integers` says."""
        return x

    def _equalised(self, weights: ConvWeights, x: str, name: str) -> ConvWeights:
        """Return the weights of a convolution that reads or writes channels divided by their factors."""
        read, written = (self._factors.get(tensor) for tensor in (x.removesuffix(VALUES), name))
        weight, bias = weights
        if read is not None:
            weight = weight * read.reshape(1, -1, 1, 1)
        if written is not None:
            weight, bias = weight / written.reshape(-1, 1, 1, 1), bias / written
        return ConvWeights(weight, bias)

    def _cast(self, array: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        return array


class Float16(Float32):
    """Half the bytes, and the tensor cores of a GPU."""

    precision = "fp16"
    image_type: npt.DTypeLike = np.float16
    onnx_type: int = FLOAT16
    """The same type, as ONNX numbers it."""

    def image(self, builder: GraphBuilder) -> str:
        """Cast the bytes to 16 bits, in which 0 to 255 are exact."""
        return builder.node("Cast", ["image"], "planes/half", to=self.onnx_type)

    def features(self, builder: GraphBuilder, x: str) -> str:
        """Cast an activation back to float32."""
        return builder.node("Cast", [x], f"{x}/float", to=FLOAT)

    def _cast(self, array: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        with np.errstate(over="ignore"):  # parity finds what overflows, and names it
            return array.astype(self.image_type)


class BFloat16(Float16):
    """For x86 CPUs that multiply bfloat16 matrices, by OpenVINO: no value overflows, and the head stays float32."""

    precision = "bf16"
    image_type = ml_dtypes.bfloat16
    onnx_type = BFLOAT16
    opset = 22
    """The first one in which a convolution takes bfloat16."""
