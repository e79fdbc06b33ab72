"""Multiply-adds and bytes of graphs small enough to count by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stfpm_bench.graph_cost import BETWEEN, Cost, count_costs, group_of, in_graph_order
from stfpm_bench.roofline import measure_roofline
from stfpm_runtime.errors import ArtifactError

OUTPUTS = 5 * 8 * 8
MACS = OUTPUTS * 3 * 3 * 3


@pytest.fixture
def graph(tmp_path):
    """A 3x3 convolution of 3 to 5 planes of 8x8 with a Relu, in float32 or between Q/DQ pairs."""

    def graph(kind):
        weights = np.ones((5, 3, 3, 3), np.float32)
        first, last = ("image", "out") if kind == "fp32" else ("x", "y")
        constants = {"w": weights if kind == "fp32" else weights.astype(np.int8)}
        kernel = {"kernel_shape": [3, 3], "pads": [1] * 4}
        nodes = [
            helper.make_node("Conv", [first, "w" if kind == "fp32" else "v"], ["c"], "teacher/conv2_1/1", **kernel),
            helper.make_node("Relu", ["c"], [last], "teacher/conv2_1/1/relu"),
        ]
        if kind == "int8":
            constants |= {"s": np.float32(1), "z": np.uint8(0), "m": np.int8(0)}
            nodes = [
                helper.make_node("DequantizeLinear", ["image", "s", "z"], ["x"], "planes/values"),
                helper.make_node("DequantizeLinear", ["w", "s", "m"], ["v"], "weights"),
                *nodes,
                helper.make_node("QuantizeLinear", ["y", "s", "z"], ["out"], "teacher/conv2_1/1/relu/quantised"),
            ]
        element = TensorProto.FLOAT if kind == "fp32" else TensorProto.UINT8
        made = helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info("image", element, ["n", 3, 8, 8])],
            [helper.make_tensor_value_info("out", element, ["n", 5, 8, 8])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        )  # fmt: skip
        path = tmp_path / f"{kind}.onnx"
        onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        return path

    return graph


@pytest.mark.parametrize(("kind", "size"), [("fp32", 4), ("int8", 1)])
def test_convolution_costs_what_it_says_in_the_types_that_are_stored(graph, kind, size):
    written = OUTPUTS * (4 if kind == "fp32" else 1)
    expected = Cost(MACS, size * (3 * 8 * 8 + 5 * 27) + written)
    assert count_costs(graph(kind)) == {"teacher conv2": expected}


def test_int8_adds_one_small_convolution_to_each_network(tiny_checkpoint, tiny_onnx, tmp_path):
    from stfpm_export.export import ExportOptions, export_checkpoint

    int8 = tmp_path / "int8.onnx"
    export_checkpoint(ExportOptions(tiny_checkpoint, int8, precision="int8", allow_parity_loss=True), print)
    one, other = count_costs(tiny_onnx), count_costs(int8)
    rescaled = 64 * 64 * 16 * 16  # the stem that is added to the first residual unit, see graph.equalisation
    assert {group: cost.macs for group, cost in other.items() if group != "head"} == {
        group: cost.macs + (rescaled if group.endswith("conv2") else 0)
        for group, cost in one.items()
        if group != "head"
    }
    sums = 3 * (64 * 16 * 16 + 128 * 8 * 8 + 256 * 4 * 4)  # over channels: no matrix product where they are integers
    assert one["head"].macs - other["head"].macs == sums
    assert one["student conv2"].macs == one["teacher conv2"].macs == 4 * 64 * 64 * 9 * 16 * 16
    assert sum(cost.bytes for cost in other.values()) < 0.5 * sum(cost.bytes for cost in one.values())
    assert in_graph_order(one) == [
        "stem", "teacher conv2", "teacher conv3", "teacher conv4", "student conv2", "student conv3", "student conv4",
        "head",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("stem/conv1_token_10", "stem"),
        ("planes", "stem"),
        ("teacher/conv2_1/1/relu_nchwc", "teacher conv2"),
        ("student/conv4_2/2/WithoutBiases", "student conv4"),
        ("student/conv3/projection", "student conv3"),
        ("InsertedPrecisionFreeCast_student/conv4_2/2_nchwc", "student conv4"),
        ("teacher/conv2_2/relu/values/flat_dq1", "head"),
        ("head/block2/map", "head"),
        ("score", "head"),
        ("ReorderOutput_token_72", BETWEEN),
        ("Multiply_1685", BETWEEN),
    ],
)
def test_engines_names_lead_to_the_group(name, group):
    assert group_of(name) == group


def test_what_is_no_graph_is_refused(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ArtifactError, match=r"broken\.onnx: cannot be read as ONNX"):
        count_costs(path)


def test_no_roofline_says_why(tiny_checkpoint, tiny_onnx):
    assert "counted from an ONNX file" in str(measure_roofline(tiny_checkpoint, "PyTorch cpu", "fp32"))
    assert "the peak of CUDAExecutionProvider is not measured" in str(
        measure_roofline(tiny_onnx, "CUDAExecutionProvider", "fp32")
    )


@pytest.mark.slow
def test_no_layer_is_far_beyond_the_limit(tiny_onnx):
    roofline = measure_roofline(tiny_onnx, "CPUExecutionProvider", "fp32")
    assert not isinstance(roofline, str)
    assert roofline.peak_gops > 0
    assert roofline.copy_gb_s > 0
    assert roofline.limit_ms == pytest.approx(sum(group.limit_ms for group in roofline.groups))
    assert 0 < roofline.limit_ms < 3 * roofline.time_ms
