"""Debounce by hand, and p-values against counting."""

from __future__ import annotations

import numpy as np
import pytest

from stfpm_runtime.artifact.conformal import PValues
from stfpm_runtime.line.debounce import Debounce

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
    found = [debounce.decide(LETTERS[frame], seq) for seq, frame in enumerate(frames, 1)]
    assert "".join(decision[0] for decision, _ in found) == decisions
    for frame, (decision, reason) in zip(frames, found, strict=True):
        assert reason or decision == LETTERS[frame]


def test_debounce_names_the_frames_that_its_decision_follows_from():
    debounce = Debounce(2, 3)
    assert debounce.decide("pass", 7) == ("pass", "")
    one = "debounced: 1 of the last 2 frames not passed (8); 2 make a reject"
    assert debounce.decide("reject", 8) == ("pass", one)
    two = "debounced: 2 of the last 3 frames not passed (8, 9); 2 make a reject"
    assert debounce.decide("reject", 9) == ("reject", two)
    assert debounce.decide("pass", 10) == ("reject", two)
    assert debounce.decide("fault", 11) == ("fault", "")


def test_p_values_are_those_of_counting():
    rng = np.random.default_rng(0)
    held_out = rng.integers(0, 20, 50).astype(float).tolist()
    values = PValues(held_out)
    for score in np.arange(-1, 22, 0.5):
        assert values.of(score) == (1 + sum(other >= score for other in held_out)) / (len(held_out) + 1)


def test_p_value_of_many_pictures_is_bounded():
    values = PValues([1.0, 2.0, 3.0])
    assert values.of(9.0) == 1 / 4
    assert values.of(9.0, looks=3) == 3 / 4
    assert values.of(9.0, looks=10) == 1


def test_without_held_out_scores_there_is_no_p_value():
    assert PValues([]).of(1.0) is None
