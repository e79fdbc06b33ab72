"""What a graph costs at the least, counted from its ONNX file: multiply-adds and bytes, by group of layers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stfpm_runtime.errors import ArtifactError, MissingExtraError

try:
    import onnx
    from onnx import helper, numpy_helper
except ImportError:
    raise MissingExtraError("onnx", "bench") from None

ANCHORS = ("Conv", "MatMul", "Gemm", "MaxPool")
"""Operators that move data. The others are taken as fused into their neighbours, as a perfect engine would."""
BETWEEN = "layout, conversion"
"""What an engine puts between the layers, and what cannot be told apart."""


@dataclass(frozen=True)
class Cost:
    """Of a group of layers, for one frame."""

    macs: int = 0
    """Multiply-adds."""
    bytes: int = 0
    """Weights, and what is read and written, each once, in the type it is stored in."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.bytes + other.bytes)


def group_of(name: str) -> str:
    """The group of a node of ours, also by the name that an engine gave to what it made of it."""
    name = name.removeprefix("InsertedPrecisionFreeCast_")  # ONNX Runtime's, of what it turns from fp16 to fp32
    if "/flat" in name or name.startswith(("head/", "anomaly_map", "score")):
        return "head"
    if name.startswith(("stem/", "planes")):
        return "stem"
    found = re.match(r"(teacher|student)/(conv\d)", name)
    return f"{found[1]} {found[2]}" if found else BETWEEN


def count_costs(path: Path) -> dict[str, Cost]:
    """The cost of each group for one frame. Raises ArtifactError for a file that is no ONNX graph."""
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
        """Of one node that moves data."""
        moved = [*map(self.stored_before, node.input), *map(self.stored_after, node.output)]
        return Cost(self.macs(node), sum(map(self.bytes, moved)))

    def macs(self, node: onnx.NodeProto) -> int:
        """Multiply-adds: one for each output and each weight that it depends on."""
        outputs = math.prod(self.shapes[node.output[0]])
        if node.op_type == "Conv":
            return outputs * math.prod(self.shapes[node.input[1]][1:])
        if node.op_type in ("MatMul", "Gemm"):
            return outputs * self.shapes[node.input[0]][-1]
        return 0

    def stored_before(self, name: str) -> str:
        """The tensor that is really read: what a DequantizeLinear takes."""
        node = self.made_by.get(name)
        return node.input[0] if node is not None and node.op_type == "DequantizeLinear" else name

    def stored_after(self, name: str) -> str:
        """The tensor that is really written: what a QuantizeLinear gives, behind a Relu or not."""
        node = self.read_by.get(name)
        while node is not None and node.op_type in ("Relu", "Clip"):
            name, node = node.output[0], self.read_by.get(node.output[0])
        return node.output[0] if node is not None and node.op_type == "QuantizeLinear" else name

    def bytes(self, name: str) -> int:
        """Of a tensor; 0 for an input that is left out."""
        if not name:
            return 0
        size = helper.tensor_dtype_to_np_dtype(self.types[name]).itemsize
        return int(math.prod(self.shapes[name]) * size)


def total(costs: dict[str, Cost]) -> Cost:
    """Of all groups together."""
    return sum(costs.values(), Cost())


def ordered(groups: Iterator[str]) -> list[str]:
    """Groups in the order of a frame's way through the graph."""
    rank = {"stem": "0", "teacher": "1", "student": "2", "head": "3"}
    return sorted(groups, key=lambda group: rank.get(group.partition(" ")[0], "4") + group)
