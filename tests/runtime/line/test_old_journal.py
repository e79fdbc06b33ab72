"""A journal and refused verdicts of version 0.1.0, which know nothing of relative scores, are read with them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sqlite3

import pytest

from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.journal.command.cli import main
from stfpm_runtime.line.journal.dead_letters import TABLE, DeadLetters, path_of
from stfpm_runtime.line.journal.history import Filter, History
from stfpm_runtime.line.journal.reader import JournalReader, Period
from stfpm_runtime.line.journal.tail import JournalTail
from stfpm_runtime.line.journal.writer import Journal
from stfpm_runtime.line.observers.status import LiveStatus

from .test_journal import make_row

OLD_JOURNAL = """
CREATE TABLE meta (id TEXT NOT NULL);
CREATE TABLE runs (run INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, model TEXT NOT NULL);
CREATE TABLE verdicts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, monotonic_ns INTEGER NOT NULL, run INTEGER NOT NULL,
    camera TEXT NOT NULL, region TEXT NOT NULL, source TEXT NOT NULL, frame INTEGER, part TEXT NOT NULL,
    decision TEXT NOT NULL CHECK (decision IN ('pass', 'reject', 'fault')), score REAL, p_value REAL,
    threshold REAL NOT NULL, reason TEXT NOT NULL, model TEXT NOT NULL, dropped INTEGER NOT NULL,
    wait_ms REAL NOT NULL, preprocess_ms REAL NOT NULL, infer_ms REAL NOT NULL, latency_ms REAL NOT NULL,
    picture TEXT NOT NULL, overlay TEXT NOT NULL,
    CHECK ((score IS NULL) = (decision = 'fault'))
);
CREATE INDEX verdicts_time ON verdicts (time);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, monotonic_ns INTEGER NOT NULL, run INTEGER NOT NULL,
    camera TEXT NOT NULL, source TEXT NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL
);
INSERT INTO meta VALUES ('a48490c9');
INSERT INTO runs VALUES (1, '2026-11-24T02:00:00.000Z', '55');
PRAGMA application_id = 0x53746670;
PRAGMA user_version = 1;
"""
SCORES = [("reject", 0.02, 0.0125), ("pass", 0.005, 0.0125), ("fault", None, 0.0125), ("reject", 0.02, 0.0)]
RELATIVE = [1.6, 0.4, None, None]


@pytest.fixture
def old_journal(tmp_path):
    path = tmp_path / "old.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.executescript(OLD_JOURNAL)
        for seq, (decision, score, threshold) in enumerate(SCORES, 1):
            moment = f"2026-11-24T02:00:0{seq}.000Z"
            values = (seq, moment, seq, 1, "left", "frame", "cam", seq, "", decision, score, None, threshold,
                      "no frame" if score is None else "", "55", 0, 0.1, 0.2, 0.3, 0.6, "", "")  # fmt: skip
            file.execute(f"INSERT INTO verdicts VALUES ({', '.join('?' * len(values))})", values)
        file.commit()
    return path


def test_listings_show_relative_scores(old_journal, capsys):
    assert main([str(old_journal), "--rejects"]) == 0
    shown = [line.partition("left/frame ")[2] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["1.60 (score 0.02, threshold 0.0125)", "no frame", "score 0.02, threshold 0"]
    assert main([str(old_journal), "--rejects", "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["relative_score"] for record in records] == [pytest.approx(1.6), None, None]
    assert main([str(old_journal), "--csv"]) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert [float(row["relative_score"]) if row["relative_score"] else None for row in rows] == pytest.approx(RELATIVE)


def test_outputs_and_charts_get_relative_scores(old_journal):
    Journal(old_journal).close()  # the line opens it before its outputs
    with contextlib.closing(JournalTail(old_journal, "mes", False, print)) as tail, tail.opened() as connection:
        assert [record["relative_score"] for record in tail.read_verdicts(connection)] == pytest.approx(RELATIVE)
    with contextlib.closing(JournalReader(old_journal)) as reader:
        status = LiveStatus([CameraOptions("left", "0")], reader.newest(10))
    assert [row.relative_score for row in status.places["left", "frame"].recent] == pytest.approx(RELATIVE)


def test_refused_verdicts_are_sent_again_with_relative_scores(old_journal):
    record = {"journal": "a48490c9", "seq": 1, "decision": "reject", "score": 0.02, "threshold": 0.0125}
    with contextlib.closing(sqlite3.connect(path_of(old_journal))) as file:
        file.execute(TABLE)
        values = ("mes", "a48490c9", 1, "2026-11-24T02:00:01.000Z", "404", json.dumps(record), 1)
        file.execute("INSERT INTO refused VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        file.commit()
    (sent,) = DeadLetters(old_journal, "mes").to_resend()
    assert sent == {**record, "relative_score": pytest.approx(1.6)}


def test_peaks_are_empty_until_the_line_has_upgraded_the_journal(old_journal):
    def peaks() -> list:
        with contextlib.closing(JournalReader(old_journal)) as reader:
            return [(row.peak_x, row.peak_y) for row in reader.rows(Period())]

    assert peaks() == [(None, None)] * 4
    with contextlib.closing(Journal(old_journal)) as journal:
        journal.write(make_row(peak_x=0.25, peak_y=0.75))
    assert peaks() == [(None, None)] * 4 + [(0.25, 0.75)]
    with contextlib.closing(History(old_journal)) as history:
        (count,) = history.counts(Filter(), "region")["region"]
        (heat_map,) = history.heat_maps(Filter())
    assert (count.passed, count.rejected, count.faults) == (2, 2, 1)
    assert (heat_map.rejected, heat_map.unknown) == (2, 2)
