"""Rewrites of the weights that leave the function alone: each is exact up to float32's rounding, and tested so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from stfpm_edge.model import IMAGENET_MEAN, IMAGENET_STD

Array = npt.NDArray[np.float32]


class ConvWeights(NamedTuple):
    """A convolution's weight float32 [C_out, C_in, k, k] and bias float32 [C_out]."""

    weight: Array
    bias: Array


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> ConvWeights:
    """Merge a convolution and the batch norm behind it (in evaluation mode) into one convolution with a bias.

    y = g (Wx + c - m) / sqrt(v + eps) + b, so W' = W g / sqrt(v + eps) and c' = (c - m) g / sqrt(v + eps) + b;
    worked out in float64.
    """
    with torch.no_grad():
        assert norm.running_mean is not None, "a ResNet's batch norm keeps statistics"
        assert norm.running_var is not None, "a ResNet's batch norm keeps statistics"
        mean, variance, gain, offset = (
            tensor.double() for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        scale = gain / torch.sqrt(variance + norm.eps)
        bias = -mean if conv.bias is None else conv.bias.double() - mean
        weight = conv.weight.double() * scale.view(-1, 1, 1, 1)
        return ConvWeights(weight.float().numpy(), (bias * scale + offset).float().numpy())


def fold_normalisation(conv: ConvWeights, channel_order: str) -> ConvWeights:
    """Return conv1 for four raw planes, the frame's three (0 to 255) and a white one (255), without normalisation.

    (x / 255 - mean) / std is linear in x and 1. The zeros that conv1 pads with fall on the white plane too, so a
    padded pixel still means a normalised 0, exactly. White is 255 and not 1 so that all four planes need weights of
    about the same size, and may share a scale in int8.
    """
    weight = conv.weight.astype(np.float64)
    std = np.asarray(IMAGENET_STD).reshape(1, 3, 1, 1)
    mean = np.asarray(IMAGENET_MEAN).reshape(1, 3, 1, 1)
    colours = weight / (255 * std)
    white = -(weight * mean / std).sum(axis=1, keepdims=True) / 255
    if channel_order == "BGR":
        colours = colours[:, ::-1]
    return ConvWeights(np.concatenate([colours, white], axis=1).astype(np.float32), conv.bias)


def merge_convolutions(each: Sequence[ConvWeights]) -> ConvWeights:
    """Merge convolutions of the same input into one; its outputs are the first's, then the second's and so on."""
    return ConvWeights(np.concatenate([conv.weight for conv in each]), np.concatenate([conv.bias for conv in each]))


def upsampling_matrix(size: int, small: int) -> Array:
    """Compute U float32 [size, small]: bilinear upsampling (half-pixel centres, edges repeated) of `small` values.

    A map M [h, w] is upsampled by U_h M U_w^T, the same as PyTorch's interpolate with align_corners=False.
    """
    centres = np.clip((np.arange(size) + 0.5) * small / size - 0.5, 0, small - 1)
    left = np.minimum(centres.astype(int), max(small - 2, 0))
    right = np.minimum(left + 1, small - 1)
    matrix = np.zeros((size, small))
    rows = np.arange(size)
    np.add.at(matrix, (rows, left), 1 - (centres - left))
    np.add.at(matrix, (rows, right), centres - left)
    return matrix.astype(np.float32)
