"""The trial of a model in a process of its own, and a swap that is still in force after a restart."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import threading
from pathlib import Path

import pytest

from stfpm_runtime.artifact.golden import golden_path
from stfpm_runtime.errors import ArtifactError, StfpmError
from stfpm_runtime.files import sha256
from stfpm_runtime.line.journal.threshold_changes import new_threshold_change, request_threshold
from stfpm_runtime.line.models import trial as model_trial

from .conftest import is_taken, wait_until
from .test_service import configure, count, parts, start  # noqa: F401 (fixtures)

TOKEN = "a token of ours"


def details(journal, kind: str) -> list[str]:
    return [event.detail for event in journal.events() if event.kind == kind]


@pytest.fixture
def endless(make_model) -> Path:
    return make_model("endless.onnx", "endless")


@pytest.fixture
def line(run_line, black):
    running = run_line(left={"paint": black, "fps": 100.0})
    wait_until(lambda: running.journal.rows())
    return running


def trials() -> list[int]:
    """Return the process ids of the trials that this process has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_trial = b"models.trial" in (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if is_trial and parent == os.getpid():
            found.append(int(folder.name))
    return found


def swap(line, model: Path) -> tuple[threading.Thread, list[StfpmError]]:
    errors: list[StfpmError] = []

    def work() -> None:
        try:
            line.line.model_swap.load_and_swap(model, "Ada")
        except StfpmError as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, errors


def test_model_that_never_answers_is_refused(line, journal, endless, make_model, monkeypatch):
    monkeypatch.setattr(model_trial, "ANSWER_S", 3.0, raising=False)
    used, at = line.line.active_model.model, len(journal.rows())
    thread, errors = swap(line, endless)
    thread.join(30)
    assert not thread.is_alive()
    assert str(errors[0]) == "endless.onnx: did not load and answer within 3 s; export it again"
    assert trials() == []
    assert line.line.active_model.model is used
    assert len(journal.rows()) > at + 50, "the line went on"
    wait_until(lambda: details(journal, "model"))
    assert details(journal, "model")[-1].startswith("refused, by Ada: endless.onnx: did not load")
    line.line.model_swap.load_and_swap(make_model("next.onnx", threshold=0.4), "Ada")  # the next one may come
    assert line.line.active_model.model.path.name == "next.onnx"


def test_engine_that_crashes_in_the_trial_is_refused(line, journal, endless):
    """The test sends the signal that a native library gets when it reads where it must not."""
    thread, errors = swap(line, endless)
    wait_until(trials)
    os.kill(trials()[0], signal.SIGSEGV)
    thread.join(30)
    assert "endless.onnx: the process that loaded it ended with signal 11" in str(errors[0])
    at = len(journal.rows())
    wait_until(lambda: len(journal.rows()) > at + 10)
    assert set(journal.decisions) == {"pass"}


def test_model_file_that_changes_between_its_two_checks_is_refused(line, make_model, monkeypatch):
    path = make_model("next.onnx", threshold=0.4)
    load = model_trial.try_model

    def then_change(*some):
        digest = load(*some)
        make_model("next.onnx", threshold=0.3)
        return digest

    monkeypatch.setattr("stfpm_runtime.line.models.swap.try_model", then_change)
    with pytest.raises(ArtifactError, match="was changed while it was loaded"):
        line.line.model_swap.load_and_swap(path, "Ada")


def test_swap_obeys_the_configured_sha256_and_bounds(run_line, make_options, make_model, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"only its hash is asked for")
    pinned = run_line(make_options(sha256=sha256(tmp_path / "model.onnx")))
    with pytest.raises(ArtifactError, match="the file that the configuration or the journal names"):
        pinned.line.model_swap.load_and_swap(make_model("next.onnx"), "Ada")
    pinned.finish()
    bound = run_line(make_options(threshold=0.9))
    with pytest.raises(StfpmError, match=r"the line: got a threshold of 0\.9; expected 0\.15 to 0\.6"):
        bound.line.model_swap.load_and_swap(make_model("next.onnx", threshold=0.3), "Ada")
    bound.line.model_swap.load_and_swap(make_model("next.onnx", threshold=0.6), "Ada")


@pytest.fixture
def served(configure, start, parts, journal):  # noqa: F811
    """Run a line with a dashboard as a process; return the process and a function that swaps its model."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    pytest.importorskip("prometheus_client")

    def served(keys: str = ""):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = configure(str(parts), 'trigger = "every"\nevery_ms = 100')
        config.write_text(keys + config.read_text())
        at = count(journal)
        process = start(config, "--dashboard", f"127.0.0.1:{port}", STFPM_DASHBOARD_TOKEN=TOKEN)
        wait_until(lambda: count(journal) > at + 3)

        def post(file: str) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            connection.request("POST", "/model", json.dumps({"file": file, "who": "Ada"}), headers)
            status = connection.getresponse().status
            connection.close()
            return status

        return process, post

    return served


def stop(process) -> str:
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    return log


def test_swap_is_in_force_after_a_restart(served, journal, make_model):
    first, other = sha256(make_model()), sha256(make_model("next.onnx", threshold=0.4))
    process, post = served()
    assert post("next.onnx") == 200
    wait_until(lambda: journal.rows()[-1].model == other)
    process.kill()
    process.communicate()
    process, post = served()
    log = stop(process)
    run = [row for row in journal.rows() if row.run == 2]
    assert {(row.model, row.threshold) for row in run} == {(other, 0.4)}
    assert "next.onnx (bottle, fp32, CPUExecutionProvider" in log
    assert any("is used again: Ada chose it at " in detail for detail in details(journal, "model"))
    assert first != other


@pytest.mark.parametrize("change", ["no golden file", "other contents", "gone", "configured anew", "forged"])
def test_swapped_model_that_fails_the_check_is_not_used_after_a_restart(served, journal, make_model, tmp_path, change):
    first = sha256(make_model())
    path = make_model("next.onnx", threshold=0.4)
    process, post = served()
    assert post("next.onnx") == 200
    wait_until(lambda: journal.rows()[-1].model == sha256(path))
    stop(process)
    reasons = {
        "no golden file": "next.golden.npz: no such file",
        "other contents": "its SHA-256 is ",
        "gone": "next.onnx: no such file",
        "configured anew": "the configuration names another model now",
        "forged": "",
    }
    if change == "no golden file":
        golden_path(path).unlink()
    elif change == "other contents":
        make_model("next.onnx", threshold=0.3)
    elif change == "gone":
        path.unlink()
    elif change == "configured anew":
        first = sha256(make_model(threshold=0.45))
    else:
        with contextlib.closing(sqlite3.connect(journal.path, isolation_level=None)) as client:
            client.execute("UPDATE active_model SET path = CAST(x'ff0a' AS TEXT), lowest = 'low'")
    log = stop(served()[0])
    assert {row.model for row in journal.rows() if row.run == 2} == {first}
    if reasons[change]:
        (said,) = [detail for detail in details(journal, "model") if "is not used again: " in detail]
        assert reasons[change] in said
        assert said in log


def test_threshold_for_the_model_before_is_not_restored(served, journal, make_model):
    make_model()
    path = make_model("next.onnx", threshold=0.45)
    process, post = served()
    number = request_threshold(journal.path, new_threshold_change(0.3, "Ada"))
    wait_until(lambda: is_taken(journal.path, number))
    assert post("next.onnx") == 200
    wait_until(lambda: journal.rows()[-1].threshold == 0.45)
    stop(process)
    golden_path(path).unlink()  # the first model is used again
    stop(served()[0])
    assert {row.threshold for row in journal.rows() if row.run == 2} == {0.5}


def test_sighup_puts_the_configured_model_in_force(served, journal, make_model):
    first = sha256(make_model())
    other = sha256(make_model("next.onnx", threshold=0.4))
    process, post = served()
    assert post("next.onnx") == 200
    wait_until(lambda: journal.rows()[-1].model == other)
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: journal.rows()[-1].model == first)
    stop(process)
    stop(served()[0])
    assert {row.model for row in journal.rows() if row.run == 2} == {first}


def test_swap_is_kept_in_a_journal_that_is_begun_while_the_line_runs(line, journal, make_model):
    line.line.model_swap.load_and_swap(make_model("next.onnx", threshold=0.4), "Ada")
    before = journal.id
    for path in journal.path.parent.glob("line.sqlite*"):
        path.unlink()
    wait_until(lambda: journal.path.is_file() and count(journal) and journal.id != before)
    with contextlib.closing(sqlite3.connect(journal.path)) as client:
        assert client.execute("SELECT path FROM active_model").fetchone()[0].endswith("/next.onnx")
