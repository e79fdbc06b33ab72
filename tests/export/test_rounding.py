"""Weights as integers: they are rounded for what the convolutions read, and the sums of their products fit 16 bits."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from stfpm_export.graph.backbones import build_graph
from stfpm_export.graph.equalisation import equalise_stem
from stfpm_export.graph.int8 import Int8
from stfpm_export.graph.ranges import measure_inputs, measure_ranges
from stfpm_export.graph.rounding import (
    BLOCK,
    LARGEST_PAIR,
    InputStatistics,
    Rounder,
    largest_pair,
    quantise_weight,
    round_weight,
)
from stfpm_export.target import TARGETS
from tiny_model import make_images


@pytest.fixture(scope="module")
def inputs():
    """Correlated inputs, as pixels are, more than one block of them: float64 [5000, 36 * 9]."""
    random = np.random.default_rng(0)
    basis = random.normal(size=(6, 36 * 9))
    return random.normal(size=(5000, 6)) @ basis + 100 + random.normal(size=(5000, 36 * 9))


@pytest.mark.parametrize("pairs_fit", [True, False])
def test_rounding_for_the_inputs_changes_the_result_less_than_rounding_to_the_nearest(inputs, pairs_fit):
    weight = np.random.default_rng(1).normal(size=(8, 36, 3, 3)).astype(np.float32)
    assert weight[0].size > 2 * BLOCK
    exact = inputs @ weight.reshape(8, -1).T
    statistics = InputStatistics(inputs.mean(axis=0), np.cov(inputs.T, bias=True, dtype=np.float32))

    def error(rounded):
        product = inputs @ (rounded.values * rounded.scale.reshape(-1, 1, 1, 1)).reshape(8, -1).T
        return np.abs(product + rounded.shift - exact)

    nearest, better = quantise_weight(weight, pairs_fit), round_weight(weight, statistics, pairs_fit)
    assert better.values.dtype == np.int8
    assert error(better).mean() < 0.1 * error(nearest).mean()
    assert error(better).max() < error(nearest).max()
    assert (largest_pair(better.values).max() <= LARGEST_PAIR) == pairs_fit


def test_the_mean_result_stays(inputs):
    weight = np.random.default_rng(1).normal(size=(8, 36, 3, 3)).astype(np.float32)
    statistics = InputStatistics(inputs.mean(axis=0), np.cov(inputs.T, bias=True, dtype=np.float32))
    rounded = round_weight(weight, statistics)
    mean = (rounded.values * rounded.scale.reshape(-1, 1, 1, 1)).reshape(8, -1) @ statistics.mean
    np.testing.assert_allclose(mean + rounded.shift, weight.reshape(8, -1) @ statistics.mean, rtol=1e-4)


def test_inputs_that_never_vary_are_rounded_to_the_nearest():
    weight = np.random.default_rng(1).normal(size=(8, 4, 3, 3)).astype(np.float32)
    rounded = round_weight(weight, InputStatistics(np.zeros(36), np.zeros((36, 36), np.float32)))
    np.testing.assert_array_equal(rounded.values, quantise_weight(weight).values)


def test_the_inputs_are_those_that_the_convolutions_read(tiny, monkeypatch):
    monkeypatch.setattr("stfpm_export.graph.ranges.PLACES", 1024)  # all of the first convolution's
    images = make_images(2)
    _, factors = equalise_stem(tiny, measure_ranges(tiny, list(images)))
    measured = measure_inputs(tiny, list(images), factors)
    assert len(measured) == 31
    weight = np.random.default_rng(0).normal(size=(1, 4, 7, 7)).astype(np.float32)
    planes = [np.concatenate([i.transpose(2, 0, 1), np.full((1, 64, 64), 255)]).astype(np.float32) for i in images]
    values = torch.nn.functional.conv2d(
        torch.from_numpy(np.stack(planes)), torch.from_numpy(weight), stride=2, padding=3
    ).double()
    flat, pixels = weight.astype(np.float64).ravel(), measured["stem/conv1"]
    assert pixels.mean @ flat == pytest.approx(values.mean().item(), rel=1e-4)
    assert flat @ pixels.covariance @ flat == pytest.approx(values.var(correction=0).item(), rel=1e-3)


@pytest.fixture(scope="module")
def measured(tiny):
    """Pictures, and the ranges, factors and rounder of an int8 file for them."""
    images = make_images(6)
    ranges, factors = equalise_stem(tiny, measure_ranges(tiny, list(images)))
    return images, ranges, factors, Rounder(measure_inputs(tiny, list(images), factors))


@pytest.mark.parametrize("target", TARGETS)
def test_the_stem_is_nearer_to_the_float_one(tiny, measured, target):
    images, ranges, factors, rounder = measured
    exact = tensor(build_graph(tiny), "teacher/stem", images)
    plain = Int8(measure_ranges(tiny, list(images)), target)
    plain = tensor(build_graph(tiny, plain, target), "teacher/stem/values", images)
    better = tensor(build_graph(tiny, Int8(ranges, target, factors, rounder), target), "teacher/stem/values", images)
    better = better * factors["teacher/stem"].reshape(1, -1, 1, 1)
    assert np.abs(better - exact).mean() < 0.7 * np.abs(plain - exact).mean()


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_is_nearer_to_the_float_one(tiny, measured, target):
    images, ranges, factors, rounder = measured
    name = "student/conv4_1/relu"
    exact = tensor(build_graph(tiny), name, images)
    nearest = tensor(build_graph(tiny, Int8(ranges, target, factors), target), f"{name}/values", images)
    arithmetic = Int8(ranges, target, factors, rounder)
    better = tensor(build_graph(tiny, arithmetic, target), f"{name}/values", images)
    assert np.abs(better - exact).mean() < 0.95 * np.abs(nearest - exact).mean()


def tensor(model, name, images):
    """A tensor of a graph; of an int8 one what its integers mean."""
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return ort.InferenceSession(model.SerializeToString()).run([name], {"image": images})[0]
