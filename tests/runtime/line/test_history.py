"""Questions about all verdicts of a journal: every answer is compared with a count of the rows one by one."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import sqlite3
from collections import Counter
from datetime import datetime

import numpy as np
import pytest

from stfpm_runtime.detector import Verdict
from stfpm_runtime.errors import JournalError
from stfpm_runtime.line.inspect import peak_of
from stfpm_runtime.line.journal import history as asking
from stfpm_runtime.line.journal.history import Filter, HeatMap, History
from stfpm_runtime.line.journal.labels import new_label, write_label
from stfpm_runtime.line.journal.rows import VerdictRow, seconds_of, utc
from stfpm_runtime.line.journal.writer import Journal
from stfpm_runtime.shifts import QUARTER_S, Shifts

from .conftest import wait_until
from .test_journal import make_row

BEGIN_S = seconds_of("2026-11-20T00:00:00.000Z")
FILTERS = [
    Filter(),
    Filter(since=utc(BEGIN_S + 5000), until=utc(BEGIN_S + 200_000)),
    Filter(since=utc(BEGIN_S + 5000), until=utc(BEGIN_S + 5100)),
    Filter(since=utc(BEGIN_S + 9000), until=utc(BEGIN_S + 99_900), camera="left", decision="reject"),
    Filter(region="cap", model="bb"),
    Filter(shift="night", decision="fault"),
    Filter(until=utc(BEGIN_S + 77_777), shift="early", region="frame", decision="pass"),
    Filter(part="A-3"),
    Filter(part_prefix="A-3", decision="reject"),
    Filter(label="defect"),
    Filter(camera="none"),
]


def some_rows() -> list[VerdictRow]:
    """3,000 verdicts of four days; the wall clock is set back by ten hours in the middle."""
    draw = random.Random(0)
    rows = []
    for number in range(3000):
        decision = draw.choice(["pass", "pass", "pass", "reject", "fault"])
        moment = BEGIN_S + number * 115 + draw.random() - (36_000 if number > 1500 else 0)
        rows.append(make_row(
            time=utc(moment), camera=draw.choice(["left", "right"]), region=draw.choice(["cap", "frame"]),
            part=f"A-{draw.randrange(300)}", decision=decision, score=None if decision == "fault" else 0.2,
            p_value=None, model=draw.choice("ab") * 64,
        ))  # fmt: skip
    return rows


@pytest.fixture
def written(journal):
    """A journal with these rows, of which the oldest 500 are deleted, and four labels."""
    with contextlib.closing(Journal(journal.path, "normal")) as writer:
        writer.write_late(some_rows())
        assert writer.delete_oldest(None, 0) == 500
    for seq, label in ((600, "good"), (700, "defect"), (900, "defect"), (900, "good")):
        write_label(journal.path, new_label(seq, label, "Ada"))
    return journal


def matching(rows: list[VerdictRow], asked: Filter) -> list[VerdictRow]:
    """The rows that are asked for, found without SQL."""
    fields = {name: getattr(asked, name) for name in ("camera", "region", "part", "decision") if getattr(asked, name)}
    return [
        row for row in rows
        if all(getattr(row, name) == value for name, value in fields.items()) and row.model.startswith(asked.model)
        and row.part.startswith(asked.part_prefix)
        and asked.since <= row.time < (asked.until or "9") and (not asked.label or row.seq == 700)
        and asked.shift in ("", shift_of(row)[1])
    ]  # fmt: skip


def shift_of(row: VerdictRow) -> tuple[str, str]:
    return Shifts().of(int(seconds_of(row.time)) // QUARTER_S)


@pytest.mark.parametrize("asked", FILTERS, ids=repr)
@pytest.mark.parametrize("is_old", [False, True], ids=["", "without the table of counts"])
def test_counts_and_pages_are_those_of_the_rows(written, asked, is_old):
    rows = written.rows()
    if is_old:
        with contextlib.closing(sqlite3.connect(written.path)) as file:
            file.executescript("DROP TABLE verdict_counts; DROP INDEX verdicts_rejects")
    expected = matching(rows, asked)
    with contextlib.closing(History(written.path)) as history:
        found = list(history.rows(asked))
        assert found == expected
        pages, before = [], 2**53
        while before is not None:
            page, before = history.page(asked, before, 70)
            assert len(page) == 70 or before is None
            pages += page
        assert [row for row, _ in pages] == expected[::-1]
        labels = {600: "good", 700: "defect", 900: "good"}
        assert all(label == labels.get(row.seq, "") for row, label in pages)
        counts = history.counts(asked, "hour", "day", "shift", "region", "model")
    counted = matching(rows, dataclasses.replace(asked, decision=""))
    keys = {
        "hour": lambda row: (utc(seconds_of(row.time) // 3600 * 3600),),
        "day": lambda row: (datetime.fromtimestamp(seconds_of(row.time)).date().isoformat(),),
        "shift": shift_of,
        "region": lambda row: (row.camera, row.region),
        "model": lambda row: (row.model[:12],),
    }
    for per, key in keys.items():
        numbers = Counter((key(row), row.decision) for row in counted)
        expected_counts = {place: tuple(numbers[place, name] for name in ("pass", "reject", "fault"))
                           for place in {place for place, _ in numbers}}  # fmt: skip
        assert {count.key: (count.passed, count.rejected, count.faults) for count in counts[per]} == expected_counts
        assert per == "model" or [count.key for count in counts[per]] == sorted(expected_counts)


def test_the_table_of_counts_follows_the_rows_and_is_made_for_an_old_journal(written):
    def table() -> list[tuple]:
        with contextlib.closing(sqlite3.connect(written.path)) as file:
            columns = "quarter, camera, region, model, passed, rejected, faults"
            return file.execute(f"SELECT {columns} FROM verdict_counts ORDER BY 1, 2, 3, 4").fetchall()

    kept = table()
    with contextlib.closing(sqlite3.connect(written.path)) as file:
        file.executescript("DROP TRIGGER verdict_counted; DROP TRIGGER verdict_deleted; DROP TABLE verdict_counts")
    Journal(written.path).close()
    assert table() == kept
    with contextlib.closing(Journal(written.path)) as writer:
        while writer.delete_oldest(None, 0):
            pass
    assert table() == []


def test_a_verdict_of_an_unreadable_time_is_still_written(journal):
    with contextlib.closing(Journal(journal.path)) as writer:
        writer.write(make_row(time=""))
    assert len(journal.rows()) == 1


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-11-24", 24)])
def test_a_day_has_as_many_hours_as_the_local_clock_gives_it(journal, in_berlin, day, hours):
    begin = datetime.fromisoformat(day).timestamp()
    with contextlib.closing(Journal(journal.path, "normal")) as writer:
        writer.write_late([make_row(time=utc(begin + number * 1200)) for number in range(-3, 3 * hours + 3)])
    with contextlib.closing(History(journal.path)) as history:
        counts = history.counts(Filter(), "hour", "day")
    assert [(count.key, count.total) for count in counts["day"]][1] == ((day,), 3 * hours)
    assert len(counts["hour"]) == hours + 2
    assert {count.total for count in counts["hour"]} == {3}


def test_heat_maps_are_of_the_rejects_alone(journal):
    peaks = [
        ("reject", 0.0, 0.0),
        ("reject", 0.0624, 0.0),
        ("reject", 1.0, 1.0),
        ("pass", 0.5, 0.5),
        ("reject", None, None),
    ]
    with contextlib.closing(Journal(journal.path)) as writer:
        for decision, x, y in peaks:
            writer.write(make_row(decision=decision, peak_x=x, peak_y=y))
        writer.write(make_row(decision="reject", region="cap", peak_x=0.3, peak_y=0.9, model="c" * 64))
    with contextlib.closing(History(journal.path)) as history:
        whole = HeatMap("left", "frame", 4, 1, [(0, 0, 2), (15, 15, 1)])
        assert history.heat_maps(Filter(decision="pass")) == [whole, HeatMap("left", "cap", 1, 0, [(4, 14, 1)])]
        assert history.heat_maps(Filter(model="cc")) == [HeatMap("left", "cap", 1, 0, [(4, 14, 1)])]


def test_an_answer_that_takes_too_long_is_an_error(written, monkeypatch):
    monkeypatch.setattr(asking, "PROGRESS_STEPS", 100)
    with contextlib.closing(History(written.path, limit_s=0.0)) as history, pytest.raises(JournalError, match="longer"):
        history.counts(Filter(), "hour")
    with contextlib.closing(History(written.path, limit_s=60.0)) as history:
        assert history.counts(Filter(), "region")


def test_labels_that_nobody_wrote(journal):
    with contextlib.closing(Journal(journal.path)) as writer:
        writer.write(make_row())
    with contextlib.closing(History(journal.path)) as history:
        assert history.page(Filter(label="good"), 9, 9) == ([], None)
        assert history.counts(Filter(label="good"), "region") == {"region": []}
        assert list(history.rows(Filter(label="good"))) == []


def test_the_peak_is_where_the_map_is_highest():
    anomaly_map = np.zeros((8, 16), np.float32)
    anomaly_map[6, 3] = 1.0
    assert peak_of(Verdict("pass", 0.5, 1.0, anomaly_map)) == (round(3.5 / 16, 4), round(6.5 / 8, 4))
    assert peak_of(Verdict("fault", None, 1.0)) == (None, None)


def test_the_line_journals_the_peak_of_each_region(run_line, black):
    def paint(index: int) -> np.ndarray:
        picture = black(index)
        picture[12:16, 24:32, 0] = 100  # of 16 x 32 pixels: the lower right corner
        return picture

    running = run_line(left={"paint": paint})
    wait_until(lambda: len(running.journal.rows()) > 2)
    judged = [row for row in running.finish() if row.score is not None]
    assert judged
    assert all(row.peak_x > 0.7 and row.peak_y > 0.7 for row in judged)
