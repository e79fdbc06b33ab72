"""The journal with real SQLite, on real disks: also full, damaged, foreign and moved ones."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stfpm_runtime.errors import JournalError
from stfpm_runtime.line.journal import recorder as recording
from stfpm_runtime.line.journal.models import states as model_states
from stfpm_runtime.line.journal.models.active import ActiveModelRow, read_active_model
from stfpm_runtime.line.journal.reader import SCHEMA
from stfpm_runtime.line.journal.recorder import Recorder
from stfpm_runtime.line.journal.retention import Clock
from stfpm_runtime.line.journal.rows import EventRow, VerdictRow, utc
from stfpm_runtime.line.journal.writer import DamagedJournalError, Journal

MODEL = "5" * 64


def make_row(**changes) -> VerdictRow:
    fields = {
        "seq": 0, "time": utc(), "monotonic_ns": time.monotonic_ns(), "run": 1, "camera": "left", "region": "frame",
        "source": "fake", "frame": 7, "part": "A-1", "decision": "pass", "score": 0.25, "p_value": 0.5,
        "threshold": 0.5, "reason": "", "model": MODEL, "dropped": 0, "wait_ms": 0.1, "preprocess_ms": 0.2,
        "infer_ms": 0.3, "latency_ms": 0.6,
    }  # fmt: skip
    return VerdictRow(**{**fields, **changes})


@pytest.fixture
def open_recorder(journal):
    with contextlib.ExitStack() as stack:

        def open_recorder(path: Path = journal.path, clock: Clock | None = None, **options) -> Recorder:
            recorder = Recorder(path, MODEL, clock=clock, **options)
            stack.callback(recorder.close)
            return recorder

        yield open_recorder


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False) if os.geteuid() == 0 else None
    if done is None or done.returncode:
        pytest.skip("a small disk has to be mounted: root alone may")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all space that is left."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def test_verdict_is_on_the_disk_when_it_returns(journal):
    with contextlib.closing(Journal(journal.path)) as writer:
        kept = writer.write(make_row())
        assert kept.seq == 1
        assert journal.rows() == [kept]  # read over a connection of its own
        assert writer.write(make_row(decision="fault", score=None, p_value=None, reason="dark")).seq == 2
        assert journal.decisions == ["pass", "fault"]


@pytest.mark.parametrize(("synchronous", "expected"), [("full", 2), ("normal", 1)])
def test_pragmas_are_what_the_options_say(journal, synchronous, expected):
    with contextlib.closing(Journal(journal.path, synchronous)) as writer:
        assert writer._connection.execute("PRAGMA synchronous").fetchone() == (expected,)
        assert writer._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_numbers_go_on_and_are_never_used_again(journal):
    with contextlib.closing(Journal(journal.path)) as writer:
        for _ in range(3):
            writer.write(make_row(time="2020-01-01T00:00:00.000Z"))
        identity = writer.id
        assert writer.delete_oldest("2021", None) == 3
    with contextlib.closing(Journal(journal.path)) as writer:
        assert writer.write(make_row()).seq == 4
        assert writer.id == identity
    assert [verdict.seq for verdict in journal.rows()] == [4]


def test_two_processes_on_one_journal_are_refused(journal):
    code = (
        "import sys, pathlib; from stfpm_runtime.line.journal.writer import Journal; Journal(pathlib.Path(sys.argv[1]))"
    )
    with contextlib.closing(Journal(journal.path)):
        done = subprocess.run([sys.executable, "-c", code, journal.path], capture_output=True, text=True, check=False)
    assert f"another stfpm-inspect writes this journal (process {os.getpid()}); stop it" in done.stderr
    Journal(journal.path).close()


def test_newer_journal_is_refused_by_name_and_left_alone(journal, open_recorder):
    Journal(journal.path).close()
    with contextlib.closing(sqlite3.connect(journal.path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    before = journal.path.read_bytes()
    with pytest.raises(JournalError, match=f"a journal of version {SCHEMA + 1}, this stfpm-edge knows up to {SCHEMA}"):
        open_recorder()
    assert journal.path.read_bytes() == before
    with pytest.raises(JournalError, match="a journal of version"):
        journal.rows()


def test_database_of_others_is_refused_and_left_alone(journal, open_recorder):
    with contextlib.closing(sqlite3.connect(journal.path)) as connection:
        connection.execute("CREATE TABLE precious (thing)")
    with pytest.raises(JournalError, match="an SQLite file, but not a journal of stfpm-inspect"):
        open_recorder()
    assert journal.path.exists()


def test_another_file_is_no_journal_and_stays_as_it_is(journal, open_recorder):
    journal.path.write_bytes(b"a model")
    with pytest.raises(JournalError, match="is no journal; expected one that stfpm-inspect wrote"):
        open_recorder()
    assert journal.path.read_bytes() == b"a model"
    assert [path.name for path in journal.path.parent.iterdir()] == [journal.path.name]


def test_link_to_a_journal_has_its_lock(journal):
    link = journal.path.with_name("link.sqlite")
    link.symlink_to(journal.path)
    with contextlib.closing(Journal(journal.path)), pytest.raises(JournalError, match="another stfpm-inspect writes"):
        Journal(link)


@pytest.mark.parametrize("damage", ["header", "tables"])
def test_damaged_journal_is_set_aside_and_is_an_event(journal, open_recorder, caplog, damage):
    with contextlib.closing(Journal(journal.path)) as writer:
        for _ in range(100):
            writer.write(make_row())
    data = bytearray(journal.path.read_bytes())
    if damage == "header":
        data[:100] = b"?" * 100
    else:
        data[100:] = os.urandom(len(data) - 100)
    journal.path.write_bytes(data)
    journal.path.chmod(0o600)
    recorder = open_recorder()
    recorder.keep(make_row())
    recorder.do_maintenance()
    assert journal.path.stat().st_mode & 0o777 == 0o600
    (aside,) = journal.path.parent.glob("line.sqlite.damaged-*")
    assert aside.read_bytes() == data
    assert len(journal.rows()) == 1
    (event,) = journal.events()
    assert (
        event.detail
        == f"a damaged one was set aside as {aside.name}, with the thresholds set by hand and the chosen model"
    )
    assert "is damaged" in caplog.text


def test_journal_that_is_damaged_while_it_is_written_is_replaced(journal, open_recorder):
    recorder = open_recorder()
    recorder.keep(make_row())
    first = recorder.id
    recorder._journal._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    recorder._journal._connection.execute("PRAGMA cache_size = 0")
    with journal.path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(journal.path.stat().st_size - 100))
    written = [recorder.keep(make_row())]
    assert written[0].decision == "fault"
    recorder._retry_s = 0
    assert recorder.keep(make_row()).decision == "pass"
    recorder.do_maintenance()
    assert recorder.id != first
    assert journal.decisions == ["fault", "pass"]  # the late one, and the new one
    assert len(list(journal.path.parent.glob("line.sqlite.damaged-*"))) == 1


def test_moved_journal_is_begun_anew(journal, open_recorder, monkeypatch):
    monkeypatch.setattr(recording, "MAINTENANCE_S", 0)
    recorder = open_recorder()
    recorder.keep(make_row())
    recorder.do_maintenance()
    journal.path.rename(journal.path.with_name("elsewhere"))
    recorder.do_maintenance()
    recorder._retry_s = 0
    assert recorder.keep(make_row()).seq == 1
    recorder.do_maintenance()
    assert any("was moved or deleted" in event.detail for event in journal.events())


def test_full_disk_makes_faults_and_the_journal_recovers(small_disk, open_recorder, caplog):
    recorder = open_recorder(small_disk / "line.sqlite")
    assert recorder.keep(make_row()).seq == 1
    ballast = fill(small_disk)
    written = []
    while not written or written[-1].decision == "pass":  # SQLite has some room left in its own files
        written.append(recorder.keep(make_row()))
        assert len(written) < 2000, "the disk does not fill"
    written += [recorder.keep(make_row(part=f"B-{number}")) for number in range(5)]
    recorder.do_maintenance()
    faults = [verdict for verdict in written if verdict.decision == "fault"]
    assert {(verdict.seq, verdict.score, verdict.picture) for verdict in faults} == {(0, None, "")}
    assert all("the verdict could not be journalled: " in verdict.reason for verdict in faults)
    assert "until then every verdict is a fault" in caplog.text
    ballast.unlink()
    recorder._retry_s = 0
    assert recorder.keep(make_row(part="C")).decision == "pass"
    recorder.do_maintenance()
    with contextlib.closing(sqlite3.connect(small_disk / "line.sqlite")) as connection:
        rows = connection.execute("SELECT seq, part, decision FROM verdicts ORDER BY seq").fetchall()
        events = connection.execute("SELECT kind, detail FROM events").fetchall()
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    assert [row[1:] for row in rows[-7:]] == [("A-1", "fault"), *((f"B-{n}", "fault") for n in range(5)), ("C", "pass")]
    assert len(rows) == len(written) + 2
    assert [row[2] for row in rows[1:-1]] == [verdict.decision for verdict in written]
    assert ("journal", f"can be written again; {len(faults)} faults were added late") in events


def test_verdict_that_breaks_the_rules_of_the_table_is_a_fault(open_recorder, journal):
    recorder = open_recorder()
    written = recorder.keep(make_row(score=None))  # a pass without a score
    assert (written.decision, written.seq) == ("fault", 1)
    recorder.keep(make_row())
    assert journal.decisions == ["fault", "pass"]
    assert "IntegrityError" in journal.rows()[0].reason


@pytest.mark.parametrize(
    "value",
    [
        {"part": "\ud800"}, {"source": "\udcff.png"}, {"frame": 2**63}, {"threshold": float("nan")},
        {"dropped": object()}, {"region": None}, {"reason": "\ud800"}, {"picture": b"\0"},
    ],
)  # fmt: skip
def test_row_that_cannot_be_written_is_a_fault_and_does_not_delay_the_next(open_recorder, journal, value):
    recorder = open_recorder()
    for number in range(3):
        written = recorder.keep(make_row(**(value if number == 1 else {})))
        recorder.do_maintenance()
    assert recorder.works
    assert written.decision == "pass"
    assert journal.decisions in (["pass", "fault", "pass"], ["pass", "pass", "pass"] if "picture" in value else [])
    if journal.decisions[1] == "fault":
        assert "could not be journalled" in journal.rows()[1].reason
        assert any("could not be written as it was" in event.detail for event in journal.events())


def test_unwritable_verdict_during_a_failure_does_not_delay_the_next(open_recorder, journal, monkeypatch):
    monkeypatch.setattr(recording, "RETRY_S", 0)
    recorder = open_recorder()
    recorder.keep(make_row())
    journal.path.rename(journal.path.with_name("away"))
    recorder._maintenance_s = 0
    recorder.do_maintenance()
    assert not recorder.works
    recorder._retry_s = time.monotonic() + 60
    recorder.keep(make_row(part="\ud800"))
    recorder._retry_s = 0
    assert recorder.keep(make_row()).decision == "pass"
    assert journal.decisions == ["fault", "pass"]


def test_event_that_cannot_be_written_does_not_delay_the_next(open_recorder, journal):
    recorder = open_recorder()
    recorder.log_event("lost", "cable", "left", 7)  # a driver's bug
    recorder.do_maintenance()
    recorder.log_event("started", "all of it")
    recorder.do_maintenance()
    recorder.do_maintenance()
    assert [event.kind for event in journal.events()][-2:] in (["journal", "started"], ["started", "journal"])
    assert recorder.works


def test_faults_beyond_the_limit_are_counted(open_recorder, monkeypatch, journal):
    monkeypatch.setattr(recording, "MAX_LATE_VERDICTS", 3)
    recorder = open_recorder()
    recorder._fail(JournalError("gone"))
    for _ in range(5):
        assert recorder.keep(make_row()).decision == "fault"
    recorder._retry_s = 0
    recorder.keep(make_row())
    recorder.do_maintenance()
    assert journal.decisions == ["fault"] * 3 + ["pass"]
    assert journal.events()[-1].detail == "can be written again; 3 faults were added late, 2 more were lost"


def test_events_are_written_between_verdicts(open_recorder, journal):
    recorder = open_recorder()
    recorder.log_event("lost", "no frame for 5 s", "left", "cam://left")
    recorder.log_event("started", "all of it")
    assert journal.events() == []
    recorder.do_maintenance()
    assert [(e.seq, e.camera, e.source, e.kind, e.detail, e.run) for e in journal.events()] == [
        (1, "left", "cam://left", "lost", "no frame for 5 s", 1), (2, "", "", "started", "all of it", 1),
    ]  # fmt: skip


def test_old_verdicts_are_deleted(open_recorder, journal, monkeypatch):
    monkeypatch.setattr(recording, "MAINTENANCE_S", 0)
    recorder = open_recorder(keep_days=2)
    now = time.time()
    for days in (3, 2.1, 1.9, 0):
        recorder.keep(make_row(time=utc(now - days * 86400)))
    recorder.do_maintenance()
    assert [verdict.seq for verdict in journal.rows()] == [3, 4]


def test_journal_is_kept_below_its_size(open_recorder, journal, monkeypatch):
    monkeypatch.setattr(recording, "MAINTENANCE_S", 0)
    recorder = open_recorder(max_mb=1, synchronous="normal")
    for number in range(6000):
        recorder.keep(make_row(reason="x" * 200))
        if number % 50 == 0:
            recorder.do_maintenance()
    recorder.close()
    assert journal.path.stat().st_size < 1.3e6
    seqs = [verdict.seq for verdict in journal.rows()]
    assert seqs == list(range(seqs[0], 6001))
    assert 500 < len(seqs) < 3000


def test_below_its_size_the_journal_keeps_the_newest_verdicts_and_events(open_recorder, journal, monkeypatch):
    monkeypatch.setattr(recording, "MAINTENANCE_S", 0)
    recorder = open_recorder(keep_days=30, max_mb=1, synchronous="normal")
    now_s = time.time()
    for number in range(4000):
        moment = utc(now_s - (100 - number / 40) * 86400)
        recorder._journal.write_events([EventRow(0, moment, 1, 1, "left", "", "shadow", "x" * 200)])
        if number >= 3600:  # the verdicts are from the last ten days
            recorder.keep(make_row(time=moment))
    for _ in range(20):
        recorder.do_maintenance()
    assert len(journal.rows()) == 400, "no verdict is older than the events that are left"
    assert 1000 < len(journal.events()) < 3500


class Clocks:
    """Two clocks that the test sets."""

    def __init__(self) -> None:
        self.wall, self.steady = time.time(), 100.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def test_clock_that_jumps_is_an_event_and_costs_no_verdict(open_recorder, journal, monkeypatch):
    monkeypatch.setattr(recording, "MAINTENANCE_S", 0)
    clocks = Clocks()
    recorder = open_recorder(keep_days=1, clock=Clock(lambda: clocks.wall, lambda: clocks.steady))
    recorder.keep(make_row(time=utc(clocks.wall)))
    clocks.pass_by(60)
    recorder.do_maintenance()
    assert journal.events() == []
    clocks.wall += 3 * 365 * 86400
    recorder.do_maintenance()
    recorder.do_maintenance()
    assert [(event.kind, event.detail) for event in journal.events()] == [("clock", "jumped by 94608000.0 s")]
    assert len(journal.rows()) == 1
    clocks.wall -= 3 * 365 * 86400
    for _ in range(8):
        clocks.pass_by(6 * 3600)
        recorder.keep(make_row(time=utc(clocks.wall)))
    recorder.do_maintenance()
    assert [verdict.seq for verdict in journal.rows()] == [5, 6, 7, 8, 9]  # time that really passed
    assert "jumped by -94608000.0 s" not in [event.detail for event in journal.events()[1:]]  # events age too


DAY_S = 86_400.0


def hours(count: int, until_s: float) -> list[float]:
    return [until_s - 3600 * number for number in range(count, 0, -1)]


@pytest.fixture
def filled(journal):
    """60 days of verdicts, one an hour, until now."""
    with contextlib.closing(Journal(journal.path, "normal")) as writer:
        for moment in hours(60 * 24, time.time()):
            writer.write(make_row(time=utc(moment)))
    return journal


def judge_for(recorder: Recorder, clocks: Clocks, hours: int) -> None:
    """A verdict an hour, and an upkeep each minute of the last one."""
    for _ in range(hours):
        recorder.keep(make_row(time=utc(clocks.wall)))
        recorder.do_maintenance()
        clocks.pass_by(3600)
    for _ in range(20):
        recorder.do_maintenance()


@pytest.mark.parametrize("days", [40, 9000])
def test_clock_that_is_ahead_at_the_start_deletes_nothing(filled, open_recorder, monkeypatch, days):
    monkeypatch.setattr(recording, "MAINTENANCE_S", 0)
    clocks = Clocks()
    clocks.wall += days * DAY_S
    for _ in range(2):  # a restart makes the clock no more credible
        recorder = open_recorder(keep_days=30, clock=Clock(lambda: clocks.wall, lambda: clocks.steady))
        judge_for(recorder, clocks, 5)
        recorder.close()
    assert len(filled.rows()) == 60 * 24 + 10
    details = [event.detail for event in filled.events()]
    assert any(f"is {days}.0 days ahead of what was last written" in detail for detail in details)
    assert sum("nothing is deleted for its age" in detail for detail in details) == 2


def test_clock_that_is_set_after_the_start_deletes_old_verdicts(filled, open_recorder, monkeypatch):
    monkeypatch.setattr(recording, "MAINTENANCE_S", 0)
    clocks = Clocks()
    now_s, clocks.wall = clocks.wall, 60.0
    recorder = open_recorder(keep_days=30, clock=Clock(lambda: clocks.wall, lambda: clocks.steady))
    recorder.do_maintenance()
    clocks.wall = now_s
    judge_for(recorder, clocks, 23)
    assert len(filled.rows()) == 60 * 24 + 23
    judge_for(recorder, clocks, 25)
    assert 30 * 24 - 2 <= len(filled.rows()) <= 30 * 24 + 2


def test_old_verdicts_are_deleted_when_the_verdicts_after_a_gap_cover_keep_days(filled, open_recorder, monkeypatch):
    monkeypatch.setattr(recording, "MAINTENANCE_S", 0)
    clocks = Clocks()
    clocks.wall += 40 * DAY_S  # the line was off for so long
    recorder = open_recorder(keep_days=2, clock=Clock(lambda: clocks.wall, lambda: clocks.steady))
    judge_for(recorder, clocks, 47)
    assert len(filled.rows()) > 60 * 24
    judge_for(recorder, clocks, 30)
    assert 48 <= len(filled.rows()) <= 50


def test_more_than_a_day_is_deleted_only_when_the_clock_was_steady_for_an_hour(filled, open_recorder, monkeypatch):
    monkeypatch.setattr(recording, "MAINTENANCE_S", 0)
    clocks = Clocks()
    recorder = open_recorder(keep_days=30, clock=Clock(lambda: clocks.wall, lambda: clocks.steady))
    clocks.pass_by(3500)
    recorder.keep(make_row(time=utc(clocks.wall)))
    for _ in range(10):
        recorder.do_maintenance()
    assert len(filled.rows()) == 60 * 24 + 1
    clocks.pass_by(200)
    for _ in range(10):
        recorder.do_maintenance()
    assert 30 * 24 - 2 <= len(filled.rows()) <= 30 * 24 + 2
    details = [event.detail for event in filled.events()]
    assert any("are deleted when the clock has been steady for an hour" in detail for detail in details)
    assert any(detail.startswith("deletes the verdicts from ") for detail in details)


def test_journal_has_mode_0640(journal):
    umask = os.umask(0)
    try:
        with contextlib.closing(Journal(journal.path)) as writer:
            writer.write(make_row())
            modes = {path.name: oct(path.stat().st_mode & 0o777) for path in journal.path.parent.glob("line.sqlite*")}
    finally:
        os.umask(umask)
    assert len(modes) == 4
    assert set(modes.values()) == {"0o640"}


def test_clock_that_is_slewed_has_not_jumped():
    clocks = Clocks()
    clock = Clock(lambda: clocks.wall, lambda: clocks.steady)
    for _ in range(10_000):  # 500 ppm for months: 5 s in all
        clocks.pass_by(1.0)
        clocks.wall += 0.0005
        assert clock.jump_s() == 0


def test_damage_and_a_bug_are_different_errors(journal):
    with contextlib.closing(Journal(journal.path)) as writer:
        with pytest.raises(sqlite3.IntegrityError):
            writer.write(make_row(decision="perhaps"))
        assert writer.write(make_row()).seq == 1
    assert not issubclass(sqlite3.IntegrityError, DamagedJournalError)


def test_rows_read_are_those_written(journal):
    with contextlib.closing(Journal(journal.path)) as writer:
        verdict = make_row(picture="2026-11-24/1.png", overlay="2026-11-24/1.overlay.jpg", frame=None)
        kept = writer.write(verdict)
    assert journal.rows() == [kept] == [dataclasses.replace(verdict, seq=1)]


def test_the_model_in_use_is_written_as_soon_as_the_journal_can_be(open_recorder, journal, monkeypatch):
    monkeypatch.setattr(recording, "MAINTENANCE_S", 0.0)
    recorder = open_recorder()
    active = ActiveModelRow(utc(), "Ada", "/new.onnx", MODEL, "bottle", "/old.onnx", MODEL, 0.1, 0.9)
    with contextlib.closing(sqlite3.connect(journal.path, isolation_level=None)) as file:
        file.execute(model_states.TABLES[0])
        file.execute("CREATE TRIGGER full BEFORE INSERT ON model_states BEGIN SELECT RAISE(FAIL, 'full'); END")
        recorder.use_model(active)
        recorder.do_maintenance()
        assert read_active_model(file) is None
        file.execute("DROP TRIGGER full")
        recorder.do_maintenance()
        assert read_active_model(file) == active
        kept = "SELECT count(*) FROM events WHERE detail LIKE '%does not keep yet%'"
        assert file.execute(kept).fetchone() == (1,)
