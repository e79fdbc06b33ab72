"""The head of the fused graph, float32 in every precision: from two pyramids of features to map and score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stfpm_edge.model import Head, blur_matrix
from stfpm_export.target import Target
from stfpm_runtime.artifact.map_score import CELL, top_count
from stfpm_runtime.artifact.spec import Spec

from .builder import FLOAT, Attribute, GraphBuilder
from .folding import upsampling_matrix

EPSILON = 1e-12
"""The shortest length that a feature is divided by, PyTorch's F.normalize's."""


@dataclass(frozen=True)
class HeadWriter:
    """Writes equations 1 to 4 of the paper, and what the head makes of the map."""

    builder: GraphBuilder
    spec: Spec
    head: Head
    target: Target
    features_are_integers: bool = False
    """If true, the head reads the uint8 values of the quantised features; else it reads float32 values."""

    def write(self, teacher: Sequence[str], student: Sequence[str], widths: Sequence[int]) -> None:
        """Write `anomaly_map` [N, H, W] and `score` [N] of each block's features float32 [N, C, h, w].

        They are uint8 where `features_are_integers`. `widths` is each block's C.
        """
        place = self._place_factor()
        is_only = len(self.spec.blocks) == 1 and not place
        factors = [
            self.upsampled(
                self.distance(one, other, width, block), block, "anomaly_map" if is_only else f"head/block{block}/map"
            )
            for block, one, other, width in zip(self.spec.blocks, teacher, student, widths, strict=True)
        ] + place
        product = factors[0]
        for number, factor in enumerate(factors[1:], start=2):
            name = "anomaly_map" if number == len(factors) else f"head/product{number}"
            product = self.builder.node("Mul", [product, factor], name)
        self._score()

    def _place_factor(self) -> list[str]:
        """Write 1 over what is usual at each place, [H, W]; nothing where the head has no such scale."""
        if self.head.place_scale is None:
            return []
        return [self.builder.constant("head/place", (1 / self.head.place_scale).numpy().astype(np.float32))]

    def _score(self) -> None:
        """Write the maximum of the map, or the mean of its highest cells; see `stfpm_edge.model.Head`."""
        node, constant = self.builder.node, self.builder.constant
        raw = "score" if self.head.score_scale == 1 else "head/raw_score"
        if self.head.top_share is None:
            self.builder.reduce("ReduceMax", "anomaly_map", raw, [1, 2], keepdims=0)
        else:
            height, width = self.spec.height, self.spec.width
            shape = constant("head/map_shape", np.asarray([0, 1, height, width], np.int64))
            plane = node("Reshape", ["anomaly_map", shape], "head/map")
            pads = [0, 0, -height % CELL, -width % CELL]
            cells = node("AveragePool", [plane], "head/cells", kernel_shape=[CELL] * 2, strides=[CELL] * 2, pads=pads,
                         count_include_pad=0)  # fmt: skip
            flat = node("Reshape", [cells, constant("head/flat", np.asarray([0, -1], np.int64))], "head/cell_row")
            count = top_count(self.head.top_share, -(-height // CELL) * -(-width // CELL))
            highest = self.builder.highest(flat, count, "head/highest")
            self.builder.reduce("ReduceMean", highest, raw, [1], keepdims=0)
        if raw != "score":
            node("Mul", [raw, constant("head/score_scale", np.asarray(self.head.score_scale, np.float32))], "score")

    def distance(self, teacher: str, student: str, width: int, block: int) -> str:
        """Write the squared distance of the unit features, [N, h, w]; equation 1's half is in the upsampling.

            |t/|t| - s/|s||^2  =  |t - s |t|/|s||^2 / |t|^2

        The right side takes one pass over the features less than the left. Unlike 2 - 2 cos, which is the same again,
        it is no difference of almost equal numbers where student and teacher agree, and exactly 0 where they are equal.
        """
        if self.features_are_integers:
            return self._distance_of_integers(teacher, student, width, block)
        name = f"head/block{block}"

        def node(operator: str, inputs: Sequence[str], what: str) -> str:
            return self.builder.node(operator, inputs, f"{name}/{what}")

        epsilon = self.builder.constant("head/epsilon", np.asarray(EPSILON, np.float32))
        teacher, student = (self._flat(features, width) for features in (teacher, student))
        lengths = []
        for features, whose in ((teacher, "teacher"), (student, "student")):
            norm = node("Sqrt", [self._sum_of_squares(features, width, f"{name}/{whose}")], f"{whose}_norm")
            lengths.append(node("Max", [norm, epsilon], f"{whose}_length"))
        alike = node("Mul", [student, node("Div", lengths, "ratio")], "student_of_teachers_length")
        difference = node("Sub", [teacher, alike], "difference")
        apart = self._sum_of_squares(difference, width, f"{name}/apart")
        distance = node("Div", [apart, node("Mul", [lengths[0]] * 2, "teacher_length_squared")], "distance")
        return self._as_map(distance, block)

    def _distance_of_integers(self, teacher: str, student: str, width: int, block: int) -> str:
        """Write the same of features that are uint8 integers of any scale.

            |t/|t| - s/|s||^2  =  min(t.t, 1) + min(s.s, 1) - 2 t.s / max(|t| |s|, 1)

        The sums of products are exact up to 256 channels, so that the difference is exact to 2e-7, far less than int8's
        own error. The channels come last, as in ONNX Runtime's int8 convolutions: sums along that axis are fast.
        """
        name, constant = f"head/block{block}", self.builder.constant

        def node(operator: str, inputs: Sequence[str], what: str, **attributes: Attribute) -> str:
            return self.builder.node(operator, inputs, f"{name}/{what}", **attributes)

        def values(features: str, whose: str) -> str:
            last = node("Transpose", [node("Cast", [features], f"{whose}/float", to=FLOAT)], whose, perm=[0, 2, 3, 1])
            shape = constant(f"head/{width}_last", np.asarray([0, -1, width], np.int64))
            return node("Reshape", [last, shape], f"{whose}/flat")

        t, s = values(teacher, "teacher"), values(student, "student")
        tt, ss = (self.builder.reduce("ReduceSumSquare", x, f"{x}/squares", [2], keepdims=0) for x in (t, s))
        axis = constant("head/last_axis", np.asarray([2], np.int64))
        ts = node("ReduceSum", [node("Mul", [t, s], "products"), axis], "product", keepdims=0)
        one = constant("head/one", np.asarray(1, np.float32))
        lengths = node("Add", [node("Min", [tt, one], "teacher_unit"), node("Min", [ss, one], "student_unit")], "units")
        length = node("Max", [node("Sqrt", [node("Mul", [tt, ss], "squares")], "both_lengths"), one], "length")
        cosine = node("Div", [ts, length], "cosine")
        return self._as_map(node("Sub", [node("Sub", [lengths, cosine], "less"), cosine], "distance"), block)

    def _as_map(self, distance: str, block: int) -> str:
        """Write [N, h, w] from what has as many values in another shape."""
        name = f"head/block{block}"
        shape = self.builder.constant(f"{name}/shape", np.asarray([0, *self.sides(block)], np.int64))
        return self.builder.node("Reshape", [distance, shape], f"{name}/distance_map")

    def _flat(self, features: str, width: int) -> str:
        """Flatten to [N, C, h w] for ONNX Runtime, as the matrix product of `_sum_of_squares` takes it."""
        if self.target != "cpu":
            return features
        shape = self.builder.constant(f"head/{width}_channels", np.asarray([0, width, -1], np.int64))
        return self.builder.node("Reshape", [features, shape], f"{features}/flat")

    def _sum_of_squares(self, x: str, width: int, name: str) -> str:
        """Sum the squares over the channels of [N, C, h, w]: [N, 1, h, w], or [N, 1, h w] where it is flat.

        ONNX Runtime's sums along an axis that is not the last are slow; a product with a row of ones is the same.
        """
        if self.target != "cpu":
            return self.builder.reduce("ReduceSumSquare", x, f"{name}/squares", [1], keepdims=1)
        square = self.builder.node("Mul", [x, x], f"{name}/square")
        ones = self.builder.constant(f"head/{width}_ones", np.ones((1, width), np.float32))
        return self.builder.node("MatMul", [ones, square], f"{name}/squares")

    def upsampled(self, distance: str, block: int, output: str) -> str:
        """Write a block's map in the input's size, [N, H, W], by two constant matrices."""
        name = f"head/block{block}"
        rows, columns = self.sides(block)
        tall = self.builder.constant(f"{name}/rows", 0.5 * self._smooth(upsampling_matrix(self.spec.height, rows)))
        wide = self.builder.constant(f"{name}/columns", self._smooth(upsampling_matrix(self.spec.width, columns)).T)
        upsampled = self.builder.node("MatMul", [tall, distance], f"{name}/tall")
        return self.builder.node("MatMul", [upsampled, wide], output)

    def _smooth(self, upsampling: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return an upsampling matrix [side, cells] that blurs as well."""
        if not self.head.blur:
            return upsampling
        sigma = self.head.blur * max(self.spec.height, self.spec.width)
        return np.asarray(blur_matrix(len(upsampling), sigma).numpy() @ upsampling, np.float32)

    def sides(self, block: int) -> tuple[int, int]:
        """Return (height, width) of block b's maps: conv1, max-pooling and all blocks but conv2_x halve, rounded up."""
        height, width = self.spec.height, self.spec.width
        for _ in range(block):
            height, width = (height + 1) // 2, (width + 1) // 2
        return height, width
