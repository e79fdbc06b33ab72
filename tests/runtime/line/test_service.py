"""`stfpm-inspect --config` as a process: killed, stopped, watched by systemd."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import pytest

from stfpm_runtime.engines.fake import first_channel
from stfpm_runtime.errors import JournalError
from stfpm_runtime.line.journal.chain.verify import Verification
from stfpm_runtime.line.journal.threshold_changes import new_threshold_change, request_threshold, wait_for_result
from stfpm_runtime.line.loop import STOPPED

from .conftest import Journalled, read_lines, wait_until

COMMAND = (sys.executable, "-c", "import sys; from stfpm_runtime.batch.cli import main; sys.exit(main())")
UNIT = Path(__file__).parents[3] / "runtime" / "stfpm-inspect@.service"
CONFIG = """
model = "model.onnx"
threads = 1
[journal]
path = "line.sqlite"
json_lines = "line.jsonl"
[pictures]
folder = "pictures"
free_mb = 0
queue = 4
[[camera]]
name = "left"
source = "{source}"
{more}
"""


@pytest.fixture
def configure(tmp_path, model):
    def configure(source: str = "parts", more: str = "") -> Path:
        path = tmp_path / "line.toml"
        path.write_text(CONFIG.format(source=source, more=more))
        return path

    return configure


@pytest.fixture
def parts(tmp_path, write, paint) -> Path:
    """300 parts, every third a reject."""
    first = [write(tmp_path / "parts" / f"00{number}.png", paint(level)) for number, level in enumerate((0, 0, 255))]
    for number in range(3, 300):
        shutil.copy(first[number % 3], tmp_path / "parts" / f"{number:03}.png")
    return tmp_path / "parts"


@pytest.fixture
def start():
    """Return a function that starts the command; its processes end with the test."""
    started = []

    def start(config: Path, *flags: str, pass_fds: tuple[int, ...] = (), **environment: str) -> subprocess.Popen:
        argv = [*COMMAND, "--config", str(config), *flags]
        clean = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
        environment = {**clean, **environment}
        process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment, pass_fds=pass_fds)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def count(journal: Journalled) -> int:
    try:
        return len(journal.rows())
    except JournalError:  # it is not there yet, or without its tables
        return 0


def kill_and_compare(rounds: int, configure, start, journal, tmp_path, seed: int) -> None:
    """Kill the process at random moments; what was written is in the journal, and the next run completes the lines."""
    config, rng, before = configure(), random.Random(seed), 0
    lines, pictures = tmp_path / "line.jsonl", tmp_path / "pictures"
    for number in range(rounds):
        process = start(config)
        wait_until(lambda: count(journal) > before)  # noqa: B023 (called at once)
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        process.communicate()
        verdicts = journal.rows()
        assert [verdict.seq for verdict in verdicts] == list(range(1, len(verdicts) + 1))
        assert max(verdict.run for verdict in verdicts) == number + 1
        whole = lines.read_bytes().splitlines(keepends=True) if lines.exists() else []
        written = [json.loads(line) for line in whole if line.endswith(b"\n")]
        assert written == journal.sent()[: len(written)]  # never more than is journalled
        before = len(verdicts)
    done = start(config)
    done.communicate(timeout=180)
    assert done.returncode == 0
    verdicts = journal.rows()
    assert len(verdicts) == before + 300  # the last run came to its end
    assert read_lines(lines) == journal.sent()
    assert list(Verification(journal.path).findings()) == []
    promised = {name for verdict in verdicts for name in (verdict.picture, verdict.overlay) if name}
    found = {path.relative_to(pictures).as_posix(): path for path in pictures.rglob("*") if path.is_file()}
    assert set(found) <= promised  # no picture without its verdict, and nothing half written
    assert len(promised) - len(found) <= (rounds + 1) * 2 * 4  # what was in the queue when it was killed
    assert all(cv2.imread(str(path)) is not None for path in found.values())


def test_kill_loses_no_verdict_and_repeats_none(configure, start, parts, journal, tmp_path):
    kill_and_compare(3, configure, start, journal, tmp_path, seed=0)


@pytest.mark.slow
def test_fifty_kills_lose_no_verdict_and_repeat_none(configure, start, parts, journal, tmp_path):
    kill_and_compare(50, configure, start, journal, tmp_path, seed=1)


def test_sigterm_is_a_clean_stop(configure, start, parts, journal, tmp_path):
    process = start(configure(more='trigger = "every"\nevery_ms = 20'))
    wait_until(lambda: count(journal) >= 3)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=120)
    assert sorted(path.name for path in tmp_path.glob("line.sqlite*")) == ["line.sqlite", "line.sqlite.lock"]
    assert process.returncode == 0
    verdicts = journal.rows()
    assert {verdict.reason for verdict in verdicts} <= {"", STOPPED}  # what the clock asked for at the last moment
    assert [event.kind for event in journal.events()] == ["started", "stopped"]
    assert f"stopped; {len(verdicts)} verdicts: " in log
    assert len(read_lines(tmp_path / "line.jsonl")) == len(verdicts)


def test_log_is_text_or_json_and_names_the_phases(configure, start, parts):
    _, log = (process := start(configure())).communicate(timeout=180)
    assert process.returncode == 0
    assert "error" not in log
    assert " model bottle (fp32, CPUExecutionProvider), 1 cameras\n" in log
    _, log = start(configure(), "--json-logs").communicate(timeout=180)
    records = [json.loads(line) for line in log.splitlines()]
    assert {frozenset(record) for record in records} == {frozenset(("time", "level", "logger", "message"))}
    phases = ("opening: model ", "ready: model bottle", "running", "draining", "stopped; 300 verdicts: ")
    messages = iter(record["message"] for record in records)
    assert all(any(message.startswith(phase) for message in messages) for phase in phases)


def test_files_with_faults_end_with_status_1(configure, start, parts):
    (parts / "100.png").write_bytes(b"")
    process = start(configure())
    _, log = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "stfpm-inspect: error: 1 of 300 parts could not be judged, and none of them is passed; the first: " in log


def test_mistake_in_the_configuration_is_one_line_and_status_1(configure, start):
    process = start(configure(more="thresold = 1.0"))
    _, log = process.communicate(timeout=180)
    assert process.returncode == 1
    assert log.endswith("line.toml:14: camera.thresold: unknown key; did you mean threshold?\n")
    assert log.count("\n") == 1


def test_sources_as_a_line_without_a_configuration(start, model, parts, journal):
    argv = [
        *COMMAND,
        str(model),
        "--source",
        str(parts),
        str(parts),
        "--journal",
        str(journal.path),
        "--threshold",
        "1",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=180)
    assert (done.returncode, done.stdout) == (0, "")
    verdicts = journal.rows()
    assert {(verdict.camera, verdict.decision, verdict.threshold) for verdict in verdicts} == {
        ("camera-1", "pass", 1.0), ("camera-2", "pass", 1.0),
    }  # fmt: skip
    assert len(verdicts) == 600


@pytest.fixture
def systemd(tmp_path):
    """Return a socket that receives what systemd would."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(120)
        yield listener


def test_systemd_gets_ready_watchdog_and_stopping(configure, start, parts, systemd, tmp_path):
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    process = start(configure(more='trigger = "every"\nevery_ms = 20'), **environment)
    extension, status = systemd.recv(4096).decode().splitlines()
    assert int(extension.removeprefix("EXTEND_TIMEOUT_USEC=")) >= 300e6
    assert status == "STATUS=loading the model"
    assert systemd.recv(4096) == b"WATCHDOG_USEC=200000\nWATCHDOG=1"
    assert systemd.recv(4096).decode().splitlines() == [
        "READY=1", "STATUS=model bottle (fp32, CPUExecutionProvider), 1 cameras",
    ]  # fmt: skip
    moments = []
    for _ in range(5):
        assert systemd.recv(4096).startswith(b"WATCHDOG=1\nSTATUS=")
        moments.append(time.monotonic())
    assert (moments[-1] - moments[0]) / 4 < 0.2
    process.send_signal(signal.SIGTERM)
    while (heard := systemd.recv(4096)).startswith(b"WATCHDOG"):
        pass
    assert heard == b"STOPPING=1"
    process.communicate(timeout=120)
    assert process.returncode == 0


def test_systemd_gets_nothing_from_a_loop_that_hangs(run_line, systemd, tmp_path, monkeypatch):
    """An engine that never returns: the watchdog is not fed, and systemd starts the service again."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "100000")

    def hang(images):
        time.sleep(2.0)
        return first_channel(images)

    running = run_line(answer=hang, left={"frames": 1})
    systemd.settimeout(0.5)
    heard = b""
    with contextlib.suppress(TimeoutError):
        while True:
            heard = systemd.recv(4096)
    assert heard != b"STOPPING=1"  # silence, while the loop still runs
    assert running.thread.is_alive()
    running.finish()


def test_notifier_with_an_abstract_socket_and_without_a_listener(monkeypatch):
    from stfpm_runtime.line.observers.systemd import Notifier

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0stfpm-test")
        listener.settimeout(5)
        notifier = Notifier(environment={"NOTIFY_SOCKET": "@stfpm-test"})
        notifier.ready("well")
        assert listener.recv(100) == b"READY=1\nSTATUS=well"
    notifier.stopping()  # nothing listens any more: nothing happens
    notifier.close()
    silent = Notifier(environment={"WATCHDOG_USEC": "1000"})
    silent.ready("no NOTIFY_SOCKET")
    silent.do_maintenance()


def test_watchdog_is_fed_by_a_process_without_a_free_file_descriptor(systemd, tmp_path, monkeypatch):
    from stfpm_runtime.line.observers.systemd import Notifier

    def no_more(*arguments, **more):
        raise OSError(errno.EMFILE, "Too many open files")

    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000"}
    with contextlib.closing(Notifier(lambda: "well", environment)) as notifier:
        monkeypatch.setattr(socket, "socket", no_more)
        notifier.do_maintenance()
        systemd.settimeout(5)
        assert systemd.recv(100) == b"WATCHDOG=1\nSTATUS=well"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_unit_is_one_that_systemd_accepts(tmp_path):
    unit = tmp_path / "stfpm-inspect@.service"
    unit.write_text(UNIT.read_text().replace("/opt/stfpm/bin/stfpm-inspect", sys.executable))
    drop_in = tmp_path / "stfpm-inspect@.service.d" / "realtime.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(UNIT.with_name("stfpm-inspect-realtime.conf").read_text())
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "stfpm-inspect" in line]
    assert complaints == []


@pytest.mark.parametrize(
    "argv",
    [
        ["--config", "a", "model.onnx"],
        ["--config", "a", "--limit", "3"],
        ["--config", "a", "--journal", "b"],
        ["--json-logs"],
        ["model.onnx", "--journal", "b"],
        ["model.onnx", "--source", "a", "--journal", "b", "--save", "c"],
        ["model.onnx", "--source", "a", "--json-logs"],
    ],
)
def test_bad_usage_is_status_2(argv, capsys):
    from stfpm_runtime.batch.cli import main

    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "stfpm-inspect: error: " in capsys.readouterr().err


def test_a_restart_by_a_person_uses_the_file_as_it_is_now_in_the_same_process(
    configure, start, parts, journal, systemd, tmp_path
):
    pytest.importorskip("fastapi")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = "a token of ours"
    table = f'[dashboard]\nlisten = "127.0.0.1:{port}"\ntoken = "{token}"\n'
    config = configure(more='trigger = "every"\nevery_ms = 20\n' + table)
    left_open = os.open(tmp_path, os.O_RDONLY)
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
    process = start(config, pass_fds=(left_open,), **environment)
    os.close(left_open)
    descriptor = Path(f"/proc/{process.pid}/fd/{left_open}")
    wait_until(lambda: count(journal) >= 3)
    assert descriptor.resolve() == tmp_path

    def ask(path: str, **body) -> dict:
        data = json.dumps({"who": "Ada", **body}).encode() if body else None
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    cap = {"original": None, "name": "cap", "rectangle": [0, 0, 32, 32]}
    ask("/api/regions", camera="left", version=ask("/api/setup")["cameras"][0]["version"], regions=[cap])
    ask("/api/restart", who="Ada")
    wait_until(lambda: journal.rows()[-1].region == "cap")
    assert process.poll() is None
    assert descriptor.resolve() != tmp_path  # what the process before left open is closed
    heard = []
    while sum(message.startswith("READY") for message in heard) < 2:
        heard.append(systemd.recv(4096).decode().split("\n")[0])
    heard = [message for message in heard if message != "WATCHDOG=1"]
    keys = "EXTEND_TIMEOUT_USEC WATCHDOG_USEC READY WATCHDOG_USEC RELOADING EXTEND_TIMEOUT_USEC WATCHDOG_USEC READY"
    assert [message.split("=")[0] for message in heard] == keys.split()
    assert (heard[1], heard[6]) == ("WATCHDOG_USEC=30000000",) * 2
    assert int(heard[3].split("=")[1]) >= 300e6  # nothing feeds the watchdog while the line starts again
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 0
    kinds = [event.kind for event in journal.events() if event.kind != "lost"]
    assert kinds == ["started", "regions", "restart", "stopped", "started", "stopped"]


def test_an_address_on_the_command_line_keeps_the_users_of_the_configuration(
    configure, start, parts, journal, tmp_path, capsys
):
    pytest.importorskip("fastapi")
    from stfpm_runtime.line.web.http.users_cli import main

    assert main([str(tmp_path / "users.json"), "add", "Ada", "--role", "view"]) == 0
    token = capsys.readouterr().out.strip()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = configure(more='trigger = "every"\nevery_ms = 20\n[dashboard]\nusers = "users.json"\n')
    process = start(config, "--dashboard", address)
    wait_until(lambda: count(journal) >= 1)

    def ask(bearer: str) -> tuple[int, str | None]:
        request = urllib.request.Request(f"http://{address}/api/status", headers={"Authorization": f"Bearer {bearer}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.headers["X-User"]
        except urllib.error.HTTPError as error:
            return error.code, None

    assert ask(token) == (200, "Ada")
    assert ask("another token")[0] == 401
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 0


def test_a_line_without_a_model_ends_no_threshold_that_was_set_by_hand(configure, start, parts, journal, tmp_path):
    config = configure(more='trigger = "every"\nevery_ms = 20\n')

    def run(*flags: str) -> None:
        before = count(journal)
        process = start(config, *flags)
        wait_until(lambda: count(journal) > before)
        if not before:
            number = request_threshold(journal.path, new_threshold_change(0.4, "Ada"))
            assert wait_for_result(journal.path, number, 60) == "taken"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
        assert process.returncode == 0

    run()
    (tmp_path / "model.onnx").rename(tmp_path / "away")
    run("--teach")
    assert any("there is no model yet" in row.reason for row in journal.rows() if row.run == 2)
    (tmp_path / "away").rename(tmp_path / "model.onnx")
    run()
    assert {row.threshold for row in journal.rows() if row.run == 3 and row.decision != "fault"} == {0.4}
    assert len([event for event in journal.events() if event.kind == "threshold"]) == 1


@pytest.mark.slow
def test_a_line_without_a_model_judges_nothing_until_one_is_taught(configure, start, parts, journal, tmp_path):
    pytest.importorskip("fastapi")
    pytest.importorskip("torch")
    (tmp_path / "model.onnx").unlink()
    (tmp_path / "model.golden.npz").unlink()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = "a token of ours"
    table = f'[dashboard]\nlisten = "127.0.0.1:{port}"\ntoken = "{token}"\n'
    config = configure(more='trigger = "every"\nevery_ms = 1500\n' + table)
    done = start(config)
    assert "model.onnx: no such file" in done.communicate(timeout=120)[1]  # only who wants to teach runs without
    process = start(config, "--teach")

    def ask(path: str, **body) -> dict:
        data = json.dumps({"who": "Ada", **body}).encode() if body else None
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    wait_until(lambda: count(journal) >= 3)
    place = {"camera": "left", "region": "frame"}
    ask("/api/collected", **place, count=12)
    wait_until(lambda: len(ask("/api/collected/left/frame")["pictures"]) == 12)
    ask("/api/training", **place, file="model.onnx", teacher="procedural", epochs=1, accept_data=True)
    wait_until(lambda: ask("/api/setup")["training"]["state"] in ("done", "failed"), 420)
    assert ask("/api/setup")["training"]["state"] == "done", ask("/api/setup")["training"]["lines"]
    assert {row.decision for row in journal.rows()} == {"fault"}
    assert "there is no model yet" in journal.rows()[-1].reason
    ask("/api/restart", who="Ada")
    wait_until(lambda: journal.rows()[-1].decision != "fault")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 0
