"""Count what a graph costs at the least, from its ONNX file: multiply-adds and bytes, by group of layers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import helper, numpy_helper

from stfpm_runtime.errors import ArtifactError

ANCHORS = ("Conv", "MatMul", "Gemm", "MaxPool")
"""Operators that move data. The others are taken as fused into their neighbours, as a perfect engine would."""
BETWEEN = "layout, conversion"
"""The group of the operations that an engine puts between the layers, and of those that belong to no other group."""
ORDER = ("stem", "teacher", "student", "head")


@dataclass(frozen=True)
class Cost:
    """Cost of a group of layers, for one frame."""

    macs: int = 0
    """Multiply-adds."""
    bytes: int = 0
    """Weights, inputs and outputs, each once, in the type it is stored in."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.bytes + other.bytes)


def group_of(name: str) -> str:
    """Return the group of a node of ours, also by the name that an engine derived from the node's."""
    name = name.removeprefix("InsertedPrecisionFreeCast_")  # ONNX Runtime turned it from fp16 to fp32
    if "/flat" in name or name.startswith(("head/", "anomaly_map", "score")):
        return "head"
    if name.startswith(("stem/", "planes")):
        return "stem"
    found = re.match(r"(teacher|student)/(conv\d)", name)
    return f"{found[1]} {found[2]}" if found else BETWEEN


def count_costs(path: Path) -> dict[str, Cost]:
    """Return the cost of each group for one frame. Raises ArtifactError for a file that is no ONNX graph."""
    try:
        model = onnx.load(path)
        for value in (*model.graph.input, *model.graph.output):
            if value.type.tensor_type.shape.dim:
                value.type.tensor_type.shape.dim[0].dim_value = 1
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # protobuf's, ONNX's own and OSError share no base class
        raise ArtifactError(f"{path}: cannot be read as ONNX ({error}); export it again") from None
    graph = _Graph(model.graph)
    costs: dict[str, Cost] = {}
    for node in model.graph.node:
        if node.op_type in ANCHORS:
            group = group_of(node.name)
            costs[group] = costs.get(group, Cost()) + graph.cost(node)
    return costs


def in_graph_order(groups: Iterable[str]) -> list[str]:
    """Return groups in the order of a frame's way through the graph."""
    rank = {name: number for number, name in enumerate(ORDER)}
    return sorted(groups, key=lambda group: (rank.get(group.partition(" ")[0], len(rank)), group))


class _Graph:
    """Shapes and stored types of a graph's tensors."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.shapes: dict[str, list[int]] = {}
        self.types: dict[str, int] = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            tensor = value.type.tensor_type
            self.shapes[value.name] = [dimension.dim_value or 1 for dimension in tensor.shape.dim]
            self.types[value.name] = tensor.elem_type
        for constant in graph.initializer:
            self.shapes[constant.name] = list(numpy_helper.to_array(constant).shape)
            self.types[constant.name] = constant.data_type
        self.made_by = {output: node for node in graph.node for output in node.output}
        self.read_by = {name: node for node in graph.node for name in node.input}

    def cost(self, node: onnx.NodeProto) -> Cost:
        """Return the cost of one node that moves data."""
        outputs, macs = math.prod(self.shapes[node.output[0]]), 0
        if node.op_type == "Conv":  # one multiply-add for each output and each weight that it depends on
            macs = outputs * math.prod(self.shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            macs = outputs * self.shapes[node.input[0]][-1]
        moved = [*map(self._stored_input, filter(None, node.input)), *map(self._stored_output, node.output)]
        return Cost(macs, sum(map(self._bytes, moved)))

    def _stored_input(self, name: str) -> str:
        """Return the tensor that is really read: what a DequantizeLinear takes."""
        node = self.made_by.get(name)
        return node.input[0] if node is not None and node.op_type == "DequantizeLinear" else name

    def _stored_output(self, name: str) -> str:
        """Return the tensor that is really written: what a QuantizeLinear gives, behind a Relu or not."""
        node = self.read_by.get(name)
        while node is not None and node.op_type in ("Relu", "Clip"):
            name, node = node.output[0], self.read_by.get(node.output[0])
        return node.output[0] if node is not None and node.op_type == "QuantizeLinear" else name

    def _bytes(self, name: str) -> int:
        size = helper.tensor_dtype_to_np_dtype(self.types[name]).itemsize
        return int(math.prod(self.shapes[name]) * size)
