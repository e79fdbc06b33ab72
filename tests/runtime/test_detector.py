"""From a frame to a verdict; whatever is not judged is a fault, in its place."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from stfpm_runtime import Detector, open_engine
from stfpm_runtime.engines.fake import FakeEngine, failing, first_channel, not_a_number
from stfpm_runtime.errors import ArtifactError, EngineError, OptionError


def test_good_part_passes_and_defect_is_rejected_where_it_is(make_engine, paint):
    detector = Detector(make_engine())
    good, bad = detector.inspect(paint()), detector.inspect(paint(255))
    assert (good.decision, good.score, good.threshold, good.reason) == ("pass", 0.0, 0.5, "")
    assert (good.relative_score, bad.relative_score) == (0.0, 2.0)
    assert (bad.decision, bad.score, bad.threshold, bad.reason) == ("reject", 1.0, 0.5, "")
    expected = np.zeros((8, 16), np.float32)
    expected[:4, :8] = 1
    np.testing.assert_array_equal(bad.anomaly_map, expected)


def test_timings_are_of_this_frame(make_engine, paint):
    timings = Detector(make_engine()).inspect(paint()).timings
    assert 0 < timings.preprocess_ms < 1000
    assert 0 < timings.infer_ms < 1000
    assert timings.latency_ms == timings.preprocess_ms + timings.infer_ms


def test_frames_of_a_batch_share_its_time(make_spec, paint):
    def slow(images):
        time.sleep(0.05)
        return first_channel(images)

    started = time.perf_counter()
    verdicts = Detector(FakeEngine(make_spec(), slow)).inspect_batch([paint()] * 4)
    assert 50 <= sum(verdict.timings.infer_ms for verdict in verdicts) <= 1e3 * (time.perf_counter() - started)


@pytest.mark.parametrize(("threshold", "decision"), [(1.0, "pass"), (np.nextafter(1.0, 0), "reject"), (1.5, "pass")])
def test_score_at_the_threshold_passes_and_above_it_does_not(make_engine, paint, threshold, decision):
    assert Detector(make_engine(), threshold).inspect(paint(255)).decision == decision


def test_given_threshold_replaces_that_of_the_model(make_engine, paint):
    verdict = Detector(make_engine(threshold=0.5), threshold=0.1).inspect(paint(51))
    assert (verdict.decision, verdict.threshold) == ("reject", 0.1)


@pytest.mark.parametrize(("order", "decision"), [("BGR", "reject"), ("RGB", "pass")])
def test_frames_are_bgr_and_turned_round_for_an_rgb_model(make_engine, paint, order, decision):
    """The model looks at its first channel: blue for BGR, red for RGB. The picture's patch is blue."""
    detector = Detector(make_engine(channel_order=order))
    assert detector.inspect(paint(255)).decision == decision
    red = np.ascontiguousarray(paint(255)[..., ::-1])
    assert detector.inspect(red).decision == {"reject": "pass", "pass": "reject"}[decision]


@pytest.mark.parametrize("answer", [not_a_number, failing], ids=["nan", "failing"])
def test_engine_that_goes_wrong_gives_faults(make_spec, paint, answer):
    verdicts = Detector(FakeEngine(make_spec(), answer)).inspect_batch([paint(), paint(255)])
    assert [verdict.decision for verdict in verdicts] == ["fault", "fault"]
    for verdict in verdicts:
        assert verdict.score is None
        assert verdict.anomaly_map is None
        assert "nan" in verdict.reason or "told to fail" in verdict.reason


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["map", "score"])
def test_one_value_that_is_not_finite_makes_a_fault_of_its_frame_alone(make_spec, paint, where, value):
    def answer(images):
        maps, scores = first_channel(images)
        if where == "map":
            maps[1, 3, 3] = value
        else:
            scores[1] = value
        return maps, scores

    verdicts = Detector(FakeEngine(make_spec(), answer)).inspect_batch([paint(), paint(), paint(255)])
    assert [verdict.decision for verdict in verdicts] == ["pass", "fault", "reject"]
    assert verdicts[1].reason.startswith("the score is ")


def test_bad_frames_in_a_batch_are_faults_in_their_place(make_spec, paint):
    engine = FakeEngine(make_spec())
    frames = [np.zeros((9, 9, 2), np.uint8), paint(255), "missing.png", paint(), paint(255)]
    verdicts = Detector(engine).inspect_batch(frames)
    assert [verdict.decision for verdict in verdicts] == ["fault", "reject", "fault", "pass", "reject"]
    assert "got 2 channels" in verdicts[0].reason
    assert "missing.png: cannot be read" in verdicts[2].reason
    assert engine.batch_sizes == [3]


def test_batch_without_a_usable_frame_never_gets_to_the_engine(make_spec):
    engine = FakeEngine(make_spec(), failing)
    assert [verdict.decision for verdict in Detector(engine).inspect_batch([np.zeros((4, 4, 3), np.uint8)] * 2)] == [
        "fault",
        "fault",
    ]
    assert Detector(engine).inspect_batch([]) == []
    assert engine.batch_sizes == []


def test_bad_frame_keeps_its_own_reason_when_the_engine_fails_too(make_spec, paint):
    first, second = Detector(FakeEngine(make_spec(), failing)).inspect_batch([np.zeros((4, 4, 3), np.uint8), paint()])
    assert "got a picture of 4x4 pixels" in first.reason
    assert "told to fail" in second.reason


def test_batch_gives_what_single_frames_give(make_engine):
    frames = list(np.random.default_rng(0).integers(0, 256, (7, 19, 23, 3), dtype=np.uint8))
    detector = Detector(make_engine(), threshold=0.8)
    batch = detector.inspect_batch(frames)
    assert [verdict.score for verdict in batch] == [detector.inspect(frame).score for frame in frames]
    assert len({verdict.score for verdict in batch}) > 3  # the order is worth a test


@pytest.mark.parametrize(
    "frame", [np.zeros((9, 9), np.uint8), np.zeros((8, 8, 4), np.uint16), np.zeros((8, 9, 1), "u1")]
)
def test_grey_16_bit_and_alpha_are_judged(make_engine, frame):
    assert Detector(make_engine(bits=16)).inspect(frame).decision == "pass"


@pytest.mark.parametrize(
    "frame", [None, b"part.png", 3, [[1, 2]], np.zeros((9, 9, 3)), np.zeros((9, 9), np.int32), np.zeros((9, 9), bool)]
)
def test_what_is_no_picture_and_no_path_raises(make_spec, paint, frame):
    engine = FakeEngine(make_spec())
    with pytest.raises(TypeError, match=r"got a frame of type .*; expected"):
        Detector(engine).inspect(frame)
    with pytest.raises(TypeError, match=r"got a frame of type .*; expected"):
        Detector(engine).inspect_batch([paint(), frame])
    assert engine.batch_sizes == []


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_judged_as_its_pixels_are(make_engine, paint, write, tmp_path, kind):
    path = write(tmp_path / "part.png", paint(255))
    detector = Detector(make_engine())
    assert detector.inspect(kind(path)).score == detector.inspect(paint(255)).score == 1.0
    path.write_bytes(path.read_bytes()[:-20])
    torn = detector.inspect(kind(path))
    assert (torn.decision, torn.score) == ("fault", None)
    assert torn.reason.startswith(f"{path}: the file ends before")


def test_the_spec_s_bits_are_those_of_a_frame_and_of_a_file(make_engine, write, tmp_path):
    frame = np.zeros((32, 64), np.uint16)
    frame[:16, :32] = 0xFF0  # of 12 bits
    detector = Detector(make_engine(bits=12))
    assert detector.inspect(frame).score == detector.inspect(write(tmp_path / "part.png", frame)).score == 1.0
    assert "got a value of 4096; expected at most 4095" in detector.inspect(frame + np.uint16(16)).reason


def test_model_without_a_threshold_needs_one(make_spec):
    engine = FakeEngine(make_spec(threshold=None))
    with pytest.raises(ArtifactError, match="model bottle has no threshold; give one, or train it with held-out"):
        Detector(engine)
    assert Detector(engine, 0.0).threshold == 0.0


def test_model_of_another_resize_is_refused(make_spec):
    with pytest.raises(ArtifactError, match="trained with the resize 'area', this stfpm-edge has 'halve-linear-halve'"):
        Detector(FakeEngine(make_spec(resize="area")))


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_threshold_that_is_not_finite_is_refused(make_spec, threshold):
    with pytest.raises(OptionError, match=f"got a threshold of {threshold}; expected a finite number"):
        Detector(FakeEngine(make_spec()), threshold)


def test_a_detector_opens_a_model_by_its_path_and_closes_it(model, paint):
    with Detector(str(model)) as detector:
        assert detector.inspect(paint(255)).decision == "reject"
    assert detector.inspect(paint(0)).decision == "fault"  # closed
    with open_engine(model) as engine:
        assert Detector(engine).inspect(paint(0)).decision == "pass"
    with pytest.raises(EngineError, match="was closed"):
        engine.infer(np.zeros((1, 8, 16, 3), np.uint8))
