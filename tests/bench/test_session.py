"""Measuring real processes of models whose answers are known, and processes that fail."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from stfpm_bench.client import BenchProcess, Contender, model_contender
from stfpm_bench.protocol import STAGES, make_frame
from stfpm_bench.session import INTERRUPTED, MEMORY_FRAMES, TIME_LIMIT, Plan, measure
from stfpm_runtime.errors import EngineError, StfpmError

SHORT = Plan(time_limit_s=0.2, cold_starts=2, idle_s=(0.05,), idle_repeats=2, batches=(1, 3))
TARGET = """
import sys
from stfpm_bench.protocol import serve

class Target:
    def facts(self): return {"provider": "test"}
    def inspect(self):
        %s
        return {"network": 2.0}
    def inspect_batch(self, size): raise NotImplementedError

sys.exit(serve(Target, lambda error: {"text": str(error)} if isinstance(error, ValueError) else None))
"""


@pytest.fixture
def contender(make_model):
    def contender(name="bottle.onnx", **changes):
        return model_contender(make_model(name, **changes), name, "auto", None, (64, 48))

    return contender


def script(action: str) -> Contender:
    """A contender that is a script."""
    return Contender("other", (sys.executable, "-c", TARGET % action), {"PYTHONPATH": os.pathsep.join(sys.path)})


def test_models_are_measured_by_turns(contender):
    session = measure([contender("a.onnx"), contender("b.onnx", precision="int8")], SHORT)
    assert session.stopped_by == TIME_LIMIT
    assert not session.interrupted
    for tally, precision in zip(session.tallies, ("fp32", "int8"), strict=True):
        assert tally.facts["provider"] == "CPUExecutionProvider"
        assert (tally.facts["precision"], tally.facts["threshold"], tally.facts["name"]) == (precision, 50, "bottle")
        assert len(tally.starts_ms) == 2
        assert min(tally.starts_ms) > 20  # no Python starts faster
        assert tally.peak_bytes is None or 10e6 < tally.peak_bytes < 1e9
        assert tally.installed_bytes > 10e6  # NumPy alone has more
        latency = tally.latency(session.stopped_by)
        assert latency.frames == tally.rounds.size >= 15
        assert latency.p50_ms <= latency.p90_ms <= latency.p99_ms <= latency.max_ms
        assert latency.p50_interval_ms[0] <= latency.p50_ms <= latency.p50_interval_ms[1]
        assert list(latency.stages_ms) == list(STAGES)
        assert latency.stages_ms["resize"] + latency.stages_ms["network"] < latency.p50_ms * 1.5
        assert [idle.idle_s for idle in tally.idle()] == [0.05]
        assert len(tally.idle()[0].frames_ms) == 2
        assert [one.batch for one in tally.throughput()] == [1, 3]
    turns = [len(tally.turns) for tally in session.tallies]
    assert turns[0] == turns[1]


def test_precise_p50_ends_the_measurement_before_the_time_limit():
    plan = Plan(time_limit_s=120, cold_starts=0, idle_s=(), batches=())
    session = measure([script("import time; time.sleep(0.002)")], plan)
    assert session.stopped_by == "precision"
    (tally,) = session.tallies
    assert tally.rounds.size >= 200
    assert tally.cold_start() is None
    low, high = tally.latency("").p50_interval_ms
    assert (high - low) / tally.latency("").p50_ms < 0.02


@pytest.mark.parametrize("stage", ["cold starts", "single frames", "batches"])
def test_interrupted_run_keeps_what_was_measured(contender, stage):
    def log(line: str) -> None:
        if line.startswith(stage):
            raise KeyboardInterrupt

    session = measure([contender()], SHORT, log)
    assert session.interrupted
    (tally,) = session.tallies
    assert tally.throughput() == ()
    if stage == "cold starts":
        assert session.stopped_by == INTERRUPTED
        assert tally.latency(session.stopped_by) is None
    else:
        assert tally.latency(session.stopped_by).frames >= 15
        assert bool(tally.idle()) == (stage == "batches")


def test_error_of_the_process_is_raised_with_its_own_message(contender, tmp_path):
    missing = model_contender(tmp_path / "absent.onnx", "absent", "auto", None, (64, 48))
    with pytest.raises(StfpmError, match=r"absent\.onnx: no such file"):
        measure([missing], SHORT)
    with pytest.raises(StfpmError, match="the score is nan or the map not finite"):
        measure([contender("nan.onnx", factor=float("nan"))], SHORT)
    with pytest.raises(StfpmError, match="too hot"):
        measure([script("raise ValueError('too hot')")], SHORT)


def test_bug_in_the_process_keeps_its_traceback_and_ends_the_run(capfd):
    with pytest.raises(EngineError, match="ended with status 1; its own words are above"):
        measure([script("1 / 0")], SHORT)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_killed_process_raises_an_error_that_names_the_model(contender):
    process = BenchProcess(contender())
    process.wait_ready()
    os.kill(process._process.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match=r"bottle\.onnx: its process ended with status -9; was it killed for its mem"):
        process.request("frames", warm=0, count=MEMORY_FRAMES)
    process.close()


def test_printed_lines_of_a_library_are_not_read_as_answers():
    session = measure([script("print('hello from a library')")], SHORT)
    assert session.tallies[0].facts == {"provider": "test"}
    assert session.tallies[0].throughput() == ()  # it takes single frames alone


def test_frame_is_the_same_for_all_contenders():
    assert make_frame(100, 70).shape == (70, 100, 3)
    assert (make_frame(100, 70) == make_frame(1280, 720)[:70, :100]).all()
