"""Drift: the statistic against SciPy's, and an alarm that begins, ends, and changes no verdict."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from stfpm_runtime.line.config.line import DriftOptions
from stfpm_runtime.line.journal.rows import VerdictRow
from stfpm_runtime.line.observers.drift import DriftWatch, ks_p_value, ks_statistic

from .conftest import wait_until

RNG = np.random.default_rng(0)
HELD_OUT = tuple(float(value) for value in np.linspace(0.1, 0.4, 60))
GOOD = VerdictRow(1, "", 0, 1, "left", "frame", "", 0, "", "pass", 0.2, None, 0.5, "", "", 0, 0, 0, 0, 0)


@pytest.mark.parametrize(("n", "m"), [(20, 8), (200, 42), (50, 50), (1000, 300)])
@pytest.mark.parametrize("shift", [0.0, 0.3, 1.5])
def test_statistic_and_p_value_are_scipys(n, m, shift):
    first, second = RNG.normal(shift, 1, n).round(1), RNG.normal(0, 1, m).round(1)  # rounded: there are ties
    expected = stats.ks_2samp(first, second, method="asymp")
    statistic = ks_statistic(first, second)
    assert statistic == pytest.approx(expected.statistic, abs=1e-12)
    if n * m / (n + m) > 20:  # SciPy's asymptotic one is without the correction for small samples
        assert ks_p_value(statistic, n, m) == pytest.approx(expected.pvalue, rel=0.35, abs=0.02)


def test_p_value_is_calibrated():
    p_values = []
    for _ in range(2000):
        p_values.append(ks_p_value(ks_statistic(RNG.random(60), RNG.random(40)), 60, 40))
    for level in (0.5, 0.1, 0.01):
        assert np.mean(np.array(p_values) < level) <= 1.3 * level + 0.003
    assert ks_p_value(0.0, 10, 10) == 1.0
    assert ks_p_value(1.0, 500, 500) < 1e-100


def watch(window: int = 40, alarm: float = 1e-4, held_out=HELD_OUT) -> tuple[DriftWatch, list[str]]:
    said: list[str] = []
    watch = DriftWatch(DriftOptions(window, alarm), lambda kind, text: said.append(f"{kind} {text}"))
    watch.begin(held_out)
    return watch, said


def feed(watch: DriftWatch, scores, **changes) -> None:
    for score in scores:
        watch.update(dataclasses.replace(GOOD, score=float(score), **changes))


def test_alarm_begins_once_and_ends_once():
    drift, said = watch()
    feed(drift, RNG.uniform(0.1, 0.4, 200))
    assert said == []
    assert not drift.found["left", "frame"].alarm
    feed(drift, RNG.uniform(0.3, 0.5, 100))
    assert [text.partition(":")[0] for text in said] == ["drift alarm"]
    assert drift.found["left", "frame"].alarm
    feed(drift, RNG.uniform(0.1, 0.4, 100))
    assert [text.partition(":")[0] for text in said] == ["drift alarm", "drift over"]


def test_only_passed_parts_of_one_picture_count():
    drift, said = watch()
    feed(drift, [0.5] * 100, decision="reject")
    for _ in range(100):
        drift.update(GOOD, pictures=4)
        drift.update(dataclasses.replace(GOOD, decision="fault", score=None))
    assert drift.found == {}
    assert said == []


def test_held_out_scores_above_the_threshold_are_not_compared():
    drift, said = watch(held_out=(*HELD_OUT, *[0.9] * 100))
    feed(drift, RNG.uniform(0.1, 0.4, 200))
    assert drift.found["left", "frame"].held_out == len(HELD_OUT)
    assert said == []


def test_too_few_held_out_scores_are_not_compared():
    drift, _ = watch(held_out=HELD_OUT[:5])
    feed(drift, [0.5] * 100)
    assert drift.found == {}


def test_each_place_has_its_window_and_a_new_model_empties_it():
    drift, said = watch()
    feed(drift, [0.45] * 40, camera="right")
    feed(drift, RNG.uniform(0.1, 0.4, 40))
    assert [place for place, found in drift.found.items() if found.alarm] == [("right", "frame")]
    assert len(said) == 1
    drift.begin(HELD_OUT)
    assert drift.found == {}
    assert said[1:] == ["drift over: right/frame: another model is used"]
    drift.begin(HELD_OUT)
    assert len(said) == 2


def test_alarm_ends_when_a_threshold_leaves_too_few_held_out_scores():
    drift, said = watch()
    feed(drift, [0.45] * 40)
    assert drift.found["left", "frame"].alarm
    feed(drift, [0.05] * 40, threshold=0.1)
    assert drift.found == {}
    assert said[1:] == ["drift over: left/frame: 1 held-out scores are below the threshold, too few to compare with"]


def test_alarm_in_a_line_is_journalled_and_rejects_nothing(run_line, make_options, journal):
    line = run_line(
        make_options(drift=DriftOptions(20)),
        spec={"held_out_scores": HELD_OUT},
        left={"paint": lambda index: np.full((16, 32, 3), 120, np.uint8), "fps": 200.0},
    )
    wait_until(lambda: any(event.kind == "drift" for event in journal.events()))
    assert {verdict.decision for verdict in line.finish()} == {"pass"}
    began, ended = [event.detail for event in journal.events() if event.kind == "drift"]
    assert began.startswith("alarm: left/frame: scores of the last 20 passed parts are unlike the held-out ones")
    assert ended == "over: left/frame: the line stopped"


def test_the_lamp_is_named_where_pictures_are_brighter_or_darker():
    drift, said = watch(held_out=())
    drift.begin(HELD_OUT, trained=(100.0, 1.0))
    scores = iter(np.tile(HELD_OUT, 20))

    def show(grey: int) -> tuple[str, bool]:
        for _ in range(80):
            drift.update(dataclasses.replace(GOOD, score=float(next(scores))), 1, np.full((32, 32, 3), grey, np.uint8))
        return drift.found["left", "frame"].light, drift.found["left", "frame"].alarm

    assert show(104) == ("same", False)
    assert show(106) == ("brighter", True)
    assert show(105) == ("brighter", True)  # it ends where the change is clearly less
    assert show(103) == ("same", False)
    assert show(80) == ("darker", True)
    assert [text.split(": ", 2)[0] for text in said] == ["drift alarm", "drift over", "drift alarm"]
    assert said[0].endswith(
        "parts are brighter than at training (mean grey level 105.2, at training 100.0); check the lamp"
    ), said[0]
    drift.begin(HELD_OUT)
    show(80)
    assert drift.found["left", "frame"].light == ""  # a model of before, without grey levels


@pytest.mark.parametrize("levels", [None, [1.0], [1.0, "2"], "ab", [1.0, float("nan")]])
def test_grey_levels_that_make_no_sense_are_none(make_spec, levels):
    assert make_spec(training={"grey_levels": levels}).grey_levels is None


def test_scores_of_other_students_raise_no_alarm(make_spec):
    drift, said = watch()
    spec = make_spec(held_out_scores=HELD_OUT, folds=4)
    drift.use_model(SimpleNamespace(spec=spec, sha256="a"))
    feed(drift, [0.05] * 100)
    assert drift.found == {}
    assert said == ["drift is not watched: the model was calibrated by folds and has no scores of its own"]
    drift.use_model(SimpleNamespace(spec=dataclasses.replace(spec, folds=0), sha256=""))
    feed(drift, [0.05] * 100)
    assert drift.found["left", "frame"].alarm
