from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stfpm_edge.model import normalise_images
from stfpm_export.graph.folding import fold_batch_norm, fold_normalisation, merge_convolutions, upsampling_matrix


@pytest.fixture
def block():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(8)
    with torch.no_grad():
        for tensor in (norm.running_mean, norm.weight, norm.bias):
            tensor.copy_(torch.randn(8))
        norm.running_var.copy_(torch.rand(8) + 0.1)
    return conv, norm.eval()


def convolve(x, weights):
    return F.conv2d(x, torch.from_numpy(weights.weight), torch.from_numpy(weights.bias), stride=2, padding=3)


@pytest.mark.parametrize("has_bias", [False, True])
def test_batch_norm_folds_into_the_convolution(block, has_bias):
    conv, norm = block
    if has_bias:
        conv.bias = nn.Parameter(torch.randn(8))
    x = torch.randn(2, 3, 20, 20)
    torch.testing.assert_close(convolve(x, fold_batch_norm(conv, norm)), norm(conv(x)).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_normalisation_folds_into_conv1_borders_included(block, order):
    conv, norm = block
    frames = torch.randint(0, 256, (2, 20, 22, 3), dtype=torch.uint8)
    expected = norm(conv(normalise_images(frames, order))).detach()
    raw = frames.permute(0, 3, 1, 2).float()
    planes = torch.cat([raw, torch.full_like(raw[:, :1], 255)], dim=1)
    folded = convolve(planes, fold_normalisation(fold_batch_norm(conv, norm), order))
    torch.testing.assert_close(folded, expected, rtol=1e-4, atol=1e-4)
    assert (folded - expected)[..., 0, :].abs().max() < 1e-4  # the border, where a folded bias would be wrong


def test_two_convolutions_of_one_input_merge(block):
    conv, norm = block
    first = fold_batch_norm(conv, norm)
    second = first._replace(weight=2 * first.weight, bias=first.bias + 1)
    x = torch.randn(1, 3, 16, 16)
    merged = convolve(x, merge_convolutions([first, second]))
    torch.testing.assert_close(merged, torch.cat([convolve(x, first), convolve(x, second)], dim=1))


@pytest.mark.parametrize(
    ("size", "small"), [(256, 64), (256, 16), (100, 25), (33, 9), (7, 7), (5, 1), (224, 7), (90, 12)]
)
def test_upsampling_by_matrices_is_interpolate(size, small):
    maps = torch.rand(2, small, small + 3)
    expected = F.interpolate(maps.unsqueeze(1), (size, 2 * size), mode="bilinear", align_corners=False).squeeze(1)
    rows, columns = upsampling_matrix(size, small), upsampling_matrix(2 * size, small + 3)
    np.testing.assert_allclose(rows @ maps.numpy() @ columns.T, expected, atol=1e-6)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6)
