"""The threshold's guarantee, by the book and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from stfpm_runtime.artifact.conformal import PValues, conformal_threshold
from stfpm_runtime.errors import DataError, OptionError


@pytest.mark.parametrize(
    ("count", "rate", "rank", "guaranteed"),
    [
        (99, 0.01, 99, 0.01),  # (n + 1) (1 - rate) is the integer 99, also in floating point
        (99, 0.05, 95, 0.05),
        (199, 0.01, 198, 0.01),
        (19, 0.7, 6, 0.7),  # where in floating point it comes out as 6.000000000000001
        (49, 0.94, 3, 0.94),
        (100, 0.05, 96, 5 / 101),
        (9, 0.1, 9, 0.1),
        (1, 0.5, 1, 0.5),
        (3, 0.99, 1, 0.75),  # never below the smallest score
    ],
)
def test_threshold_is_the_score_of_that_rank(count, rate, rank, guaranteed):
    scores = [float(score) for score in range(count, 0, -1)]
    threshold = conformal_threshold(scores, rate)
    assert threshold.value == rank
    assert threshold.guaranteed_rate == pytest.approx(guaranteed)
    assert threshold.meets_request
    assert threshold.requested_rate == rate


@pytest.mark.parametrize("count", [1, 10, 98])
def test_too_few_scores_give_the_largest_and_say_so(count):
    threshold = conformal_threshold(list(range(count)), 0.01)
    assert threshold.value == count - 1
    assert threshold.guaranteed_rate == pytest.approx(1 / (count + 1))
    assert not threshold.meets_request


@pytest.mark.parametrize("rate", [0.01, 0.07, 0.1, 0.29, 0.5])
@pytest.mark.parametrize("count", [99, 100, 1234])
def test_rank_is_the_lowest_that_keeps_the_rate(count, rate):
    threshold = conformal_threshold(list(range(1, count + 1)), rate)
    assert threshold.guaranteed_rate <= rate + 1e-12
    assert 1 - (threshold.value - 1) / (count + 1) > rate - 1e-12


@pytest.mark.parametrize(("count", "rate"), [(19, 0.1), (50, 0.05), (200, 0.02)])
def test_good_parts_are_rejected_as_often_as_guaranteed(count, rate):
    rng = np.random.default_rng(0)
    trials = rng.gamma(0.5, size=(20_000, count + 1))  # a heavy tail; the guarantee knows no distribution
    alarms = [trial[-1] > conformal_threshold(trial[:-1].tolist(), rate).value for trial in trials[:4000]]
    guaranteed = conformal_threshold(trials[0, :-1].tolist(), rate).guaranteed_rate
    three_sigma = 3 * (guaranteed * (1 - guaranteed) / len(alarms)) ** 0.5
    assert np.mean(alarms) == pytest.approx(guaranteed, abs=three_sigma)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, float("nan")])
def test_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(OptionError, match=f"a false-alarm rate of {rate} was asked for; expected one between 0 and 1"):
        conformal_threshold([1.0, 2.0], rate)


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("inf"), 1.0]])
def test_scores_that_cannot_be_ranked_are_refused(scores):
    with pytest.raises(DataError, match=f"{len(scores)} held-out scores, not all of them finite"):
        conformal_threshold(scores, 0.1)


@pytest.mark.parametrize(("score", "expected"), [(0.0, 1.0), (1.0, 1.0), (2.0, 0.75), (2.5, 0.5), (9.0, 0.25)])
def test_p_value_counts_the_scores_at_least_this_high(score, expected):
    assert PValues([1.0, 2.0, 3.0]).of(score) == expected


def test_p_value_of_what_the_threshold_rejects_is_at_most_the_rate():
    scores = list(np.random.default_rng(1).gamma(0.5, size=99))
    threshold = conformal_threshold(scores, 0.05)
    assert PValues(scores).of(threshold.value) > 0.05
    assert PValues(scores).of(np.nextafter(threshold.value, np.inf)) <= 0.05
