"""A threshold in the operator's hand: what it would have done, who set it, from which frame on it holds."""

from __future__ import annotations

import contextlib
import json
import sqlite3

import numpy as np
import pytest

from stfpm_runtime.errors import JournalError, MissingExtraError, OptionError
from stfpm_runtime.line.config.camera import CameraOptions, RegionOptions
from stfpm_runtime.line.decide import Thresholds
from stfpm_runtime.line.journal.command.cli import main
from stfpm_runtime.line.journal.threshold_changes import new_threshold_change, request_threshold, wait_for_result
from stfpm_runtime.line.journal.what_if import simulate_threshold

from .conftest import is_taken, wait_until


def levels(index: int) -> np.ndarray:
    """Scores of 0, 0.1, ... 0.9, again and again."""
    return np.full((16, 32, 3), round(255 * (index % 10) / 10), np.uint8)


@pytest.fixture
def line(run_line):
    return run_line(left={"paint": levels, "fps": 200.0})


def test_operators_threshold_is_used_before_the_innermost_configured_one():
    regions = (RegionOptions("cap"), RegionOptions("label", threshold=0.3))
    cameras = [CameraOptions("a", "0", region=regions, threshold=0.2), CameraOptions("b", "1")]
    thresholds, with_line = Thresholds(cameras, None), Thresholds(cameras, 0.1)
    for each in (thresholds, with_line):
        each.use_model(0.05)
    places = [("a", "cap"), ("a", "label"), ("b", "frame")]
    assert [thresholds.of(*place) for place in places] == [0.2, 0.3, 0.05]
    assert [with_line.of(*place) for place in places] == [0.2, 0.3, 0.1]
    for place in thresholds.places("a"):
        thresholds.change(*place, 0.9)
    assert [thresholds.of(*place) for place in places] == [0.9, 0.9, 0.05]
    assert thresholds.use_model(0.07) == 2
    assert [thresholds.of(*place) for place in places] == [0.2, 0.3, 0.07]


def test_change_is_in_force_from_the_next_frame_and_is_an_event(line, journal):
    wait_until(lambda: len(journal.rows()) > 20)
    change = new_threshold_change(0.3, "Ada")
    number = request_threshold(journal.path, change)
    wait_until(lambda: is_taken(journal.path, number))
    before = len(journal.rows())
    wait_until(lambda: len(journal.rows()) > before + 20)
    verdicts = line.finish()
    changed = next(index for index, verdict in enumerate(verdicts) if verdict.threshold == 0.3)
    assert {verdict.threshold for verdict in verdicts[:changed]} == {0.5}
    assert {verdict.threshold for verdict in verdicts[changed:]} == {0.3}
    assert all((verdict.decision == "reject") == (verdict.score > verdict.threshold) for verdict in verdicts)
    (event,) = [event for event in journal.events() if event.kind == "threshold"]
    assert event.detail == f"left/frame: 0.5 -> 0.3, by Ada at {change.time}"
    assert line.line.active_model.thresholds.is_changed("left", "frame")


def test_change_is_in_force_after_a_restart_unless_the_configuration_changed(line, journal, run_line, make_options):
    number = request_threshold(journal.path, new_threshold_change(0.3, "Ada"))
    wait_until(lambda: is_taken(journal.path, number))
    line.finish()
    again = run_line()
    wait_until(lambda: again.line.summary.total > 0)
    assert again.finish()[-1].threshold == 0.3
    configured = run_line(make_options(threshold=0.7))
    wait_until(lambda: configured.line.summary.total > 0)
    assert configured.finish()[-1].threshold == 0.7
    assert "left/frame: 0.3, by Ada, holds no more: it is configured anew" in [e.detail for e in journal.events()]
    plain = run_line()
    wait_until(lambda: plain.line.summary.total > 0)
    assert plain.finish()[-1].threshold == 0.5


def test_change_is_in_force_after_a_restart_with_a_journal_that_was_begun_meanwhile(line, journal, run_line):
    for threshold in (0.4, 0.3):
        number = request_threshold(journal.path, new_threshold_change(threshold, "Ada"))
        wait_until(lambda number=number: is_taken(journal.path, number))
    for path in journal.path.parent.glob("line.sqlite*"):
        if path.suffix != ".lock":
            path.rename(path.with_name(f"moved-{path.name}"))

    def has_rows() -> bool:
        with contextlib.suppress(JournalError):
            return len(journal.rows()) > 0
        return False

    wait_until(has_rows, 20)
    line.finish()
    again = run_line()
    wait_until(lambda: again.line.summary.total > 0)
    assert again.finish()[-1].threshold == 0.3


def test_start_that_fails_ends_no_change(line, journal, run_line, make_options, monkeypatch):
    number = request_threshold(journal.path, new_threshold_change(0.3, "Ada"))
    wait_until(lambda: is_taken(journal.path, number))
    line.finish()

    def refuse(*arguments):
        raise MissingExtraError("paho", "mqtt")

    with monkeypatch.context() as patch:
        patch.setattr("stfpm_runtime.line.service.open_outputs", refuse)
        with pytest.raises(MissingExtraError):
            run_line(make_options(threshold=0.7))
    again = run_line()
    wait_until(lambda: again.line.summary.total > 0)
    assert again.finish()[-1].threshold == 0.3


def test_change_that_is_requested_while_the_line_is_off_is_applied_at_its_start(line, journal, run_line):
    wait_until(lambda: journal.path.is_file() and journal.rows())
    line.finish()
    number = request_threshold(journal.path, new_threshold_change(0.4, "Ada", "left"))
    assert not is_taken(journal.path, number)
    run_line()
    wait_until(lambda: is_taken(journal.path, number))


def test_change_back_to_the_configured_threshold(line, journal):
    for threshold, expected in ((0.3, 0.3), (None, 0.5)):
        number = request_threshold(journal.path, new_threshold_change(threshold, "Ada"))
        wait_until(lambda number=number: is_taken(journal.path, number))
        assert line.line.active_model.thresholds.of("left", "frame") == expected
    assert not line.line.active_model.thresholds.is_changed("left", "frame")


def test_what_if_counts_changed_decisions(line, journal):
    wait_until(lambda: len(journal.rows()) >= 30)
    verdicts = line.finish()
    for threshold in (0.05, 0.35, 0.5, 0.75, 2.0):
        found = simulate_threshold(journal.path, threshold, parts=20)
        last = verdicts[-20:]
        assert (found.parts, found.since) == (20, last[0].time)
        assert found.rejected == sum(verdict.decision == "reject" for verdict in last)
        assert found.would_reject == sum(verdict.score > threshold for verdict in last)
        assert found.would_reject - found.rejected == len(found.newly_rejected) - len(found.newly_passed)
        flipped = {*found.newly_rejected, *found.newly_passed}
        assert flipped == {e.seq for e in last if (e.score > threshold) != (e.decision == "reject")}
    assert simulate_threshold(journal.path, 0.1, camera="none").parts == 0


def test_what_if_counts_debounced_decisions(make_options, run_line):
    """Every second frame is above the threshold, so two of three frames make a reject from the third on."""
    camera = CameraOptions("left", "0", debounce=(2, 3), trigger="every", every_ms=1)

    def alternating(index):
        return np.full((16, 32, 3), 255 if index % 2 == 0 else 100, np.uint8)

    running = run_line(make_options(camera), left={"fps": None, "frames": 12, "paint": alternating})
    running.thread.join(20)
    verdicts = running.finish()
    rejected = sum(verdict.decision == "reject" for verdict in verdicts)
    assert rejected < len(verdicts) - 2
    kept = simulate_threshold(running.journal.path, 0.5)
    assert (kept.rejected, kept.would_reject, kept.newly_rejected, kept.newly_passed) == (rejected, rejected, (), ())
    lower = simulate_threshold(running.journal.path, 0.2)
    assert lower.would_reject == len(verdicts) - 1, "all but the first, of which one frame is not enough"
    assert simulate_threshold(running.journal.path, 1.5).would_reject == 0
    assert simulate_threshold(running.journal.path, 0.5, parts=4).would_reject == sum(
        e.decision == "reject" for e in verdicts[-4:]
    )


@pytest.mark.parametrize(("threshold", "who"), [(float("nan"), "a"), (float("inf"), "a"), (0.1, ""), (0.1, "a\nb"),
                                                (0.1, "a" * 81)])  # fmt: skip
def test_impossible_changes_are_refused(line, journal, threshold, who):
    with pytest.raises(OptionError, match="expected"):
        request_threshold(journal.path, new_threshold_change(threshold, who))


def test_file_that_is_no_journal_is_an_error(tmp_path):
    with pytest.raises(JournalError, match="no such file"):
        request_threshold(tmp_path / "none.sqlite", new_threshold_change(0.1, "a"))
    (tmp_path / "text").write_text("hello, this is no database at all" * 10)
    with pytest.raises(JournalError, match="cannot be used as a journal"):
        request_threshold(tmp_path / "text", new_threshold_change(0.1, "a"))
    with contextlib.closing(sqlite3.connect(tmp_path / "other")) as other:
        other.execute("CREATE TABLE a (b)")
    with pytest.raises(JournalError, match="not a journal of stfpm-inspect"):
        request_threshold(tmp_path / "other", new_threshold_change(0.1, "a"))


def test_command_tries_and_sets_a_threshold(line, journal, capsys):
    wait_until(lambda: len(journal.rows()) >= 30)
    path = str(journal.path)
    assert main([path, "--threshold", "0.95", "--json"]) == 0
    effect = json.loads(capsys.readouterr().out)["effect"]
    assert effect["would_reject"] == 0 < effect["rejected"]
    assert line.line.active_model.thresholds.of("left", "frame") == 0.5
    assert main([path, "--threshold", "0.95", "--by", "Ada", "--reason", "the new lamp"]) == 0
    assert capsys.readouterr().out.endswith("the threshold is in use\n")
    assert line.line.active_model.thresholds.of("left", "frame") == 0.95
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT reason FROM threshold_reasons").fetchall() == [("the new lamp",)]
    assert main([path, "--threshold", "configured", "--by", "Ada", "--camera", "left", "--region", "frame"]) == 0
    assert line.line.active_model.thresholds.of("left", "frame") == 0.5
    capsys.readouterr()
    assert main([path, "--threshold", "1", "--by", "Ada", "--camera", "right"]) == 1
    assert "got right/*; expected one of left/frame" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--by", "Ada"], ["--threshold", "x"], ["--threshold", "nan"],
                                   ["--threshold", "configured"], ["--threshold", "1", "--rejects"],
                                   ["--threshold", "1", "--reason", "a lamp"]])  # fmt: skip
def test_bad_usage(flags, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["line.sqlite", *flags])
    assert caught.value.code == 2
    assert "error" in capsys.readouterr().err


ROWS = {
    "huge": {"threshold": 1e9},
    "negative": {"threshold": -1e9},
    "infinite": {"threshold": float("inf")},
    "text": {"threshold": "high"},
    "blob": {"threshold": b"\x00\xff"},
    "no name": {"who": ""},
    "forged line": {"who": "Ada\n2026-11-25 error: forged"},
    "blob as a name": {"who": b"Ada"},
    "blob as a camera": {"camera": b"left"},
    "null as a camera": {"camera": None},
    "null as a time": {"time": None},
    "number as a region": {"region": 5},
    "long name": {"who": "a" * 100_000},
    "another camera": {"camera": "none"},
}
LOOSE = (
    "CREATE TABLE thresholds "
    "(seq INTEGER PRIMARY KEY, time, who, camera, region, threshold, old, configured, model, state)"
)


def write_row(path, state: str, model: str, cast: str = "", **changes) -> None:
    """As any SQLite client can, by a table without constraints where need be."""
    row = {"time": "2026-11-25T00:00:00.000Z", "who": "Ada", "camera": "left", "region": "frame", "threshold": 0.4,
           "old": 0.5, "configured": 0.5, "model": model, "state": state, **changes}  # fmt: skip
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=20)) as client:
        client.execute("BEGIN IMMEDIATE")
        if "NOT NULL" in client.execute("SELECT sql FROM sqlite_master WHERE name = 'thresholds'").fetchone()[0]:
            client.execute("DROP TABLE thresholds")
            client.execute(LOOSE)
        values = ", ".join(f"CAST(:{key} AS TEXT)" if key == cast else f":{key}" for key in row)
        client.execute(f"INSERT INTO thresholds ({', '.join(row)}) VALUES ({values})", row)
        client.execute("COMMIT")


def states(path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as client:
        return [state for (state,) in client.execute("SELECT state FROM thresholds ORDER BY seq")]


@pytest.mark.parametrize("state", ["ordered", "holds"])
@pytest.mark.parametrize("case", [*ROWS, "no Unicode"])
def test_impossible_row_is_refused_and_the_line_goes_on(line, journal, run_line, case, state):
    changes = ROWS.get(case, {"who": b"\xff\xfe", "cast": "who"})
    wait_until(lambda: len(journal.rows()) > 5)
    model = line.line.active_model.model.sha256
    if state == "holds":  # is read at the start alone
        line.finish()
    write_row(journal.path, state, model, **changes)
    if state == "holds":
        line = run_line(left={"paint": levels, "fps": 200.0})
    wait_until(lambda: "past" in states(journal.path))
    at = len(journal.rows())
    wait_until(lambda: len(journal.rows()) > at + 10)
    verdicts = line.finish()
    assert line.errors == []
    assert {verdict.threshold for verdict in verdicts} == {0.5}
    assert "fault" not in {verdict.decision for verdict in verdicts}
    (event,) = [event for event in journal.events() if event.kind == "threshold"]
    assert "is refused: " in event.detail or "holds no more: " in event.detail
    assert event.detail.isprintable()
    assert len(event.detail) < 400
    again = run_line(left={"paint": levels, "fps": 200.0})
    wait_until(lambda: again.line.summary.total > 5)
    again.finish()
    assert again.errors == []
    assert len([event for event in journal.events() if event.kind == "threshold"]) == 1, "it is not looked at again"


def test_table_with_other_columns_costs_no_verdict(line, journal, run_line):
    wait_until(lambda: len(journal.rows()) > 5)
    with contextlib.closing(sqlite3.connect(journal.path, isolation_level=None, timeout=20)) as client:
        client.execute("DROP TABLE thresholds")
        client.execute("CREATE TABLE thresholds (other TEXT)")
    at = len(journal.rows())
    wait_until(lambda: len(journal.rows()) > at + 200)
    line.finish()
    again = run_line(left={"paint": levels, "fps": 200.0})
    wait_until(lambda: again.line.summary.total > 20)
    assert {verdict.decision for verdict in again.finish()} == {"pass", "reject"}
    assert "cannot be read" in next(event.detail for event in journal.events() if event.kind == "threshold")


@pytest.mark.parametrize("threshold", [1e9, -1e9, 0.2499, 1.0001])
def test_threshold_out_of_bounds_is_refused(line, journal, capsys, threshold):
    wait_until(lambda: journal.rows())
    with pytest.raises(OptionError, match=r"expected 0\.25 to 1; the key threshold_bounds"):
        request_threshold(journal.path, new_threshold_change(threshold, "Ada"))
    assert main([str(journal.path), f"--threshold={threshold}", "--by", "Ada"]) == 1
    assert "expected 0.25 to 1" in capsys.readouterr().err
    assert states(journal.path) == []


def test_the_bounds_are_configured(run_line, make_options, journal):
    line = run_line(make_options(threshold_bounds=(0.1, 10.0)))
    wait_until(lambda: journal.rows())
    number = request_threshold(journal.path, new_threshold_change(4.9, "Ada"))
    wait_until(lambda: is_taken(journal.path, number))
    assert line.line.active_model.thresholds.of("left", "frame") == 4.9
    line.finish()
    again = run_line()  # half to twice, by default: what held before does not any more
    wait_until(lambda: again.line.summary.total > 0)
    assert again.finish()[-1].threshold == 0.5
    assert "holds no more: got a threshold of 4.9; expected 0.25 to 1" in journal.events()[-1].detail


def test_waiting_for_a_refused_change_raises(line, journal):
    wait_until(lambda: journal.rows())
    write_row(journal.path, "ordered", "", threshold=1e9)
    wait_until(lambda: states(journal.path) == ["past"])
    assert not is_taken(journal.path, 1)
    with pytest.raises(OptionError, match="the line refused order 1; see its events"):
        wait_for_result(journal.path, 1, 1.0)
