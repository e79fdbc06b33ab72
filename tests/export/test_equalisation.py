"""The stem of an int8 graph: factors of its channels change no result, and its channels have one range then."""

import numpy as np
import onnxruntime as ort
import pytest
import torch

from stfpm_edge.networks import SMALL_STUDENTS, default_blocks
from stfpm_export.graph.backbones import build_graph
from stfpm_export.graph.equalisation import HEADROOM, MIN_FACTOR, equalise_stem
from stfpm_export.graph.precision import Float32
from stfpm_export.graph.ranges import measure_ranges
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
    wide = factors["stem/conv1"] > MIN_FACTOR
    assert wide.mean() > 0.5
    np.testing.assert_allclose(after["stem/relu"].high[wide], HEADROOM * before["stem/relu"].high.max(), rtol=1e-5)
    assert (after["stem/relu"].high <= HEADROOM * before["stem/relu"].high.max() * 1.00001).all()
    np.testing.assert_array_equal(
        np.concatenate([factors["teacher/stem"], factors["student/stem"]]), factors["stem/conv1"]
    )
