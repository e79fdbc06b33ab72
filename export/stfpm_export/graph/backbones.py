"""Teacher, student, normalisation, head and maximum as the one ONNX graph of the artifact.

    image uint8 [N, H, W, 3] ─ planes [N, 4, H, W] ─ conv1 of both ─┬─ teacher's blocks ─┬─ head ─ anomaly_map
                                                                            └─ student's blocks ─┘            └─ score

A student that shares the teacher's conv2_x branches off behind it; everything before is then the teacher's alone.

Written node by node, from operators that every engine has: nothing in it depends on how an exporter traces PyTorch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
from torch import nn

from stfpm_edge.checkpoint import Checkpoint
from stfpm_edge.networks import Pyramid
from stfpm_export.target import Target
from stfpm_runtime.artifact.spec import METADATA_KEY

from .builder import FLOAT, UINT8, GraphBuilder, value_info
from .folding import fold_batch_norm, fold_normalisation, merge_convolutions
from .head import HeadWriter
from .precision import Float32

BATCH = "N"


def build_graph(
    checkpoint: Checkpoint,
    arithmetic: Float32 | None = None,
    target: Target = "cpu",
    batch: int | None = None,
) -> onnx.ModelProto:
    """Return the fused graph of a checkpoint, by default in float32, with its Spec in the metadata.

    `batch` is the number of frames that it takes at a time; None leaves it free.
    """
    spec = checkpoint.spec
    arithmetic = arithmetic or Float32()
    builder = GraphBuilder(arithmetic.opset)
    backbones = Backbones(builder, arithmetic, target, spec.height, spec.width)
    teacher, student = backbones.pyramids(checkpoint)
    widths = [checkpoint.teacher.width(block) for block in spec.blocks]
    HeadWriter(builder, spec, checkpoint.head, target, arithmetic.features_are_integers).write(teacher, student, widths)
    height, width, n = spec.height, spec.width, BATCH if batch is None else batch
    spec = dataclasses.replace(
        spec, precision=arithmetic.precision, pairs_fit_int16=arithmetic.pairs_fit_int16, target=target, batch=batch
    )
    return builder.model(
        [value_info("image", UINT8, [n, height, width, 3])],
        [value_info("anomaly_map", FLOAT, [n, height, width]), value_info("score", FLOAT, [n])],
        {METADATA_KEY: spec.to_json()},
    )


@dataclass(frozen=True)
class Backbones:
    """Writes teacher and student."""

    builder: GraphBuilder
    arithmetic: Float32
    target: Target
    height: int
    width: int

    def pyramids(self, checkpoint: Checkpoint) -> list[list[str]]:
        """Write both pyramids; return the features of the chosen blocks: the teacher's, the student's."""
        teacher, student = checkpoint.teacher, checkpoint.student
        with_stem = [pyramid for pyramid in (teacher, student) if not pyramid.lower]
        stems = self.stems(self.planes(), with_stem, checkpoint.spec.channel_order)
        blocks, features = self._pyramid(stems[0], teacher, "teacher")
        start = blocks[2] if student.lower else stems[1]
        return [features, self._pyramid(start, student, "student")[1]]

    def planes(self) -> str:
        """Write the frame's three planes, 0 to 255, and a white one, [N, 4, H, W]. See `fold_normalisation`."""
        node, constant = self.builder.node, self.builder.constant
        image = self.arithmetic.image(self.builder)
        planes = node("Transpose", [image], "planes/colours", perm=[0, 3, 1, 2])
        brightest = constant("planes/255", np.asarray(255, self.arithmetic.image_type))
        if self.target == "cpu":  # ONNX Runtime pads slowly
            n = node("Shape", [image], "planes/n", start=0, end=1)
            plane = constant("planes/plane", np.asarray([1, self.height, self.width], np.int64))
            white = node("Expand", [brightest, node("Concat", [n, plane], "planes/shape", axis=0)], "planes/white")
            planes = node("Concat", [planes, white], "planes", axis=1)
        else:
            pads = constant("planes/pads", np.asarray([0, 0, 0, 0, 0, 1, 0, 0], np.int64))
            planes = node("Pad", [planes, pads, brightest], "planes", mode="constant")
        return self.arithmetic.planes(self.builder, planes)

    def stems(self, planes: str, pyramids: Sequence[Pyramid], channel_order: str) -> list[str]:
        """Write conv1 to max-pooling of one or both pyramids, [N, C_2, H/4, W/4] each, as one convolution."""
        node, builder = self.builder.node, self.builder
        activation = partial(self.arithmetic.activation, builder)
        rectified = partial(self.arithmetic.rectified, builder)
        each = [fold_normalisation(fold_batch_norm(pyramid.conv1, pyramid.bn1), channel_order) for pyramid in pyramids]
        merged = merge_convolutions(each)
        x = self.arithmetic.convolution(self.builder, planes, merged, "stem/conv1", stride=2, padding=3)
        x = rectified(x, "stem/relu")
        pooled = node("MaxPool", [x], "stem/maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        pooled = activation(pooled, like=x)
        if len(each) == 1:
            return [pooled]
        sizes = [len(conv.bias) for conv in each]
        parts = self.builder.split(pooled, ["teacher/stem", "student/stem"], sizes, axis=1)
        return [activation(part, like=x) for part in parts]

    def _pyramid(self, x: str, pyramid: Pyramid, name: str) -> tuple[dict[int, str], list[str]]:
        """Write one pyramid; return the result of each block, and the features of the chosen ones."""
        blocks, features = {}, []
        for block in pyramid.own_blocks():
            for number, unit in enumerate(pyramid.layer(block)):
                x = self._residual_unit(x, unit, f"{name}/conv{block}_{number + 1}")
            blocks[block] = x
            if block in pyramid.blocks:
                compared = x
                if pyramid.projections:
                    compared = self._projected(x, pyramid.projections[str(block)], f"{name}/conv{block}")
                features.append(self.arithmetic.features(self.builder, compared))
        return blocks, features

    def _projected(self, x: str, projection: nn.Module, name: str) -> str:
        """Write the 1x1 convolution of a narrow student's features to the teacher's number of channels."""
        assert isinstance(projection, nn.Sequential), "a projection is a convolution, its batch norm and a ReLU"
        x = self._convolution(x, projection[0], projection[1], f"{name}/projection")
        return self.arithmetic.rectified(self.builder, x, f"{name}/relu")

    def _residual_unit(self, x: str, unit: nn.Module, name: str) -> str:
        """Write torchvision's BasicBlock (two convolutions) or Bottleneck (three); the last ReLU follows the sum."""
        node, builder = self.builder.node, self.builder
        activation = partial(self.arithmetic.activation, builder)
        rectified = partial(self.arithmetic.rectified, builder)
        start = x
        convolutions = list(_convolutions(unit))
        for number, conv in enumerate(convolutions, start=1):
            x = self._convolution(x, *conv, f"{name}/{number}")
            if number < len(convolutions):
                x = rectified(x, f"{name}/{number}/relu")
        x = self.arithmetic.residual_branch(self.builder, x)
        if isinstance(unit.downsample, nn.Sequential):
            shortcut = activation(self._convolution(start, unit.downsample[0], unit.downsample[1], f"{name}/shortcut"))
        else:
            shortcut = self.arithmetic.identity_shortcut(builder, start, f"{name}/shortcut")
        total = node("Add", [x, shortcut], f"{name}/add")
        return rectified(total, f"{name}/relu")

    def _convolution(self, x: str, conv: nn.Module, norm: nn.Module, name: str) -> str:
        assert isinstance(conv, nn.Conv2d), f"{name} is a convolution"
        assert isinstance(norm, nn.BatchNorm2d), f"{name} has a batch norm behind it"
        stride, padding = conv.stride[0], int(conv.padding[0])
        return self.arithmetic.convolution(self.builder, x, fold_batch_norm(conv, norm), name, stride, padding)


def _convolutions(unit: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    for number in (1, 2, 3):
        if hasattr(unit, f"conv{number}"):
            yield getattr(unit, f"conv{number}"), getattr(unit, f"bn{number}")
