"""Exported graphs against what TensorRT 10.3's ONNX parser takes.

The table is onnx-tensorrt's docs/operators.md, for the operators that an exported graph may have. Types are those of
the list for TensorRT 8.5, which later lists only extend, and uint8 where 10.x takes it: as an input, into Cast.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, shape_inference

from stfpm_edge.networks import SMALL_STUDENTS, default_blocks
from stfpm_export.graph.backbones import build_graph
from stfpm_export.graph.int8 import Int8
from stfpm_export.graph.precision import Float16, Float32
from stfpm_export.graph.ranges import measure_ranges
from tiny_model import make_checkpoint

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}
INTEGERS = {TensorProto.INT32, TensorProto.INT64}
INT8 = {TensorProto.INT8}
TYPES = {  # of the first input
    "Add": FLOATS | INTEGERS,
    "AveragePool": FLOATS,
    "Cast": FLOATS | INTEGERS | INT8 | {TensorProto.UINT8},
    "Concat": FLOATS | INTEGERS | INT8,
    "Conv": FLOATS | INT8,
    "DequantizeLinear": INT8,
    "Div": FLOATS | INTEGERS,
    "Expand": FLOATS | INTEGERS,
    "MatMul": FLOATS,
    "Max": FLOATS | INTEGERS,
    "MaxPool": FLOATS | INT8,
    "Mul": FLOATS | INTEGERS,
    "Pad": FLOATS | INT8,
    "QuantizeLinear": FLOATS,
    "ReduceMax": FLOATS,
    "ReduceMean": FLOATS,
    "ReduceSumSquare": FLOATS,
    "Relu": FLOATS | INT8,
    "Reshape": FLOATS | INTEGERS | INT8,
    "Shape": FLOATS | INTEGERS | INT8,
    "Split": FLOATS | INTEGERS,
    "Sqrt": FLOATS,
    "Sub": FLOATS | INTEGERS,
    "TopK": FLOATS,
    "Transpose": FLOATS | INTEGERS | INT8,
}
OPSETS = range(9, 21)  # of TensorRT 10.3's parser


def objections(model):
    """What TensorRT 10.3's parser has against `model`, a line each.

    >>> nothing = helper.make_graph([], "nothing", [], [])
    >>> objections(helper.make_model(nothing, opset_imports=[helper.make_opsetid("", 17)]))
    []
    """
    model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    typed = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in typed}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    found = [f"opset {entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import
             if entry.domain or entry.version not in OPSETS]  # fmt: skip
    inputs = {value.name for value in model.graph.input}
    for node in model.graph.node:
        kind = types[node.input[0]]
        if kind not in TYPES.get(node.op_type, ()):
            found.append(f"{node.name}: {node.op_type} of {TensorProto.DataType.Name(kind)}")
        found += [f"{node.name}: {reason}" for reason in _of_attributes(node, constants)]
        if kind == TensorProto.UINT8 and node.input[0] not in inputs:
            found.append(f"{node.name}: uint8 inside the network")
    return found


def _of_attributes(node, constants):
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        if node.input[1] not in constants or not np.all(constants[node.input[1]] > 0):
            yield "a scale that is not a positive constant"
        if len(node.input) > 2 and constants[node.input[2]].any():
            yield "a zero point other than 0"
    if node.op_type == "TopK" and constants[node.input[1]].item() > 3840:
        yield "more than 3840 values"
    if node.op_type in ("AveragePool", "Conv", "MaxPool"):
        if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
            yield "auto_pad"
        if not 2 <= len(attributes["kernel_shape"]) <= 3:
            yield "not 2D or 3D"
    if node.op_type == "MaxPool" and len(node.output) > 1:
        yield "indices"
    if node.op_type == "Conv" and attributes.get("group", 1) != 1:
        yield "a grouped convolution (in fp16 TensorRT 11.2 does not build it)"
    if node.op_type == "Pad" and attributes.get("mode", b"constant") not in (b"constant", b"reflect", b"edge"):
        yield "a kind of padding"


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "resnet18_half", *SMALL_STUDENTS])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_tensorrt_10_3_parses_every_operator(backbone, precision):
    checkpoint = make_checkpoint(backbone, default_blocks(backbone))
    assert objections(build_graph(checkpoint, _arithmetic(precision, checkpoint), "tensorrt")) == []


def test_it_parses_the_heads_of_a_product():
    checkpoint = make_checkpoint(top_share=0.01, score_scale=1.5)
    checkpoint = dataclasses.replace(checkpoint, place_scale=torch.ones(64, 64))
    assert objections(build_graph(checkpoint, target="tensorrt")) == []


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_it_parses_the_graphs_for_a_cpu_too_where_precision_is_floating(tiny, precision):
    assert objections(build_graph(tiny, _arithmetic(precision, tiny), "cpu")) == []


def test_it_does_not_parse_int8_for_a_cpu(tiny):
    found = objections(build_graph(tiny, Int8(measure_ranges(tiny, tiny.train_images), "cpu"), "cpu"))
    assert any("a zero point other than 0" in reason for reason in found)
    assert any("DequantizeLinear of UINT8" in reason for reason in found)


@pytest.mark.parametrize(
    ("node", "kind", "objection"),
    [
        (helper.make_node("NonZero", ["x"], ["y"], "n"), TensorProto.FLOAT, "n: NonZero of FLOAT"),
        (helper.make_node("Transpose", ["x"], ["y"], "n"), TensorProto.UINT8, "n: Transpose of UINT8"),
        (helper.make_node("Conv", ["x", "w"], ["y"], "n", kernel_shape=[1, 1], group=2), TensorProto.FLOAT,
         "n: a grouped convolution"),
        (helper.make_node("MaxPool", ["x"], ["y"], "n", kernel_shape=[2, 2], auto_pad="SAME_UPPER"), TensorProto.FLOAT,
         "n: auto_pad"),
        (helper.make_node("MaxPool", ["x"], ["y", "i"], "n", kernel_shape=[2, 2]), TensorProto.FLOAT, "n: indices"),
    ],
)  # fmt: skip
def test_what_it_does_not_take_is_found(node, kind, objection):
    weight = numpy_helper.from_array(np.zeros((2, 1, 1, 1), np.float32), "w")
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", kind, [1, 2, 4, 4])],
        [helper.make_empty_tensor_value_info(name) for name in node.output],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert any(line.startswith(objection) for line in objections(model)), objections(model)


def test_a_foreign_operator_set_is_found():
    graph = helper.make_graph([], "none", [], [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("com.microsoft", 1)])
    assert objections(model) == ["opset com.microsoft 1"]


def _arithmetic(precision, checkpoint):
    if precision == "int8":
        return Int8(measure_ranges(checkpoint, checkpoint.train_images), "tensorrt")
    return Float16() if precision == "fp16" else Float32()


def test_the_table_names_real_operators():
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    assert set(TYPES) <= known
