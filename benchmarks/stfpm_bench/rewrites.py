"""The graph without one of its rewrites: the same function, written as a textbook would. For measuring them, only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stfpm_edge.backbone import Pyramid
from stfpm_edge.stfpm import IMAGENET_MEAN, IMAGENET_STD
from stfpm_export.folding import fold_batch_norm, fold_normalisation
from stfpm_export.fused_graph import Backbones
from stfpm_export.graph_builder import FLOAT
from stfpm_export.head import Head


class SeparateStems(Backbones):
    """Teacher and student each with a conv1 of its own."""

    def stems(self, planes: str, pyramids: Sequence[Pyramid], channel_order: str) -> list[str]:
        """See Backbones."""
        stems = []
        for name, pyramid in zip(("teacher", "student"), pyramids, strict=True):
            weights = fold_normalisation(fold_batch_norm(pyramid.conv1, pyramid.bn1), channel_order)
            x = self.arithmetic.convolution(self.builder, planes, weights, f"{name}/conv1", stride=2, padding=3)
            x = self.arithmetic.rectified(self.builder, x, f"{name}/conv1/relu")
            pooled = self.builder.node(
                "MaxPool", [x], f"{name}/maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
            )
            stems.append(self.arithmetic.activation(self.builder, pooled, like=x))
        return stems


class SeparateNormalisation(SeparateStems):
    """The frame is normalised before conv1, in float32, and conv1 takes three planes."""

    def planes(self) -> str:
        """Normalised RGB planes [N, 3, H, W]."""
        node, constant = self.builder.node, self.builder.constant
        values = node("Cast", ["image"], "planes/float", to=FLOAT)
        planes = node("Transpose", [values], "planes/colours", perm=[0, 3, 1, 2])
        order = slice(None, None, -1)
        scale = 1 / (255 * np.asarray(IMAGENET_STD, np.float32)).reshape(1, 3, 1, 1)[:, order]
        shift = (np.asarray(IMAGENET_MEAN) / np.asarray(IMAGENET_STD)).astype(np.float32).reshape(1, 3, 1, 1)[:, order]
        scaled = node("Mul", [planes, constant("planes/scale", scale.astype(np.float32))], "planes/scaled")
        normalised = node("Sub", [scaled, constant("planes/shift", shift)], "planes/normalised")
        return self.arithmetic.activation(self.builder, normalised)

    def stems(self, planes: str, pyramids: Sequence[Pyramid], channel_order: str) -> list[str]:
        """See Backbones; the weights stay as they are but for the order of their channels."""
        assert channel_order == "BGR", "what our checkpoints are"
        stems = []
        for name, pyramid in zip(("teacher", "student"), pyramids, strict=True):
            weights = fold_batch_norm(pyramid.conv1, pyramid.bn1)
            weights = weights._replace(weight=np.ascontiguousarray(weights.weight[:, ::-1]))
            x = self.arithmetic.convolution(self.builder, planes, weights, f"{name}/conv1", stride=2, padding=3)
            x = self.arithmetic.rectified(self.builder, x, f"{name}/conv1/relu")
            pooled = self.builder.node(
                "MaxPool", [x], f"{name}/maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
            )
            stems.append(self.arithmetic.activation(self.builder, pooled, like=x))
        return stems


class ResizeHead(Head):
    """Maps are enlarged by the operator for it."""

    def upsampled(self, distance: str, block: int, *, first: bool) -> str:
        """See Head."""
        name = f"head/block{block}"
        node, constant = self.builder.node, self.builder.constant
        axis = constant("head/axis1", np.asarray([1], np.int64))
        plane = node("Unsqueeze", [distance, axis], f"{name}/plane")
        rows, columns = self.sides(block)
        scales = np.asarray([1, 1, self.spec.height / rows, self.spec.width / columns], np.float32)
        large = node(
            "Resize", [plane, "", constant(f"{name}/scales", scales)], f"{name}/large",
            mode="linear", coordinate_transformation_mode="half_pixel",
        )  # fmt: skip
        flat = node("Squeeze", [large, axis], f"{name}/flat_map")
        half = constant("head/half", np.asarray(0.5, np.float32))
        is_all = first and block == self.spec.blocks[-1]
        return node("Mul", [flat, half], "anomaly_map" if is_all else f"{name}/map")


class TextbookHead(Head):
    """Both features are normalised, then subtracted, squared and summed."""

    def distance(self, teacher: str, student: str, width: int, block: int) -> str:
        """See Head."""
        del width
        name, units = f"head/block{block}", []
        node, constant = self.builder.node, self.builder.constant
        epsilon = constant("head/epsilon", np.asarray(1e-12, np.float32))
        for number, features in enumerate((teacher, student)):
            norm = node("ReduceL2", [features], f"{name}/norm_{number}", axes=[1], keepdims=1)
            length = node("Max", [norm, epsilon], f"{name}/length_{number}")
            units.append(node("Div", [features, length], f"{name}/unit_{number}"))
        difference = node("Sub", units, f"{name}/difference")
        return node("ReduceSumSquare", [difference], f"{name}/distance", axes=[1], keepdims=0)


REWRITES: dict[str, tuple[type[Backbones], type[Head]]] = {
    "all rewrites": (Backbones, Head),
    "conv1 not merged": (SeparateStems, Head),
    "normalisation not folded, conv1 not merged": (SeparateNormalisation, Head),
    "upsampling by Resize": (Backbones, ResizeHead),
    "textbook distance": (Backbones, TextbookHead),
}
"""How the graph is written, by name; all compute the same."""
