"""Statistics whose answers are known by construction."""

from __future__ import annotations

import numpy as np
import pytest

from stfpm_bench.stats import drift, estimate_percentiles, jitter, noise, quantiles


def steady(level: float, rounds: int = 60, deviation: float = 0.05, seed: int = 0) -> np.ndarray:
    """Latencies [rounds, 5] that are independent of each other."""
    return level + deviation * np.random.default_rng(seed).standard_normal((rounds, 5))


def test_what_is_always_the_same_is_known_exactly():
    for estimate in estimate_percentiles(np.full((20, 5), 7.0)).values():
        assert (estimate.value, estimate.low, estimate.high, estimate.width) == (7, 7, 7, 0)


def test_percentiles_are_those_of_all_frames():
    rounds = np.arange(1, 101, dtype=float).reshape(20, 5)
    found = estimate_percentiles(rounds)
    assert [found[which].value for which in (50, 90, 99)] == pytest.approx([50.5, 90.1, 99.01])


def test_interval_holds_the_true_median_about_as_often_as_it_says():
    held = 0
    for seed in range(100):
        estimate = estimate_percentiles(steady(10, rounds=40, seed=seed), resamples=300)[50]
        held += estimate.low <= 10 <= estimate.high
    assert 88 <= held <= 100


def test_frames_of_a_round_that_resemble_each_other_count_as_one():
    """20 rounds of five equal frames know as much as 20 frames, not as 100."""
    levels = 10 + np.random.default_rng(1).standard_normal(20)
    together = np.repeat(levels[:, np.newaxis], 5, axis=1)
    alone = levels[:, np.newaxis]
    assert estimate_percentiles(together)[50].width == pytest.approx(estimate_percentiles(alone)[50].width, rel=0.2)


def test_jitter_is_the_mean_step_from_frame_to_frame():
    assert jitter(np.asarray([[10.0, 12, 10], [20, 20, 21]])) == pytest.approx((2 + 2 + 0 + 1) / 4)
    assert jitter(np.asarray([[10.0]])) == 0


def test_quantiles_run_from_the_fastest_to_the_slowest():
    found = quantiles(np.arange(101, dtype=float).reshape(-1, 1))
    assert found == list(range(101))


def test_a_quiet_machine_is_not_noisy():
    assert noise([("a", steady(10)), ("b", steady(30))], 0.02) == ()
    assert noise([("a", steady(10))], None) == ()


def test_busy_machine_is_named():
    (reason,) = noise([("a", steady(10))], 0.4)
    assert reason == "other programs used 40% of the processor, at most 15% is allowed"


def test_scattered_latencies_are_named_with_their_model():
    scattered = steady(10, rounds=10, deviation=4)
    (reason,) = [one for one in noise([("calm", steady(10)), ("wild", scattered)], 0.0) if "known to" in one]
    assert reason.startswith("wild: after 50 frames the p50 is known to ")


def test_drift_of_the_whole_machine_is_named_but_not_that_of_one_model_of_three():
    slower = np.linspace(10, 14, 60)[:, np.newaxis] + steady(0)
    assert drift(slower) == pytest.approx(0.25, abs=0.03)
    assert any("drifted by +2" in reason for reason in noise([("a", slower), ("b", slower)], 0.0))
    calm = [("b", steady(10)), ("c", steady(10))]
    assert not any("drifted" in reason for reason in noise([("a", slower), *calm], 0.0))
