"""The heartbeat rises while frames can be judged and journalled, and stops otherwise."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing

import pytest

from stfpm_runtime.engines.fake import failing, first_channel, not_a_number
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.observers.heartbeat import Heartbeat

from .conftest import wait_until

ONCE = CameraOptions("left", "0", trigger="every", every_ms=3_600_000)
"""A camera that is idle after its first frame."""


def stands_still(heartbeat: Heartbeat) -> bool:
    before = heartbeat.count
    time.sleep(0.5)
    return heartbeat.count == before


def rises(heartbeat: Heartbeat) -> bool:
    before = heartbeat.count
    wait_until(lambda: heartbeat.count >= before + 3)
    return True


def test_heartbeat_rises_on_an_idle_line(run_line, make_options):
    running = run_line(make_options(ONCE))
    assert rises(running.line.heartbeat)
    running.finish()


def test_engine_that_hangs_stops_the_heartbeat(run_line):
    hang, go = threading.Event(), threading.Event()

    def answer(images):
        if hang.is_set():
            go.wait(20)
        return first_channel(images)

    running = run_line(answer=answer)
    assert rises(running.line.heartbeat)
    hang.set()
    time.sleep(0.3)
    assert stands_still(running.line.heartbeat)
    hang.clear()
    go.set()
    assert rises(running.line.heartbeat)
    running.finish()


@pytest.mark.parametrize("broken", [failing, not_a_number])
def test_engine_that_fails_stops_the_heartbeat_until_it_works_again_without_a_frame(
    run_line, make_options, monkeypatch, broken
):
    monkeypatch.setattr("stfpm_runtime.line.inspect.PROBE_S", 0.05)
    answers = [broken]
    running = run_line(make_options(ONCE), answer=lambda images: answers[0](images))
    wait_until(lambda: running.journal.decisions == ["fault"])
    assert stands_still(running.line.heartbeat)
    answers[0] = first_channel
    assert rises(running.line.heartbeat)
    assert len(running.finish()) == 1, "no frame came"


@pytest.mark.parametrize("camera", [ONCE, CameraOptions("left", "0")], ids=["idle", "busy"])
def test_locked_journal_stops_the_heartbeat(run_line, make_options, camera):
    running = run_line(make_options(camera))
    wait_until(lambda: running.journal.decisions)
    assert rises(running.line.heartbeat)
    with closing(sqlite3.connect(running.journal.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(1.5)  # the journal is looked at once a second
        assert stands_still(running.line.heartbeat)
        time.sleep(5)  # the loop has given up waiting for the lock, and turns
        assert stands_still(running.line.heartbeat)
        other.execute("ROLLBACK")
    assert rises(running.line.heartbeat)
    running.finish()
