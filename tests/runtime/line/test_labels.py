"""Labels of journalled parts: rows that never change a verdict."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading

import pytest

from stfpm_runtime.errors import OptionError
from stfpm_runtime.line.journal.command.cli import main
from stfpm_runtime.line.journal.labels import count_confusion, new_label, read_labelled, write_label
from stfpm_runtime.line.journal.reader import Period
from stfpm_runtime.line.journal.writer import Journal

from .test_journal import make_row


@pytest.fixture
def written(journal):
    """Return a journal with four rejects (1 to 4), four passes (5 to 8) and a fault (9)."""
    with contextlib.closing(Journal(journal.path)) as writer:
        for number in range(1, 10):
            decision = "reject" if number < 5 else "pass" if number < 9 else "fault"
            score = {"reject": 0.75, "pass": 0.25, "fault": None}[decision]
            camera = "left" if number % 2 else "right"
            picture = f"day/{number}.png" if number != 8 else ""
            writer.write(make_row(decision=decision, score=score, camera=camera, picture=picture))
    return journal.path


def verdicts(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT * FROM verdicts ORDER BY seq").fetchall()


def test_a_label_is_a_row_and_changes_no_verdict(written, capsys):
    before = verdicts(written)
    argv = ["--label", "1", "defect", "--by", "Ada", "--kind", "scratch", "--note", "at the rim"]
    assert main([str(written), *argv]) == 0
    assert "reject left/frame A-1: labelled defect" in capsys.readouterr().out
    assert verdicts(written) == before
    ((row, label),) = read_labelled(written, Period())
    assert (row.seq, label.label, label.kind, label.who, label.note) == (1, "defect", "scratch", "Ada", "at the rim")


def test_the_newest_label_counts_and_the_earlier_ones_stay(written, capsys):
    for value, who in (("good", "Ada"), ("defect", "Bob")):
        assert main([str(written), "--label", "2", value, "--by", who]) == 0
    assert "before: good by Ada; the new label counts" in capsys.readouterr().out
    ((_, label),) = read_labelled(written, Period())
    assert (label.label, label.who) == ("defect", "Bob")
    with contextlib.closing(sqlite3.connect(written)) as connection:
        assert connection.execute("SELECT who FROM labels ORDER BY seq").fetchall() == [("Ada",), ("Bob",)]


def test_shares_of_wrong_decisions_have_intervals(written, capsys):
    for number, value in (
        (1, "good"),
        (2, "defect"),
        (3, "good"),
        (5, "defect"),
        (6, "good"),
        (7, "unclear"),
        (9, "good"),
    ):
        write_label(written, new_label(number, value, "Ada"))
    found = count_confusion(read_labelled(written, Period()))
    assert (found.rejected, found.rejected_good, found.passed, found.passed_defects, found.unclear) == (3, 2, 2, 1, 1)
    assert main([str(written), "--labels"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 + 3
    assert lines[-3] == "2 of 3 labelled rejected parts were good (66.7%, 95% interval 9.4% to 99.2%)"
    assert main([str(written), "--labels", "--json", "--camera", "right"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["seq"], row["label"]["label"]) for row in rows] == [(2, "defect"), (6, "good")]


def test_a_journal_without_labels_has_none(written, capsys):
    assert list(read_labelled(written, Period())) == []
    assert main([str(written), "--labels"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "0 of 0 labelled rejected parts were good"


def test_it_is_said_that_a_picture_was_not_kept(written, capsys):
    assert main([str(written), "--label", "8", "defect", "--by", "Ada"]) == 0
    assert "its picture was not kept" in capsys.readouterr().out


def test_a_part_that_the_journal_does_not_have_gets_no_label(written, capsys):
    assert main([str(written), "--label", "99", "good", "--by", "Ada"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "has no verdict 99" in line
    assert list(read_labelled(written, Period())) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"who": " "}, "got no name"),
        ({"who": "A\nda"}, "expected printable text"),
        ({"who": "A" * 81}, "up to 80 characters"),
        ({"note": "n" * 201}, "up to 200 characters"),
        ({"label": "good", "kind": "scratch"}, "only a defect has a kind"),
    ],
)
def test_texts_that_a_journal_may_not_hold_are_refused(fields, expected):
    with pytest.raises(OptionError, match=expected):
        new_label(**{"verdict": 1, "label": "defect", "who": "Ada", **fields})


@pytest.mark.parametrize(
    "argv",
    [
        ["--label", "1", "good"],
        ["--label", "x", "good", "--by", "Ada"],
        ["--label", "1", "fine", "--by", "Ada"],
        ["--kind", "scratch"],
        ["--by", "Ada"],
        ["--label", "1", "good", "--by", "Ada", "--rejects"],
    ],
)
def test_flags_that_do_not_go_together_are_wrong_usage(written, argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(written), *argv])
    assert stop.value.code == 2
    capsys.readouterr()


def test_two_people_label_at_once_while_the_line_writes(written):
    with contextlib.closing(Journal(written)) as writer:
        people = [
            threading.Thread(
                target=lambda who=who: [write_label(written, new_label(1, "good", who)) for _ in range(20)]
            )
            for who in ("Ada", "Bob")
        ]
        for person in people:
            person.start()
        for _ in range(20):
            writer.write(make_row())
        for person in people:
            person.join()
    with contextlib.closing(sqlite3.connect(written)) as connection:
        counts = connection.execute("SELECT who, count(*) FROM labels GROUP BY who ORDER BY who").fetchall()
        assert counts == [("Ada", 20), ("Bob", 20)]
        assert connection.execute("SELECT max(seq) FROM verdicts").fetchone() == (29,)
