"""The binomial distribution: what a number of rejected or missed parts says about their rate."""

from __future__ import annotations

import math
from collections.abc import Callable

STEPS = 60
"""So many halvings of the interval from 0 to 1 give a rate to the precision of a double."""


def probability_at_most(k: int, n: int, rate: float) -> float:
    """Return the probability that of n parts at most k are found, each with the probability `rate`, 0 to 1."""
    if k >= n or rate <= 0:
        return 1.0
    if rate >= 1:
        return 0.0
    logs = (
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
        + i * math.log(rate) + (n - i) * math.log1p(-rate)
        for i in range(k + 1)
    )  # fmt: skip
    return min(math.fsum(map(math.exp, logs)), 1.0)


def binomial_quantile(probability: float, n: int, rate: float) -> int:
    """Return the smallest k for which at most k of n parts are found with at least this probability, 0 to 1."""
    return next(k for k in range(n + 1) if probability_at_most(k, n, rate) >= probability or k == n)


def rate_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of Clopper and Pearson (Biometrika 26, 1934) of the rate, where k of n parts were found.

    Without parts it is 0 to 1.
    """
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else _solve(lambda rate: 1 - probability_at_most(k - 1, n, rate) < tail)
    high = 1.0 if k == n else _solve(lambda rate: probability_at_most(k, n, rate) > tail)
    return low, high


def highest_rate(k: int, n: int, confidence: float = 0.95) -> float:
    """Return the rate, 0 to 1, that k of n parts prove not to be exceeded (Clopper-Pearson, one-sided)."""
    return rate_interval(k, n, 2 * confidence - 1)[1]


def parts_to_prove(rate: float, k: int = 0, confidence: float = 0.95) -> int:
    """Return the fewest parts that prove a rate, above 0, not to be exceeded where k of them are found."""
    low, high = k, 2 * k + 2  # k of k parts prove nothing
    while probability_at_most(k, high, rate) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if probability_at_most(k, middle, rate) <= 1 - confidence else (middle, high)
    return high


def plan_proof(rate: float, true_rate: float, power: float = 0.8) -> tuple[int, int]:
    """Return n and k: n parts prove `rate` with 95% confidence where up to k are found.

    It is the smallest n by which a true rate, below `rate`, succeeds with the probability `power`.
    """
    k = 0
    while probability_at_most(k, n := parts_to_prove(rate, k), true_rate) < power:
        k += 1
    return n, k


def _solve(is_below: Callable[[float], bool]) -> float:
    """Return the rate up to which the condition holds."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2
