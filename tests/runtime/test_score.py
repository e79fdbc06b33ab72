"""The relative score: 1 is the limit, and no number that is shown contradicts the decision."""

from __future__ import annotations

import numpy as np
import pytest

from stfpm_runtime.detector import Detector, Verdict
from stfpm_runtime.engines.fake import FakeEngine
from stfpm_runtime.imaging.overlay import caption
from stfpm_runtime.line.decide import apply_threshold
from stfpm_runtime.score import describe_score, format_score, relative_score

RNG = np.random.default_rng(0)
THRESHOLDS = [1.0, 0.1, 0.1 + 0.2, 1e-300, 5e-324, 1e300, *(10 ** RNG.uniform(-12, 12, 200)).tolist()]
"""Thresholds from very small to very large ones."""


def scores_around(threshold: float) -> list[float]:
    """Return scores at a threshold, next to it as 64-bit and as 32-bit floats, within 1% of it, and far from it."""
    near = [threshold, np.nextafter(threshold, 0), np.nextafter(threshold, np.inf)]
    near += [threshold * factor for factor in (0.994, 0.995, 0.9951, 0.996, 1.004, 1.0049, 1.005, 1.006)]
    single = np.float32(min(threshold, 1e38))
    near += [single, np.nextafter(single, np.float32(0)), np.nextafter(single, np.float32(np.inf))]
    far = [0.0, threshold / 3, min(threshold * 7, 1e308), 3e38]
    return [float(score) for score in (*near, *far, *threshold * RNG.uniform(0.98, 1.02, 50))]


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_decision_and_number_agree_at_and_around_the_threshold(threshold):
    for score in scores_around(threshold):
        verdict = apply_threshold(Verdict("pass", score, 0.5), threshold)
        assert verdict.decision == ("reject" if score > threshold else "pass")
        relative = relative_score(verdict.score, verdict.threshold)
        assert relative == pytest.approx(min(score / threshold, 3.4028235e38), rel=2e-7)
        word, number = caption(verdict.decision, verdict.score, verdict.threshold).split()
        assert (word == "REJECT") == (relative > 1) == (np.float32(relative) > 1)
        assert (word == "REJECT") == (float(number) >= 1.01) == (float(number) > 1.00)
        assert number.partition(".")[2].isdigit()
        assert len(number.partition(".")[2]) == 2


def test_verdicts_of_an_engine_agree_at_and_next_to_the_threshold(make_spec, paint):
    for threshold in RNG.uniform(1e-4, 1, 50):
        at = np.float32(threshold)
        for score in (np.nextafter(at, np.float32(0)), at, np.nextafter(at, np.float32(2))):
            engine = FakeEngine(make_spec(), lambda images, s=score: (np.full((1, 8, 16), s), np.full(1, s)))
            verdict = Detector(engine, float(threshold)).inspect(paint())
            shown = {"pass": "1.00", "reject": "1.01"}[verdict.decision]
            assert format_score(verdict.score, verdict.threshold) == shown


@pytest.mark.parametrize(
    ("score", "threshold"), [(None, 0.5), (0.5, None), (0.5, 0.0), (0.5, -1.0), (0.5, float("nan")), (np.inf, 0.5)]
)
def test_there_is_none_without_a_score_and_a_threshold_above_0(score, threshold):
    assert relative_score(score, threshold) is None


@pytest.mark.parametrize(
    ("score", "text"),
    [(0.0, "0.00"), (0.2, "0.40"), (0.4999, "1.00"), (0.5, "1.00"), (0.5001, "1.01"), (0.51, "1.02"), (50.0, "100.00")],
)
def test_numbers_for_people(score, text):
    assert format_score(score, 0.5) == text


def test_the_score_itself_is_shown_where_there_is_no_relative_score():
    assert format_score(0.03125, 0.0) == "score 0.03125"
    assert format_score(None, 0.5) == ""


def test_descriptions():
    assert describe_score(0.03125, 0.0125) == "2.50 (score 0.03125, threshold 0.0125)"
    assert describe_score(0.03125, 0.0) == "score 0.03125, threshold 0"
    assert describe_score(None, 0.5) == ""
