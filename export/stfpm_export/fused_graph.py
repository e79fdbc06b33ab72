"""Teacher, student, normalisation, head and maximum as the one ONNX graph of the artifact.

    image uint8 [N, H, W, 3] ─ planes float32 [N, 4, H, W] ─ conv1 of both ─┬─ teacher's blocks ─┬─ head ─ anomaly_map
                                                                            └─ student's blocks ─┘            └─ score

Written node by node, from operators that every engine has: nothing in it depends on how an exporter traces PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from torch import nn

from stfpm_edge.backbone import Pyramid
from stfpm_edge.checkpoint import Checkpoint
from stfpm_runtime.spec import METADATA_KEY

from .folding import ConvWeights, fold_batch_norm, fold_normalisation, merge_convolutions, upsampling_matrix
from .graph_builder import FLOAT, UINT8, GraphBuilder, value_info

BATCH = "N"
EPSILON = 1e-12
"""The shortest length that a feature is divided by, PyTorch's F.normalize's."""


def build_graph(checkpoint: Checkpoint) -> onnx.ModelProto:
    """The fused float32 graph of a checkpoint, with its Spec in the metadata."""
    spec = checkpoint.spec
    builder = GraphBuilder()
    planes = _planes(builder)
    stems = _stems(builder, planes, checkpoint)
    pyramids = [
        _pyramid(builder, stem, pyramid, name)
        for stem, pyramid, name in zip(
            stems, (checkpoint.teacher, checkpoint.student), ("teacher", "student"), strict=True
        )
    ]
    distances = [
        _distance(builder, teacher, student, f"head/block{block}")
        for block, teacher, student in zip(spec.blocks, *pyramids, strict=True)
    ]
    _anomaly_map(builder, distances, checkpoint)
    height, width = spec.height, spec.width
    return builder.model(
        [value_info("image", UINT8, [BATCH, height, width, 3])],
        [value_info("anomaly_map", FLOAT, [BATCH, height, width]), value_info("score", FLOAT, [BATCH])],
        {METADATA_KEY: spec.to_json()},
    )


def _planes(builder: GraphBuilder) -> str:
    """The frame's three planes, 0 to 255, and one of ones: float32 [N, 4, H, W]. See `fold_normalisation`."""
    values = builder.node("Cast", ["image"], "planes/float", to=FLOAT)
    planes = builder.node("Transpose", [values], "planes/nchw", perm=[0, 3, 1, 2])
    pads = builder.constant("planes/pads", np.asarray([0, 0, 0, 0, 0, 1, 0, 0], np.int64))
    one = builder.constant("planes/one", np.asarray(1, np.float32))
    return builder.node("Pad", [planes, pads, one], "planes/ones", mode="constant")


def _stems(builder: GraphBuilder, planes: str, checkpoint: Checkpoint) -> list[str]:
    """conv1 to max-pooling of teacher and student, float32 [N, 64, H/4, W/4] each, worked out in one go."""
    both = []
    for pyramid in (checkpoint.teacher, checkpoint.student):
        folded = fold_batch_norm(pyramid.conv1, pyramid.bn1)
        both.append(fold_normalisation(folded, checkpoint.spec.channel_order))
    conv = builder.convolution(planes, merge_convolutions(*both), "stem/conv1", stride=2, padding=3)
    relu = builder.node("Relu", [conv], "stem/relu")
    pooled = builder.node("MaxPool", [relu], "stem/maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    sizes = [len(conv.bias) for conv in both]
    return builder.split(pooled, ["teacher/stem", "student/stem"], sizes, axis=1)


def _pyramid(builder: GraphBuilder, x: str, pyramid: Pyramid, name: str) -> list[str]:
    """The features of the chosen blocks."""
    features = []
    for block in range(2, max(pyramid.blocks) + 1):
        for number, unit in enumerate(pyramid.layer(block)):
            x = _residual_unit(builder, x, unit, f"{name}/conv{block}_{number + 1}")
        if block in pyramid.blocks:
            features.append(x)
    return features


def _residual_unit(builder: GraphBuilder, x: str, unit: nn.Module, name: str) -> str:
    """Torchvision's BasicBlock (two convolutions) or Bottleneck (three): the last one's ReLU follows the sum."""
    shortcut = x
    convolutions = list(_convolutions(unit))
    for number, conv in enumerate(convolutions):
        x = _convolution(builder, x, *conv, f"{name}/{number + 1}")
        if number < len(convolutions) - 1:
            x = builder.node("Relu", [x], f"{name}/{number + 1}/relu")
    if isinstance(unit.downsample, nn.Sequential):
        shortcut = _convolution(builder, shortcut, unit.downsample[0], unit.downsample[1], f"{name}/shortcut")
    total = builder.node("Add", [x, shortcut], f"{name}/add")
    return builder.node("Relu", [total], f"{name}/relu")


def _convolutions(unit: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    for number in (1, 2, 3):
        if hasattr(unit, f"conv{number}"):
            yield getattr(unit, f"conv{number}"), getattr(unit, f"bn{number}")


def _convolution(builder: GraphBuilder, x: str, conv: nn.Module, norm: nn.Module, name: str) -> str:
    assert isinstance(conv, nn.Conv2d), f"{name} is a convolution"
    assert isinstance(norm, nn.BatchNorm2d), f"{name} has a batch norm behind it"
    weights: ConvWeights = fold_batch_norm(conv, norm)
    return builder.convolution(x, weights, name, stride=conv.stride[0], padding=int(conv.padding[0]))


def _distance(builder: GraphBuilder, teacher: str, student: str, name: str) -> str:
    """The squared distance of the unit features, [N, h, w]; equation 1's half is in the upsampling.

    Not 2 - 2 cos, which is a difference of almost equal numbers: this is exactly 0 where student equals teacher.
    """
    units = []
    for features, whose in ((teacher, "teacher"), (student, "student")):
        length = builder.node("ReduceL2", [features], f"{name}/{whose}/length", axes=[1], keepdims=1)
        epsilon = builder.constant("head/epsilon", np.asarray(EPSILON, np.float32))
        length = builder.node("Max", [length, epsilon], f"{name}/{whose}/length_or_epsilon")
        units.append(builder.node("Div", [features, length], f"{name}/{whose}/unit"))
    difference = builder.node("Sub", units, f"{name}/difference")
    return builder.node("ReduceSumSquare", [difference], f"{name}/distance", axes=[1], keepdims=0)


def _anomaly_map(builder: GraphBuilder, distances: list[str], checkpoint: Checkpoint) -> None:
    """Equation 4 and its maximum: `anomaly_map` [N, H, W] and `score` [N]."""
    spec = checkpoint.spec
    product = ""
    for block, distance in zip(spec.blocks, distances, strict=True):
        name = f"head/block{block}"
        rows, columns = (_block_side(side, block) for side in (spec.height, spec.width))
        tall = builder.constant(f"{name}/rows", 0.5 * upsampling_matrix(spec.height, rows))
        wide = builder.constant(f"{name}/columns", upsampling_matrix(spec.width, columns).T)
        upsampled = builder.node("MatMul", [tall, distance], f"{name}/tall")
        is_last = block == spec.blocks[-1]
        name_here = "anomaly_map" if is_last and not product else f"{name}/map"
        upsampled = builder.node("MatMul", [upsampled, wide], name_here)
        if product:
            product = builder.node("Mul", [product, upsampled], "anomaly_map" if is_last else f"{name}/product")
        else:
            product = upsampled
    builder.node("ReduceMax", ["anomaly_map"], "score", axes=[1, 2], keepdims=0)


def _block_side(side: int, block: int) -> int:
    """A side of block b's maps: conv1, max-pooling and all blocks but conv2_x halve it, rounding up."""
    for _ in range(block):
        side = (side + 1) // 2
    return side
