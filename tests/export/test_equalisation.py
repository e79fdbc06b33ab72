"""The stem of an int8 graph: factors of its channels change no result, and its weights are rounded for its pictures."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from stfpm_edge.networks import SMALL_STUDENTS, default_blocks
from stfpm_export.graph.backbones import build_graph
from stfpm_export.graph.equalisation import HEADROOM, LEAST, equalise_stem
from stfpm_export.graph.folding import ConvWeights
from stfpm_export.graph.int8 import InputStatistics, Int8, quantise_weight, round_weight
from stfpm_export.graph.precision import Float32
from stfpm_export.graph.ranges import measure_pixels, measure_ranges
from stfpm_export.target import TARGETS
from tiny_model import make_checkpoint, make_images


def results(model, images):
    return ort.InferenceSession(model.SerializeToString()).run(["anomaly_map", "score"], {"image": images})


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "resnet18_half", *SMALL_STUDENTS])
def test_equal_channels_leave_the_function_as_it_is(backbone):
    checkpoint, images = make_checkpoint(backbone, default_blocks(backbone)), make_images(3)
    _, factors = equalise_stem(checkpoint, measure_ranges(checkpoint, list(images)))
    maps, scores = results(build_graph(checkpoint, Float32(factors)), images)
    expected_maps, expected = (result.numpy() for result in checkpoint.model()(torch.from_numpy(images)))
    np.testing.assert_allclose(maps, expected_maps, atol=1e-4 * expected.max())
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert np.ptp(factors["stem/conv1"]) > 0  # else nothing was tested


def test_the_channels_of_the_stem_have_one_range_with_room_above_it(tiny):
    before = measure_ranges(tiny, list(make_images(3)))
    after, factors = equalise_stem(tiny, before)
    wide = factors["stem/conv1"] > LEAST
    assert wide.mean() > 0.5
    np.testing.assert_allclose(after["stem/relu"].high[wide], HEADROOM * before["stem/relu"].high.max(), rtol=1e-5)
    assert (after["stem/relu"].high <= HEADROOM * before["stem/relu"].high.max() * 1.00001).all()
    np.testing.assert_array_equal(
        np.concatenate([factors["teacher/stem"], factors["student/stem"]]), factors["stem/conv1"]
    )


def test_rounding_for_the_inputs_changes_the_result_less_than_rounding_to_the_nearest():
    random = np.random.default_rng(0)
    basis = random.normal(size=(6, 36))
    x = random.normal(size=(5000, 6)) @ basis + 100 + random.normal(size=(5000, 36))  # correlated, as pixels are
    weights = ConvWeights(random.normal(size=(8, 4, 3, 3)).astype(np.float32), np.zeros(8, np.float32))
    nearest, scale = quantise_weight(weights.weight)
    rounded, corrected = round_weight(weights, scale, InputStatistics(x.mean(axis=0), np.cov(x.T, bias=True)))
    exact = x @ weights.weight.reshape(8, -1).T

    def error(integers, bias):
        return np.abs(x @ (integers * scale.reshape(-1, 1, 1, 1)).reshape(8, -1).T + bias - exact)

    assert rounded.dtype == np.int8
    assert np.abs(rounded.astype(int) - nearest).max() >= 1
    assert error(rounded, corrected.bias).mean() < 0.1 * error(nearest, 0).mean()
    assert np.abs(error(rounded, corrected.bias)).max() < error(nearest, 0).max()
    np.testing.assert_array_equal(corrected.weight, weights.weight)


def test_pixels_are_those_that_the_first_convolution_reads():
    images = make_images(2)
    pixels = measure_pixels(images)
    weight = np.random.default_rng(0).normal(size=(1, 4, 7, 7)).astype(np.float32)
    planes = [np.concatenate([i.transpose(2, 0, 1), np.full((1, 64, 64), 255)]).astype(np.float32) for i in images]
    values = torch.nn.functional.conv2d(
        torch.from_numpy(np.stack(planes)), torch.from_numpy(weight), stride=2, padding=3
    ).double()
    flat = weight.astype(np.float64).ravel()
    assert pixels.mean @ flat == pytest.approx(values.mean().item(), rel=1e-4)
    assert flat @ pixels.covariance @ flat == pytest.approx(values.var(correction=0).item(), rel=1e-3)


@pytest.mark.parametrize("target", TARGETS)
def test_the_stem_is_nearer_to_the_float_one(tiny, target):
    images = make_images(6)
    ranges = measure_ranges(tiny, list(images))
    equal, factors = equalise_stem(tiny, ranges)
    exact = tensor(build_graph(tiny), "teacher/stem", images)
    plain = tensor(build_graph(tiny, Int8(ranges, target), target), "teacher/stem/values", images)
    arithmetic = Int8(equal, target, factors, measure_pixels(images))
    better = tensor(build_graph(tiny, arithmetic, target), "teacher/stem/values", images)
    better = better * factors["teacher/stem"].reshape(1, -1, 1, 1)
    assert np.abs(better - exact).mean() < 0.7 * np.abs(plain - exact).mean()


def tensor(model, name, images):
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return ort.InferenceSession(model.SerializeToString()).run([name], {"image": images})[0]
