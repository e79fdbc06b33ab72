"""Weights as integers: scales by output channel, and a rounding that changes a convolution's result least.

Integers are -127 to 127. Those of a file for CPUs also keep to `LARGEST_PAIR`: x86 CPUs without VNNI add pairs of
products in 16 bits, and clip what does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

LARGEST = 127
"""The largest integer; -128 is left out, so that the integers are symmetric."""
LARGEST_PAIR = 128
"""The largest sum of two integers of an output channel, both above or both below 0: 255 times it fits into 16 bits.

Which weights make a pair depends on the engine, so that the limit holds for any two.
"""
DAMPING = 0.1
"""This share of the mean variance is added to each input's: good parts may hardly vary in some place."""
MIN_VARIANCE = 1e-9
BLOCK = 64
"""So many inputs are corrected together for the errors of those before them, which only saves time."""


class InputStatistics(NamedTuple):
    """What a convolution's weight [C_out, K] is multiplied with."""

    mean: npt.NDArray[np.float64]
    """[K]."""
    covariance: npt.NDArray[np.float32]
    """[K, K]."""


class RoundedWeight(NamedTuple):
    """A convolution's weight as int8 [C_out, C_in, k, k] times a scale float32 [C_out]."""

    values: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]
    shift: npt.NDArray[np.float64]
    """What the mean result lost, [C_out]: the bias makes up for it."""


class Rounder:
    """Rounds the weights of convolutions for what they read, once for all files that round them alike."""

    def __init__(self, inputs: Mapping[str, InputStatistics]) -> None:
        """Take what convolutions read, by their names; weights of others are rounded to the nearest integers."""
        self._inputs = inputs
        self._rounded: dict[tuple[str, bool], RoundedWeight] = {}

    def round(self, name: str, weight: npt.NDArray[np.float32], pairs_fit: bool) -> RoundedWeight:
        """Return the integers of a convolution's weight float32 [C_out, C_in, k, k]."""
        if name not in self._inputs:
            return quantise_weight(weight, pairs_fit)
        if (name, pairs_fit) not in self._rounded:
            self._rounded[name, pairs_fit] = round_weight(weight, self._inputs[name], pairs_fit)
        return self._rounded[name, pairs_fit]


def quantise_weight(weight: npt.NDArray[np.float32], pairs_fit: bool = True) -> RoundedWeight:
    """Round a weight float32 [C_out, C_in, k, k] to the nearest integers."""
    largest = np.abs(weight).max(axis=(1, 2, 3)) / LARGEST
    if pairs_fit:
        largest = np.maximum(largest, largest_pair(weight) / LARGEST_PAIR)
    scale = np.maximum(largest, 1e-12).astype(np.float32)
    values = np.rint(weight / scale.reshape(-1, 1, 1, 1)).clip(-LARGEST, LARGEST).astype(np.int8)
    return RoundedWeight(values, scale, np.zeros(len(scale)))


def largest_pair(weight: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the largest sum of two weights of one sign, without the sign, of each output channel [C_out]."""
    ordered = np.sort(weight.reshape(len(weight), -1).astype(np.float64), axis=1)
    above, below = ordered[:, -2:].clip(min=0), ordered[:, :2].clip(max=0)
    return np.asarray(np.maximum(above.sum(axis=1), -below.sum(axis=1)))


def round_weight(weight: npt.NDArray[np.float32], inputs: InputStatistics, pairs_fit: bool = True) -> RoundedWeight:
    """Round a weight float32 [C_out, C_in, k, k] so that the convolution's result changes least for such inputs.

    After GPTQ (Frantar et al., ICLR 2023): one input after the other is rounded, and the weights of those that are left
    make up for its error as far as the inputs are correlated. The scale of a channel grows until its integers fit.
    """
    scale = quantise_weight(weight, pairs_fit).scale
    rows, covariance = weight.reshape(len(scale), -1), inputs.covariance.copy()
    variances = np.einsum("ii->i", covariance)  # a view of the diagonal
    variances += max(DAMPING * float(variances.mean()), MIN_VARIANCE)
    order = np.argsort(-variances, kind="stable")
    feedback = _feedback(covariance[np.ix_(order, order)])
    rounded, too_large = np.zeros_like(rows), np.ones(len(scale), np.bool_)
    while too_large.any():
        exact = rows[too_large] / scale[too_large, np.newaxis]
        rounded[np.ix_(too_large, order)] = _round_inputs(np.ascontiguousarray(exact.T[order]), feedback).T
        excess = largest_pair(rounded) / LARGEST_PAIR
        too_large = (excess > 1) & pairs_fit
        scale[too_large] *= excess[too_large].astype(np.float32)
    lost = rows / scale[:, np.newaxis] - rounded
    return RoundedWeight(rounded.astype(np.int8).reshape(weight.shape), scale, scale * (lost @ inputs.mean))


def _feedback(covariance: Matrix) -> Matrix:
    """Return U of covariance = U D U^T, [K, K]: upper triangular, with ones on its diagonal.

    For errors e of the weights, the squared error of the result is the sum over k of
    D_k (e_k + sum over j < k of e_j U_jk)^2. So each weight is corrected by what U gives of the errors before it, and
    then rounded. Chee et al. (QuIP, NeurIPS 2023) show that this is GPTQ's result; it needs no inverse.
    """
    lower = np.linalg.cholesky(covariance[::-1, ::-1])
    return np.ascontiguousarray((lower / np.diagonal(lower))[::-1, ::-1])


def _round_inputs(exact: Matrix, feedback: Matrix) -> Matrix:
    """Round the weights [K, C_out] of one input after the other, see `_feedback`."""
    rounded, errors = np.zeros_like(exact), np.zeros_like(exact)
    for start in range(0, len(exact), BLOCK):
        block = slice(start, min(start + BLOCK, len(exact)))
        corrected = exact[block] + feedback[:start, block].T @ errors[:start]
        for number, row in enumerate(corrected, start=start):
            row += feedback[start:number, number] @ errors[start:number]
            np.rint(row, out=rounded[number])
            np.minimum(np.maximum(rounded[number], -LARGEST, out=rounded[number]), LARGEST, out=rounded[number])
            np.subtract(exact[number], rounded[number], out=errors[number])
    return rounded
