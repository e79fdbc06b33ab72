"""Debounce by hand, and p-values against counting."""

from __future__ import annotations

import numpy as np
import pytest

from stfpm_runtime.conformal import PValues, p_value
from stfpm_runtime.line.decision import Debounce

LETTERS = {"p": "pass", "r": "reject", "f": "fault"}


@pytest.mark.parametrize(
    ("wanted", "window", "frames", "decisions"),
    [
        (1, 1, "prfrp", "prfrp"),
        (2, 3, "prpprrpppp", "ppppprrppp"),  # an alarm from the second of three on, until one is left
        (2, 2, "rprrpp", "ppprpp"),
        (2, 3, "frp", "frr"),  # a fault counts as not passed, so the alarm stands
        (3, 3, "ffff", "ffff"),
        (3, 5, "rrpppr", "pppppp"),
    ],
)
def test_debounce(wanted, window, frames, decisions):
    debounce = Debounce(wanted, window)
    found = [debounce.decide(LETTERS[frame]) for frame in frames]
    assert "".join(decision[0] for decision, _ in found) == decisions
    for frame, (decision, reason) in zip(frames, found, strict=True):
        assert bool(reason) == (decision == "reject" or decision != LETTERS[frame])


def test_debounce_gives_its_reason():
    debounce = Debounce(2, 3)
    assert debounce.decide("reject") == (
        "pass",
        "debounced: 1 of the last 1 not passed, 2 make a reject",
    )


def test_debounce_names_the_verdicts_that_caused_it():
    debounce = Debounce(2, 3)
    found = [debounce.decide(frame, seq) for seq, frame in enumerate(("reject", "reject", "pass", "pass"), 11)]
    assert found == [
        ("pass", "debounced: 1 of the last 1 not passed (verdicts 11), 2 make a reject"),
        ("reject", "debounced: 2 of the last 2 not passed (verdicts 11, 12), 2 make a reject"),
        ("reject", "debounced: 2 of the last 3 not passed (verdicts 11, 12), 2 make a reject"),
        ("pass", ""),
    ]
    long = Debounce(2, 100)
    for seq in range(1, 51):
        _, reason = long.decide("reject", seq)
    assert "(verdicts ..., 43, 44, 45, 46, 47, 48, 49, 50)" in reason


def test_p_values_are_those_of_counting():
    rng = np.random.default_rng(0)
    held_out = rng.integers(0, 20, 50).astype(float).tolist()
    values = PValues(held_out)
    for score in np.arange(-1, 22, 0.5):
        assert values.of(score) == p_value(score, held_out)


def test_p_value_of_several_looks_is_bounded():
    values = PValues([1.0, 2.0, 3.0])
    assert values.of(9.0) == 1 / 4
    assert values.of(9.0, looks=3) == 3 / 4
    assert values.of(9.0, looks=10) == 1


def test_without_held_out_scores_there_is_no_p_value():
    assert PValues([]).of(1.0) is None
