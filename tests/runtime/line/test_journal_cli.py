"""`stfpm-journal`: what it answers, from a journal whose rows are known."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sqlite3
import subprocess
import sys
import time

import pytest

from stfpm_runtime.line.journal.command.cli import main
from stfpm_runtime.line.journal.rows import COLUMNS, utc
from stfpm_runtime.line.journal.writer import Journal

from .test_journal import make_row

HOUR = 3600


@pytest.fixture
def show(journal, tmp_path, monkeypatch, capsys):
    """Six verdicts of the last ten hours, one an hour, the newest now."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    now = time.time()
    rows = [
        {"camera": "left", "decision": "pass"},
        {"camera": "left", "decision": "reject", "score": 0.75, "picture": "day/1.png", "overlay": "day/1.overlay.jpg"},
        {"camera": "right", "region": "cap", "decision": "pass"},
        {"camera": "right", "region": "cap", "decision": "fault", "score": None, "reason": 'lost, "the" cable'},
        {"camera": "right", "region": "cap", "decision": "pass"},
        {"camera": "right", "region": "cap", "decision": "pass"},
    ]
    with contextlib.closing(Journal(journal.path)) as writer:
        for number, row in enumerate(rows):
            writer.write(make_row(**row, time=utc(now - (5 - number) * HOUR - 60)))
    (tmp_path / "pictures" / "day").mkdir(parents=True)
    (tmp_path / "pictures" / "day" / "1.png").touch()

    def show(*argv: str) -> list[str]:
        assert main([str(journal.path), *argv]) == 0
        return capsys.readouterr().out.splitlines()

    yield show
    monkeypatch.undo()
    time.tzset()


def test_counts_and_yield(show):
    lines = [line.split() for line in show()]
    assert lines == [
        ["camera", "region", "total", "passed", "rejected", "faults", "yield"],
        ["left", "frame", "2", "1", "1", "0", "50.0%"],
        ["right", "cap", "4", "3", "0", "1", "75.0%"],
        ["all", "6", "4", "1", "1", "66.7%"],
    ]


def test_counts_as_json(show):
    found = json.loads("\n".join(show("--json")))
    assert found["all"] == {"passed": 4, "rejected": 1, "faults": 1, "total": 6, "yield": pytest.approx(2 / 3)}
    assert [region["camera"] for region in found["regions"]] == ["left", "right"]


def test_period_and_camera(show):
    assert show("--since", "150m")[1].split()[:3] == ["right", "cap", "3"]
    assert show("--until", "4h", "--camera", "left")[1].split()[:3] == ["left", "frame", "2"]
    assert show("--since", "1m", "--until", "1m") == ["no verdicts in this period"]


def test_moments_are_local_time(show):
    moment = time.strftime("%Y-%m-%dT%H:%M", time.localtime(time.time() - 2.5 * HOUR))
    assert show("--since", moment)[1].split()[2] == "3"


def test_counts_per_hour_day_and_model(show):
    days = show("--per", "day")
    assert days[0].split() == ["day", "total", "passed", "rejected", "faults", "yield"]
    hours = show("--per", "hour")
    assert sum(int(line.split()[2]) for line in hours[1:-1]) == 6
    assert len(hours) > len(days) - 1
    (model,) = json.loads("\n".join(show("--per", "model", "--json")))["models"]
    assert (model["total"], model["passed"]) == (6, 4)


def test_counts_per_shift_and_region(show):
    shifts = show("--per", "shift")
    assert shifts[0].split() == ["day", "shift", "total", "passed", "rejected", "faults", "yield"]
    assert sum(int(line.split()[2]) for line in shifts[1:] if line[0] == "2") == 6
    assert {line.split()[1] for line in shifts[1:] if line[0] == "2"} <= {"early", "late", "night"}
    found = json.loads("\n".join(show("--per", "shift", "--shifts", "day=00:00", "--json")))["shifts"]
    assert [shift["shift"] for shift in found] == ["day"] * len(found)
    assert show("--per", "region") == show()


def test_filters(show):
    assert show("--region", "cap")[1].split()[:3] == ["right", "cap", "4"]
    assert show("--model", "555")[-1].split()[1] == "6"
    assert show("--model", "6") == ["no verdicts in this period"]
    assert [line.split(",")[0] for line in show("--csv", "--rejects", "--region", "cap")] == ["seq", "4"]
    assert [line.split(",")[0] for line in show("--csv", "--decision", "reject")] == ["seq", "2"]
    show("--label", "2", "good", "--by", "Ada")
    assert [line.split(",")[0] for line in show("--csv", "--labelled", "good")] == ["seq", "2"]
    assert show("--labelled", "defect") == ["no verdicts in this period"]
    assert show("--labels", "--region", "cap")[0].startswith("0 of 0 labelled")


def test_several_journals_are_counted_and_listed_together(show, tmp_path):
    other = tmp_path / "other.sqlite"
    with contextlib.closing(Journal(other)) as writer:
        writer.write(make_row(camera="third", decision="reject"))
        writer.write(make_row(camera="left"))
    lines = [line.split() for line in show(str(other))]
    assert [(line[0], line[-5]) for line in lines[1:]] == [("left", "3"), ("right", "4"), ("third", "1"), ("all", "8")]
    assert show(str(other), "--camera", "third")[1].split()[2] == "1"
    listed = [line.split()[2:4] for line in show(str(other), "--rejects")]
    assert listed == [["2", "reject"], ["4", "fault"], ["1", "reject"]]
    assert json.loads("\n".join(show(str(other), "--per", "day", "--json")))["all"]["total"] == 8


def test_a_journal_that_is_named_twice_is_an_error(show, journal, tmp_path, capsys):
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(journal.path.read_bytes())
    for other in (journal.path, copy):
        assert main([str(journal.path), str(other)]) == 1
        assert "is named twice" in capsys.readouterr().err


def test_a_score_that_another_program_wrote_as_text_is_shown(show, journal):
    with contextlib.closing(sqlite3.connect(journal.path)) as client, client:
        client.execute("UPDATE verdicts SET score = 'abc' WHERE seq = 2")
    assert show("--rejects")[0].endswith("A-1 score abc, threshold 0.5 day/1.png day/1.overlay.jpg")
    assert json.loads(show("--rejects", "--json")[0])["relative_score"] is None
    assert "abc" in show("--csv")[2]


def test_one_part_and_moments_in_words(show):
    assert show("--part", "A-1")[-1].split()[-5] == "6"
    assert show("--part", "A-2") == ["no verdicts in this period"]
    assert len(show("--part", "A-1", "--rejects")) == 2
    assert show("--since", "yesterday")[-1].split()[-5] == "6"
    assert show("--since", "today", "--until", "today") == ["no verdicts in this period"]
    later = time.strftime("%H:%M", time.localtime(time.time() + 120))  # of yesterday
    assert show("--since", later)[-1].split()[-5] == "6"
    now = time.strftime("%H:%M:%S", time.localtime(time.time() - 1))
    assert show("--since", now) == ["no verdicts in this period"]


def test_rejects_with_their_pictures(show, tmp_path):
    first, second = show("--rejects", "--pictures", str(tmp_path / "pictures"))
    assert first.endswith(
        f"2 reject left/frame A-1 1.50 (score 0.75, threshold 0.5) {tmp_path / 'pictures' / 'day' / '1.png'}"
    )
    assert second.endswith('4 fault  right/cap A-1 lost, "the" cable')
    records = [json.loads(line) for line in show("--rejects", "--json")]
    assert [(found["seq"], found["picture"]) for found in records] == [(2, "day/1.png"), (4, "")]
    assert [(found["relative_score"], found["score"]) for found in records] == [(1.5, 0.75), (None, None)]
    assert len(records[0]["journal"]) == 8


def test_a_debounced_decision_is_shown_with_its_true_comparison_and_its_frames(show, journal):
    reason = "debounced: 2 of the last 3 frames not passed (5, 6); 2 make a reject"
    with contextlib.closing(Journal(journal.path)) as writer:
        writer.write(make_row(decision="reject", score=0.25, reason=reason))
    assert show("--rejects")[-1].endswith(f"7 reject left/frame A-1 0.50 (score 0.25, threshold 0.5); {reason}")


def test_text_of_other_programs_cannot_forge_a_line(show, journal):
    with contextlib.closing(Journal(journal.path)) as writer:
        writer.write(make_row(decision="reject", score=0.75, part="A\x1dB", reason="x\n2026-11-24 pass\x1b[2K"))
    assert show("--rejects")[-1].endswith(r"A\x1dB 1.50 (score 0.75, threshold 0.5); x\n2026-11-24 pass\x1b[2K")


def test_a_camera_that_the_journal_does_not_know_is_an_error(show, journal, capsys):
    assert main([str(journal.path), "--camera", "lefft"]) == 1
    error = capsys.readouterr().err
    assert error == "stfpm-journal: error: got camera 'lefft'; expected one that the journal knows: left, right\n"


@pytest.mark.parametrize("show_what", ["--csv", "--rejects"])
def test_closed_pipe_ends_the_command_without_a_message(journal, show_what):
    with contextlib.closing(Journal(journal.path, "normal")) as writer:
        writer.write_late([make_row(decision="reject", score=0.75)] * 3000)
    code = "import sys; from stfpm_runtime.line.journal.command.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, str(journal.path), show_what]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


def test_csv_cells_are_no_formulas(journal, show):
    with contextlib.closing(Journal(journal.path)) as writer:
        for part in ("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "A-1"):
            writer.write(make_row(part=part, score=-0.5))
    rows = list(csv.DictReader(io.StringIO("\n".join(show("--csv")))))[-6:]
    assert [row["part"] for row in rows] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "A-1"]
    assert {row["score"] for row in rows} == {"-0.5"}


def test_csv_is_read_by_others(show, journal):
    rows = list(csv.DictReader(io.StringIO("\n".join(show("--csv")))))
    assert list(rows[0]) == [*COLUMNS, "relative_score"]
    assert [row["decision"] for row in rows] == journal.decisions
    assert rows[3]["reason"] == 'lost, "the" cable'
    assert [row["relative_score"] for row in rows] == ["0.5", "1.5", "0.5", "", "0.5", "0.5"]
    assert rows[3]["score"] == ""


def test_events(show, journal):
    from stfpm_runtime.line.journal.rows import EventRow

    with contextlib.closing(Journal(journal.path)) as writer:
        writer.write_events(
            [
                EventRow(0, utc(), 1, 1, "left", "cam", "lost", "cable"),
                EventRow(0, utc(), 1, 1, "", "", "started", ""),
            ]
        )
    first, second = show("--events")
    assert first.endswith(" left: lost cable")
    assert second.rstrip().endswith(" line: started")
    assert json.loads(show("--events", "--json")[0])["detail"] == "cable"


def test_journal_is_read_while_it_is_written(show, journal):
    with contextlib.closing(Journal(journal.path)) as writer:
        writer.write(make_row())
        assert show()[1].split()[2] == "3"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "the file is empty"), (b"text" * 100, "cannot be read as a journal")],
)
def test_file_that_is_no_journal_is_an_error(tmp_path, capsys, content, message):
    path = tmp_path / "none.sqlite"
    if content is not None:
        path.write_bytes(content)
    assert main([str(path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["--since", "monday"],
        ["--since", "99999999999999999999d"],
        ["--since", "9999-12-31T23:59"],
        ["--shift", "9999-12-31/night"],
        ["--label", "99999999999999999999", "good", "--by", "Ada"],
        ["--per", "hour", "--csv"],
        ["--part", "A-1", "--events"],
        ["--csv", "--json"],
        ["--csv", "--labels"],
        ["--resend", "mes", "--json"],
        ["--decision", "pass"],
        ["--per", "shift", "--shifts", "early=6"],
        ["--shifts", "early=06:00"],
        ["--events", "--region", "cap"],
        ["b", "--label", "1", "good", "--by", "Ada"],
    ],
)
def test_bad_usage_is_status_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["a", *argv])
    assert caught.value.code == 2
