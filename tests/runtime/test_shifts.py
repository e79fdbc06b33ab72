"""Shifts: which quarter hour belongs to which, also where a day has 23 or 25 hours."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import pytest

from stfpm_runtime.errors import OptionError
from stfpm_runtime.shifts import QUARTER_S, Shifts, parse_shifts


def quarter(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) // QUARTER_S


def test_a_shift_that_ends_on_the_next_day_belongs_to_the_day_it_began_on():
    shifts = Shifts()
    for moment, expected in (
        ("2026-11-24T05:45", ("2026-11-23", "night")),
        ("2026-11-24T06:00", ("2026-11-24", "early")),
        ("2026-11-24T13:45", ("2026-11-24", "early")),
        ("2026-11-24T14:00", ("2026-11-24", "late")),
        ("2026-11-24T23:45", ("2026-11-24", "night")),
        ("2026-11-25T00:00", ("2026-11-24", "night")),
    ):
        assert shifts.of(quarter(moment)) == expected, moment


@pytest.mark.parametrize(("day", "before", "hours"), [("2026-03-29", "2026-03-28", 7), ("2026-10-25", "2026-10-24", 9)])
def test_a_night_in_which_the_clocks_change_has_7_or_9_hours(in_berlin, day, before, hours):
    found = Counter(map(Shifts().of, range(quarter(f"{before}T22:00"), quarter(f"{day}T22:00"))))
    assert found == {(before, "night"): 4 * hours, (day, "early"): 32, (day, "late"): 32}


def test_a_shift_that_begins_in_the_hour_that_comes_twice_begins_once(in_berlin):
    shifts = parse_shifts("a=02:30,b=14:00")
    of_the_day = [shifts.of(number) for number in range(quarter("2026-10-25T02:00"), quarter("2026-10-25T04:00"))]
    assert of_the_day == [("2026-10-24", "b")] * 2 + [("2026-10-25", "a")] * 10


def test_one_shift_is_the_whole_day():
    shifts = parse_shifts("day=06:15")
    assert shifts.of(quarter("2026-11-24T06:00")) == ("2026-11-23", "day")
    assert shifts.of(quarter("2026-11-24T06:15")) == ("2026-11-24", "day")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("early=06:10", "early: got '06:10'; expected the begin on a quarter of an hour"),
        ("early=24:00", "got '24:00'"),
        ("early", "early: got ''; expected the begin"),
        ("", "got a shift named ''"),
        ("a b=06:00", "got a shift named 'a b'; expected up to 40 letters"),
        ("a=06:00,a=14:00", "expected names of shifts that differ"),
        ("a=06:00,b=06:00", "two shifts begin at the same time"),
    ],
)
def test_what_is_no_shift(text, message):
    with pytest.raises(OptionError) as caught:
        parse_shifts(text)
    assert message in str(caught.value)
