"""The one parity rule: its limit, and what counts as a flip."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from stfpm_runtime.artifact.golden import Golden
from stfpm_runtime.artifact.parity import Parity, error_limit, measure_parity, require_parity
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.engines.fake import FakeEngine, not_a_number
from stfpm_runtime.errors import EngineError, ParityError

SPEC = Spec("bottle", 8, 8, "resnet18", (2,), "none", "0", threshold=0.5)
INT8 = dataclasses.replace(SPEC, precision="int8", parity={"map_max_error": 0.01})


def golden_of(*scores: float) -> Golden:
    """Return even images and what PyTorch might say of them: a map that is everywhere the score."""
    levels = np.round(np.array(scores) * 255).astype(np.uint8)
    images = np.repeat(levels, 192).reshape(-1, 8, 8, 3)
    exact = np.array(scores, np.float32)
    return Golden(images, np.repeat(exact, 64).reshape(-1, 8, 8), exact)


def parity_of(scores: list[float], error: float, spec: Spec = SPEC) -> Parity:
    """Return the parity of an engine whose results are the reference's plus an error."""
    golden = golden_of(*scores)

    def infer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        index = next(index for index, image in enumerate(golden.images) if (image == images[0]).all())
        return golden.maps[[index]] + np.float32(error), golden.scores[[index]] + np.float32(error)

    return measure_parity(infer, golden, spec)


def test_the_limit_is_the_tolerance_or_twice_what_the_export_found():
    assert error_limit(SPEC) == pytest.approx(1e-4)
    assert error_limit(dataclasses.replace(SPEC, threshold=0.001)) == pytest.approx(1e-5)
    assert error_limit(dataclasses.replace(SPEC, threshold=None)) == pytest.approx(1e-4)
    assert error_limit(INT8) == pytest.approx(0.02)
    assert error_limit(dataclasses.replace(INT8, parity={"map_max_error": 1e-6})) == pytest.approx(1e-4)


def test_a_float32_file_is_held_to_the_tolerance_whatever_its_export_found():
    assert error_limit(dataclasses.replace(INT8, precision="fp32")) == pytest.approx(1e-4)


def test_equal_results_are_parity():
    parity = parity_of([0.0, 0.5, 1.0], 0.0)
    assert parity.holds
    assert (parity.images, parity.map_max_error, parity.score_relative_error, parity.flipped) == (3, 0, 0, ())


def test_an_error_above_the_limit_is_named_with_both_numbers():
    parity = parity_of([0.2, 0.8], 0.025, INT8)
    assert not parity.holds
    assert parity.failures[0] == "its anomaly map is 0.025 away from PyTorch's on 2 images, expected at most 2.0e-02"
    assert parity.failures[1].startswith("its score is 0.025 away")
    assert parity_of([0.2, 0.8], 0.015, INT8).holds


def test_a_verdict_flips_where_the_score_is_clear_of_the_threshold():
    assert parity_of([0.2, 0.49, 0.8], 0.015, INT8).flipped == ()  # 0.505 is within 0.02 of 0.5
    assert parity_of([0.2, 0.49, 0.8], 0.04, INT8).flipped == (1,)


def test_each_verdict_follows_from_its_own_threshold():
    spec = dataclasses.replace(INT8, parity=INT8.parity | {"pytorch_threshold": 0.4})
    assert parity_of([0.45], 0.015, spec).flipped == (0,)  # PyTorch rejects it by 0.4, the file passes it by 0.5
    assert parity_of([0.45], 0.015, dataclasses.replace(spec, threshold=None)).flipped == ()


def test_results_that_are_not_finite_never_hold():
    parity = measure_parity(FakeEngine(SPEC, not_a_number).infer, golden_of(0.2, 0.8), SPEC)
    assert parity.failures == ("its results are not finite",)
    assert parity.flipped == (0,)


def test_lost_parity_is_an_error_with_the_remedy():
    engine = FakeEngine(SPEC)
    golden = golden_of(0.2)
    with pytest.raises(ParityError, match=r"m\.onnx: its anomaly map is .* away from PyTorch's on 1 images.*; export"):
        require_parity(engine.infer, dataclasses.replace(golden, maps=golden.maps + 1), SPEC, "m.onnx", "export it")


def test_images_that_do_not_fit_are_the_engines_error():
    with pytest.raises(EngineError, match="expected uint8"):
        measure_parity(FakeEngine(dataclasses.replace(SPEC, height=9)).infer, golden_of(0.2), SPEC)
