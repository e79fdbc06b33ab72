"""A thin layer over onnx.helper: nodes and constants, with names that a profile can be read by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Attribute = int | str | Sequence[int]
OPSET = 17
IR_VERSIONS = {17: 8, 22: 10}
"""The ONNX IR version of the file, by its opset: older readers, JetPack's among them, refuse a newer version."""


class GraphBuilder:
    """Collects nodes and constants. A tensor is known by its name, which is its node's."""

    def __init__(self, opset: int = OPSET) -> None:
        """Begin a graph for one of the opsets of `IR_VERSIONS`."""
        self._opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def node(self, operator: str, inputs: Sequence[str], name: str, **attributes: Attribute) -> str:
        """Add a node with one output, called as the node is; returns that name."""
        self._nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))  # type: ignore[arg-type]
        return name

    def reduce(self, operator: str, x: str, name: str, axes: Sequence[int], keepdims: int) -> str:
        """Add a reduction along axes, which are an input from opset 18 on."""
        if self._opset < 18:
            return self.node(operator, [x], name, axes=axes, keepdims=keepdims)
        return self.node(
            operator, [x, self.constant(f"{name}/axes", np.asarray(axes, np.int64))], name, keepdims=keepdims
        )

    def split(self, x: str, names: Sequence[str], sizes: Sequence[int], axis: int) -> list[str]:
        """Cut a tensor along an axis into parts of these sizes."""
        lengths = self.constant(f"{x}/sizes", np.asarray(sizes, np.int64))
        self._nodes.append(helper.make_node("Split", [x, lengths], list(names), name=f"{x}/split", axis=axis))
        return list(names)

    def highest(self, x: str, count: int, name: str) -> str:
        """Take the `count` highest values of each row of [N, M], the highest first: [N, count]."""
        k = self.constant(f"{name}/count", np.asarray([count], np.int64))
        outputs = [name, f"{name}/places"]
        self._nodes.append(helper.make_node("TopK", [x, k], outputs, name, axis=1, largest=1, sorted=1))
        return name

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add a constant; the same name may be given again for the same value."""
        self._constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def convolution(self, inputs: Sequence[str], name: str, kernel: int, stride: int, padding: int) -> str:
        """Add a convolution of square kernel, stride and padding; inputs are the features, the weight and the bias."""
        return self.node(
            "Conv",
            inputs,
            name,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[padding] * 4,
            dilations=[1, 1],
            group=1,
        )

    def model(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto], metadata: dict[str, str]
    ) -> onnx.ModelProto:
        """Return the checked model, without what no output depends on.

        Raise onnx's own errors for an invalid graph: that would be a bug of ours.
        """
        needed = {output.name for output in outputs}
        nodes: list[onnx.NodeProto] = []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                nodes.append(node)
                needed.update(node.input)
        constants = [constant for name, constant in self._constants.items() if name in needed]
        graph = helper.make_graph(nodes[::-1], "stfpm", inputs, outputs, constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self._opset)],
            ir_version=IR_VERSIONS[self._opset],
            producer_name="stfpm-edge",
        )
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model


def value_info(name: str, dtype: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """Describe an input's or output's name, type and shape; a text stands for a dimension that is free."""
    return helper.make_tensor_value_info(name, dtype, shape)


UINT8 = TensorProto.UINT8
FLOAT = TensorProto.FLOAT
FLOAT16 = TensorProto.FLOAT16
BFLOAT16 = TensorProto.BFLOAT16
