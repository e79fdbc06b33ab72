"""Where an output is in the journal, when the journal or the cursor is not what it was; and how old verdicts are."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from runtime.line.outputs.conftest import Writer, wait_until
from stfpm_runtime.lifecycle import Backoff, stop_all
from stfpm_runtime.line.config.outputs import ModbusOptions, OpcUaOptions, OutputTables
from stfpm_runtime.line.journal.cursor import CursorFile, Position
from stfpm_runtime.line.journal.rows import utc
from stfpm_runtime.line.journal.tail import JournalTail, age_ms
from stfpm_runtime.line.observers.heartbeat import Heartbeat
from stfpm_runtime.line.outputs import open_network_outputs
from stfpm_runtime.line.outputs.base import OutputDriver
from stfpm_runtime.line.outputs.worker import OutputWorker


def cursor_of(writer, name: str = "webhook") -> Path:
    return CursorFile(writer.path, name).path


def deliver(peer, follow, writer, count: int) -> None:
    """Deliver so many verdicts, and end."""
    (worker,), _ = follow(peer.options)
    writer.write(count)
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) >= count)
    worker.stop(time.monotonic() + 10)


def test_deleted_verdicts_are_an_event_with_their_count(make_peer, writer, follow):
    peer = make_peer("webhook")
    (worker,), events = follow(peer.options)
    writer.write(3000)
    worker.enqueue()
    wait_until(lambda: worker.failure)
    writer.journal.delete_oldest(None, 0, 1000)
    wait_until(lambda: any("deleted" in log_event for log_event in events))
    assert "webhook: 1000 verdicts (1 to 1000) deleted from the journal before delivery" in events
    writer.journal.delete_oldest(None, 0, 2000)
    wait_until(lambda: worker.deleted.total == 3000)
    writer.write(1)
    peer.start()
    wait_until(lambda: peer.seqs() == [3001], 30)
    worker.stop(time.monotonic() + 10)
    assert "webhook: 2000 verdicts (1001 to 3000) deleted from the journal before delivery" in events


def test_a_restored_journal_is_noticed_and_its_new_verdicts_are_delivered(make_peer, writer, follow, tmp_path):
    peer = make_peer("webhook")
    peer.start()
    (worker,), _ = follow(peer.options)
    writer.write(5)
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) >= 5)
    with closing(sqlite3.connect(writer.path)) as source, closing(sqlite3.connect(tmp_path / "copy")) as copy:
        source.backup(copy)
    time.sleep(0.01)
    writer.write(5)
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) >= 10)
    worker.stop(time.monotonic() + 10)
    writer.journal.close()
    for suffix in ("-wal", "-shm"):
        writer.path.with_name(writer.path.name + suffix).unlink(missing_ok=True)
    shutil.copy(tmp_path / "copy", writer.path)
    again = Writer(writer.path)
    time.sleep(0.01)
    again.write(8)  # 6 to 13: the numbers 6 to 10 are used again, and the journal is not behind the cursor
    (worker,), events = follow(peer.options)
    wait_until(lambda: len(peer.seqs()) >= 18)
    again.journal.close()
    assert peer.seqs()[10:] == list(range(6, 14))
    assert "the journal was restored from a copy: verdict 10, delivered last, is not in it" in events[0]
    assert "continues after verdict 5" in events[0]


def test_a_journal_behind_the_cursor_is_noticed(make_peer, writer, follow):
    peer = make_peer("webhook")
    peer.start()
    deliver(peer, follow, writer, 5)
    data = json.loads(cursor_of(writer).read_text())
    cursor_of(writer).write_text(json.dumps({"journal": data["journal"], "seq": 5000, "event": 0}))
    (worker,), events = follow(peer.options)
    writer.write(2)
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) >= 7)
    assert peer.seqs() == [1, 2, 3, 4, 5, 6, 7]
    assert "verdict 5000, delivered last, is not in it; continues after verdict 5" in events[0]


def test_another_journal_is_delivered_from_its_beginning_and_is_an_event(make_peer, writer, follow):
    peer = make_peer("webhook")
    peer.start()
    writer.write(2)
    cursor_of(writer).write_text('{"journal": "00000000", "seq": 17}')
    _, events = follow(peer.options)
    wait_until(lambda: peer.seqs() == [1, 2])
    assert "before: journal 00000000, delivered up to verdict 17" in events[0]


def test_damaged_cursor_delivers_everything_again_and_is_an_event(make_peer, writer, follow):
    peer = make_peer("webhook")
    peer.start()
    deliver(peer, follow, writer, 3)
    cursor_of(writer).write_bytes(b"\0" * 100)
    _, events = follow(peer.options)
    wait_until(lambda: peer.seqs() == [1, 2, 3, 1, 2, 3])
    assert "the cursor's file is damaged; delivers the whole journal again" in events[0]


def test_output_without_a_cursor_is_an_event(make_peer, writer):
    events: list[str] = []
    options = make_peer("webhook").options
    (worker,) = open_network_outputs(options, writer.path, lambda kind, text: events.append(text), Heartbeat())
    worker.start()
    worker.stop(time.monotonic() + 5)
    assert events[0] == "webhook: has no cursor yet; begins with the verdicts made from now on"


def age_by(seconds: float, writer, seqs: str) -> None:
    """Make verdicts look as if an earlier run had written them so long ago."""
    with closing(sqlite3.connect(writer.path, timeout=20)) as connection, connection:
        moment = utc(time.time() - seconds)
        connection.execute(f"UPDATE verdicts SET run = 0, time = ? WHERE seq IN ({seqs})", (moment,))


@pytest.mark.parametrize("kind", ["modbus", "opcua"])
def test_verdicts_older_than_max_age_are_not_written(make_peer, writer, follow, kind):
    peer = make_peer(kind)
    peer.start()
    writer.write(6)
    age_by(3600, writer, "1, 2, 3")
    age_by(-3600, writer, "4")  # of the future: the clock was set back, and its age is unknown
    cursor_of(writer, kind).write_bytes(b"")  # a power cut
    modbus = ModbusOptions("127.0.0.1", port=peer.port)
    opcua = OpcUaOptions(f"opc.tcp://127.0.0.1:{peer.port}/", seq="ns=2;s=Line.Seq", decision="ns=2;s=Line.Decision")
    tables = OutputTables(modbus=(modbus,)) if kind == "modbus" else OutputTables(opcua=(opcua,))
    (worker,), events = follow(tables)
    wait_until(lambda: peer.seqs() == [5, 6], 30)
    assert f"{kind}: 4 verdicts (1 to 4) older than max_age_s = 60 and not written" in events
    assert worker.expired.total == 4
    assert not worker.failure


def test_messages_carry_the_age(peer, writer, follow):
    writer.write(1)
    time.sleep(0.3)
    cursor_of(writer, peer.kind).write_text('{"journal": "", "seq": 0}')
    peer.start()
    follow(peer.options)
    wait_until(lambda: peer.seqs())
    lines = peer.lines()
    if peer.kind == "modbus":
        high, low = next(line["registers"] for line in lines if line["address"] == 24)
        age = high << 16 | low
    elif peer.kind == "opcua":
        age = next(line["value"] for line in lines if line["name"] == "Age")
    elif peer.kind == "mqtt":
        age = next(line["payload"]["age_ms"] for line in lines if "/verdict/" in line.get("topic", ""))
    else:
        age = lines[0]["age_ms"]
    assert 300 <= age < 60_000


def test_the_age_of_a_verdict():
    now_ns = time.monotonic_ns()
    recent = {"run": 2, "monotonic_ns": now_ns - 5_000_000_000, "time": utc(0)}
    assert 5000 <= age_ms(recent, 2, now_ns) < 6000, "of this run: by the machine's clock, whatever the wall clock says"
    earlier = {"run": 1, "monotonic_ns": 0, "time": utc(time.time() - 100)}
    assert 99_000 <= age_ms(earlier, 2, now_ns) < 101_000
    behind = {"run": 1, "monotonic_ns": 0, "time": utc(time.time() - 1)}
    assert age_ms(behind, 2, now_ns - 3_600_000_000_000) >= 3_600_000, "not younger than this run"
    future = {"run": 1, "monotonic_ns": 0, "time": utc(time.time() + 100)}
    assert age_ms(future, 2, now_ns) is None


def test_the_cursor_is_flushed_to_the_disk_but_not_for_each_verdict(tmp_path, monkeypatch):
    flushed: list[int] = []
    monkeypatch.setattr(os, "fdatasync", flushed.append)
    monkeypatch.setattr(os, "fsync", flushed.append)
    cursor = CursorFile(tmp_path / "line.sqlite", "mqtt")
    for seq in range(1000):
        cursor.write(Position("a", seq))
    assert 3 <= len(flushed) <= 6, "the file and its folder when it is made, and once a second"
    cursor.close()
    assert cursor.read() == Position("a", 999)
    assert cursor.path.stat().st_mode & 0o777 == 0o640


def test_age_of_a_refused_verdict_of_an_earlier_journal_is_that_of_the_wall_clock(writer):
    tail = JournalTail(writer.path, "plc", True, lambda text: None)
    with tail.opened():
        record = {"run": writer.run, "monotonic_ns": time.monotonic_ns(), "time": utc(time.time() - 100)}
        assert tail.age_ms({"journal": writer.journal.id, **record}) < 10_000
        assert 99_000 <= tail.age_ms({"journal": "earlier", **record}) < 110_000


class FaultyDriver(OutputDriver):
    """A driver that breaks the rules of `OutputDriver.send_verdicts`."""

    batch = 100

    def __init__(self, name: str, answer) -> None:
        self.name, self.answer, self.delivered = name, answer, []

    def open(self) -> None: ...

    def send_verdicts(self, records):
        self.delivered.append([record["seq"] for record in records])
        return self.answer(records)


SECRET = "".join(("hidden", "word"))


def nothing(records) -> list[str]:
    return []


def fail(records):
    raise ValueError(f"Invalid header value {SECRET}")


@pytest.mark.parametrize(("answer", "name"), [(nothing, "RuntimeError"), (fail, "ValueError")])
def test_driver_with_a_bug_is_retried_and_moves_no_cursor(writer, answer, name, caplog):
    driver, events = FaultyDriver("faulty", answer), []
    worker = OutputWorker(writer.path, driver, lambda kind, text: events.append(text), Heartbeat())
    worker.start()
    writer.write(3)
    worker.enqueue()
    wait_until(lambda: worker.failures >= 3)
    assert worker.failure == f"internal error: {name}"
    assert all(seqs and seqs == [1, 2, 3][: len(seqs)] for seqs in driver.delivered)
    assert worker.lag_s > 0
    assert SECRET not in caplog.text + "".join(events)
    assert "in _tell" in caplog.text, "with its traceback"
    driver.answer = lambda records: [""] * len(records)
    wait_until(lambda: not worker.failure)
    wait_until(lambda: worker.lag_s == 0)
    worker.stop(time.monotonic() + 5)
    assert json.loads(cursor_of(writer, "faulty").read_text())["seq"] == 3


def test_stop_between_two_attempts_is_followed_by_a_last_one(writer):
    driver = FaultyDriver("faulty", fail)
    worker = OutputWorker(writer.path, driver, lambda kind, text: None, Heartbeat())
    worker._backoff = Backoff(60.0, 60.0)
    worker.start()
    writer.write(3)
    worker.enqueue()
    wait_until(lambda: worker.failures)
    driver.answer = lambda records: [""] * len(records)
    worker.stop(time.monotonic() + 5)
    assert driver.delivered[-1] == [1, 2, 3]
    assert json.loads(cursor_of(writer, "faulty").read_text())["seq"] == 3


def test_all_end_within_one_budget(writer):
    go = threading.Event()

    def wait(records):
        go.wait(20)
        return [""] * len(records)

    workers = [
        OutputWorker(writer.path, FaultyDriver(name, wait), lambda kind, text: None, Heartbeat())
        for name in ("first", "second", "third")
    ]
    for worker in workers:
        worker.start()
    writer.write(1)
    for worker in workers:
        worker.enqueue()
    started_s = time.monotonic()
    stop_all(workers, time.monotonic() + 0.5)
    assert time.monotonic() - started_s < 1.4, "not half a second for each"
    go.set()
    stop_all(workers, time.monotonic() + 10.0)
    assert all(json.loads(cursor_of(writer, worker.name).read_text())["seq"] == 1 for worker in workers)
