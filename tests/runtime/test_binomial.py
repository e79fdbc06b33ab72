from __future__ import annotations

import pytest
from scipy.stats import binom, binomtest

from stfpm_runtime.binomial import binomial_quantile, probability_at_most, rate_interval


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 50), (3, 20), (20, 20), (17, 1000), (4999, 10_000)])
def test_it_agrees_with_scipy(k, n):
    for rate in (1e-4, 0.05, 0.5, 0.97):
        assert probability_at_most(k, n, rate) == pytest.approx(binom.cdf(k, n, rate), abs=1e-9)
    exact = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert rate_interval(k, n) == pytest.approx((exact.low, exact.high), abs=1e-6)


def test_the_ends_of_the_range():
    assert [probability_at_most(1, 5, rate) for rate in (0.0, 1.0)] == [1.0, 0.0]
    assert rate_interval(0, 0) == (0.0, 1.0)
    assert [binomial_quantile(0.975, n, 0.05) for n in (0, 1, 20, 100)] == [0, 1, 3, 10]
    assert binomial_quantile(0.975, 1000, 0.01) == binom.ppf(0.975, 1000, 0.01)
