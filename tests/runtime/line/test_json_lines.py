"""JSON lines follow the journal: none lost, none double, whatever happens to the file."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from stfpm_runtime.line.journal.dead_letters import path_of
from stfpm_runtime.line.journal.recorder import Recorder
from stfpm_runtime.line.observers.heartbeat import Heartbeat
from stfpm_runtime.line.outputs.json_lines import JsonLinesOutput
from stfpm_runtime.line.outputs.worker import OutputWorker

from .conftest import read_lines, wait_until
from .test_journal import make_row


@pytest.fixture
def recorder(journal):
    with contextlib.closing(Recorder(journal.path, "5" * 64, "normal")) as recorder:
        yield recorder


@pytest.fixture
def lines(tmp_path) -> Path:
    return tmp_path / "line.jsonl"


@pytest.fixture
def follow(journal, lines, recorder):
    """Follows until the end of the block, and then to the end of the journal."""

    @contextlib.contextmanager
    def follow(max_bytes: float = 1e9):
        with OutputWorker(journal.path, JsonLinesOutput(lines, max_bytes), recorder.log_event, Heartbeat()) as worker:
            yield worker

    return follow


def assert_agree(lines: Path, journal) -> None:
    """The lines, those of FILE.1 included, are the journal's rows."""
    previous = lines.with_name("line.jsonl.1")
    found = [*(read_lines(previous) if previous.exists() else []), *read_lines(lines)]
    assert found == journal.sent()


def test_lines_are_the_rows_of_the_journal_at_once(recorder, follow, lines, journal):
    with follow() as worker:
        for number in range(3):
            recorder.keep(make_row(part=f"A-{number}"))
            worker.enqueue()
            wait_until(lambda: lines.exists() and len(read_lines(lines)) == number + 1)  # noqa: B023 (called at once)
    assert_agree(lines, journal)
    assert list(read_lines(lines)[0])[:3] == ["journal", "seq", "time"]


@pytest.mark.parametrize("cut", [0, 1, 50, 10_000])
def test_lines_are_completed_after_a_crash(recorder, follow, lines, journal, cut):
    """Of a file of about 6 kB, so much is lost at its end."""
    for _ in range(10):
        recorder.keep(make_row())
    with follow():
        pass
    recorder.keep(make_row(part="while no output ran"))
    data = lines.read_bytes()
    lines.write_bytes(data[: max(0, len(data) - cut)])
    with follow():
        pass
    assert_agree(lines, journal)


def test_file_that_is_full_is_renamed_and_the_cursor_found_there(recorder, follow, lines, journal):
    for _ in range(4):
        recorder.keep(make_row())
    lines.touch(0o600)
    with follow(max_bytes=100):
        pass
    assert lines.read_bytes() == b""
    assert lines.stat().st_mode & 0o777 == 0o600
    assert len(read_lines(lines.with_name("line.jsonl.1"))) == 4
    recorder.keep(make_row())
    with follow():
        pass
    assert [line["seq"] for line in read_lines(lines)] == [5]
    assert_agree(lines, journal)


def test_new_journal_begins_again_at_one_in_the_same_file(recorder, follow, lines, journal):
    recorder.keep(make_row())
    with follow():
        pass
    recorder.close()
    journal.path.unlink()
    with contextlib.closing(Recorder(journal.path, "5" * 64)) as second:
        second.keep(make_row(part="new"))
        with follow():
            pass
    assert [(line["seq"], line["part"]) for line in read_lines(lines)] == [(1, "A-1"), (1, "new")]
    assert len({line["journal"] for line in read_lines(lines)}) == 2


@pytest.mark.parametrize("content", ["precious notes\n", "precious notes without an end", '{"decision": "pass"}\n'])
def test_file_of_others_is_left_alone(recorder, follow, lines, journal, content, caplog):
    lines.write_text(content)
    recorder.keep(make_row())
    with follow():
        wait_until(lambda: "is not a verdict file of stfpm-inspect" in caplog.text)
    assert lines.read_text() == content
    recorder.do_maintenance()
    assert journal.events()[0].kind == "output"


def test_lines_are_complete_after_a_failure(recorder, follow, lines, journal):
    """A folder stands in the way, and is removed later."""
    lines.mkdir()
    with follow() as worker:
        for _ in range(3):
            recorder.keep(make_row())
            worker.enqueue()
        wait_until(lambda: worker.failure)
        lines.rmdir()
        wait_until(lambda: lines.is_file() and len(read_lines(lines)) == 3)
    recorder.do_maintenance()
    assert [event.detail for event in journal.events()][-1] == "json_lines: reached again"
    assert_agree(lines, journal)


def test_a_damaged_file_of_refused_verdicts_does_not_concern_the_lines(recorder, follow, lines, journal):
    path_of(journal.path).write_bytes(b"no database" * 100)
    with follow() as worker:
        recorder.keep(make_row())
        worker.enqueue()
    assert not worker.failures
    assert_agree(lines, journal)


def test_file_that_is_removed_meanwhile_is_begun_anew(recorder, follow, lines):
    with follow() as worker:
        recorder.keep(make_row())
        worker.enqueue()
        wait_until(lambda: lines.exists() and lines.stat().st_size)
        lines.unlink()  # by logrotate, say
        wait_until(lines.exists)
        recorder.keep(make_row())
        worker.enqueue()
        wait_until(lambda: lines.read_text().count("\n") == 2)  # complete: all that the journal holds
    assert [json.loads(line)["seq"] for line in lines.read_text().splitlines()] == [1, 2]


def test_verdicts_that_were_deleted_before_they_were_written_are_an_event(recorder, follow, lines, journal):
    recorder.keep(make_row())
    with follow():
        pass
    for _ in range(9):
        recorder.keep(make_row())
    with contextlib.closing(sqlite3.connect(journal.path)) as other, other:
        other.execute("DELETE FROM verdicts WHERE seq <= 8")
    with follow() as worker:
        pass
    assert [line["seq"] for line in read_lines(lines)] == [1, 9, 10]
    assert worker.deleted.total == 7
    recorder.do_maintenance()
    assert "json_lines: 7 verdicts (2 to 8) deleted from the journal before delivery" in [
        event.detail for event in journal.events()
    ]


def test_numbers_that_are_used_again_are_noticed(recorder, follow, lines, journal):
    for _ in range(3):
        recorder.keep(make_row(time="2026-11-24T06:00:00.000Z"))
    recorder.keep(make_row(time="2026-11-24T07:00:00.000Z"))
    with follow():
        pass
    recorder.close()
    with contextlib.closing(sqlite3.connect(journal.path)) as other, other:  # as a copy that was made before the fourth
        other.execute("DELETE FROM verdicts WHERE seq = 4")
        other.execute("UPDATE sqlite_sequence SET seq = 3 WHERE name = 'verdicts'")
    with contextlib.closing(Recorder(journal.path, "5" * 64)) as again:
        for _ in range(2):
            again.keep(make_row(time="2026-11-24T08:00:00.000Z", part="new"))
        with OutputWorker(journal.path, JsonLinesOutput(lines, 1e9), again.log_event, Heartbeat()):
            pass
        again.do_maintenance()
    assert [(line["seq"], line["part"]) for line in read_lines(lines)][4:] == [(4, "new"), (5, "new")]
    assert any("restored from a copy" in event.detail for event in journal.events())
