"""The life-cycle of a thread's owner, the one budget of a stop, and the back-off."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from stfpm_runtime.lifecycle import NICENESS, Backoff, Worker, call_without_real_time, lower_priority, stop_all


class Counter(Worker):
    """Count until a stop is requested, and then for `last_s` seconds more."""

    def __init__(self, last_s: float = 0.0) -> None:
        super().__init__("counter")
        self.last_s = last_s
        self.ended_s = 0.0

    def run(self) -> None:
        self.stopping.wait()
        time.sleep(self.last_s)
        self.ended_s = time.monotonic()


def test_worker_runs_between_start_and_stop_which_may_be_called_twice():
    with Counter() as worker:
        assert not worker.ended_s
    assert worker.ended_s
    worker.stop(0.0)
    Counter().stop(0.0)  # never started


def test_worker_whose_work_fails_begins_again(monkeypatch, caplog):
    monkeypatch.setattr("stfpm_runtime.lifecycle.RESTART_DELAY_S", 0.01)

    class Failing(Counter):
        restarts_after_error = True
        begun = 0

        def run(self) -> None:
            self.begun += 1
            if self.begun < 3:
                raise RuntimeError("a bug")
            super().run()

    with Failing() as worker:
        until_s = time.monotonic() + 10
        while worker.begun < 3 and time.monotonic() < until_s:
            time.sleep(0.01)
        assert worker.is_alive
    assert worker.ended_s
    assert caplog.text.count("the thread counter begins again") == 2


def test_workers_stop_together_within_one_budget():
    workers = [Counter(0.1), Counter(5.0), Counter(0.1)]
    for worker in workers:
        worker.start()
    began_s = time.monotonic()
    stop_all(workers, time.monotonic() + 0.5)
    assert time.monotonic() - began_s < 3.0
    assert [bool(worker.ended_s) for worker in workers] == [True, False, True]


def test_worker_that_raises_does_not_keep_the_others_from_being_stopped():
    class Broken(Counter):
        def wake(self) -> None:
            raise RuntimeError("a bug")

    workers = [Counter(), Broken(), Counter()]
    for worker in workers:
        worker.start()
    with pytest.raises(RuntimeError, match="a bug"):
        stop_all(workers, time.monotonic() + 5.0)
    assert workers[0].ended_s
    assert workers[2].ended_s


def test_waits_double_up_to_the_longest_and_begin_again_after_a_success():
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next_s() for _ in range(4)] == [0.5, 1.0, 2.0, 3.0]
    backoff.reset()
    assert backoff.next_s() == 0.5


def test_jitter_shortens_a_wait_by_its_share_at_most():
    backoff = Backoff(8.0, 8.0, jitter=0.5)
    waits_s = [backoff.next_s() for _ in range(100)]
    assert 4.0 <= min(waits_s) < max(waits_s) <= 8.0
    assert sum(waits_s) / 100 == pytest.approx(6.0, abs=1.0)


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="a system without Linux's scheduler")
def test_what_a_line_starts_gives_up_its_cores_and_its_priority():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        os.sched_setaffinity(child.pid, {min(os.sched_getaffinity(0))})
        os.sched_setscheduler(child.pid, os.SCHED_BATCH, os.sched_param(0))  # real time itself needs a right to it
        lower_priority(child.pid)
        assert os.sched_getscheduler(child.pid) == os.SCHED_OTHER
        assert os.sched_getaffinity(child.pid) == os.sched_getaffinity(0)
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == NICENESS
        child.communicate(b"\n")
    lower_priority(child.pid)  # it has ended: nothing happens


def _may_schedule_in_real_time() -> bool:
    before = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return False
    os.sched_setscheduler(0, before, os.sched_param(0))
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux schedules single threads")
@pytest.mark.parametrize("keeps_real_time", [True, False])
def test_only_threads_that_verdicts_wait_for_stay_in_real_time(keeps_real_time):
    if not _may_schedule_in_real_time():
        pytest.skip("real-time scheduling needs a right to it")

    class Looks(Worker):
        def run(self):
            self.found = os.sched_getscheduler(0), os.sched_getaffinity(0)

    Looks.keeps_real_time = keeps_real_time
    cores = os.sched_getaffinity(0)
    pinned = {min(cores)}
    os.sched_setaffinity(0, pinned)
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        with Looks("looks") as worker:
            worker.stop(time.monotonic() + 5)
        assert call_without_real_time(lambda: os.sched_getscheduler(0)) == os.SCHED_OTHER
        assert os.sched_getscheduler(0) == os.SCHED_RR
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, cores)
    assert worker.found == ((os.SCHED_RR, pinned) if keeps_real_time else (os.SCHED_OTHER, cores))
