"""Other sides that are real: mosquitto, pymodbus's and asyncua's own servers, an HTTP server; each a process."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stfpm_runtime.lifecycle import stop_all
from stfpm_runtime.line.config.outputs import ModbusOptions, MqttOptions, OpcUaOptions, OutputTables, WebhookOptions
from stfpm_runtime.line.journal.rows import VerdictRow, utc
from stfpm_runtime.line.journal.writer import Journal
from stfpm_runtime.line.observers.heartbeat import Heartbeat
from stfpm_runtime.line.outputs import open_network_outputs

HERE = Path(__file__).parent
KINDS = ("mqtt", "webhook", "modbus", "opcua")


def wait_until(condition: Callable[[], object], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer:
    """A process that can be stopped and started again on the same port, and logs what it receives."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.port, self.log = kind, free_port(), folder / f"{kind}.log"
        self.log.touch()
        self._process: subprocess.Popen | None = None

    def start(self, behaviour: str = "plain") -> None:
        argv = [sys.executable, HERE / f"peer_{self.kind}.py", str(self.port), self.log, behaviour]
        self._process = subprocess.Popen(argv)
        wait_until(self.listens)

    def stop(self, how: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(20)
            self._process = None

    def listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
            return True
        assert self._process is None or self._process.poll() is None, f"{self.kind} does not run"
        return False

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines(True) if line.endswith("\n")]

    def seqs(self) -> list[int]:
        """Return the numbers of the verdicts that it received, in that order."""
        lines = self.lines()
        if self.kind == "modbus":
            return [line["registers"][0] << 16 | line["registers"][1] for line in lines if line["address"] == 1]
        if self.kind == "opcua":
            return [line["value"] for line in lines if line["name"] == "Seq"]
        return [line["seq"] for line in lines]

    @property
    def options(self) -> OutputTables:
        if self.kind == "webhook":
            url = f"http://127.0.0.1:{self.port}/verdicts"
            return OutputTables(webhook=(WebhookOptions(url, token="token", timeout_s=0.5, batch=7),))
        if self.kind == "modbus":
            return OutputTables(
                modbus=(ModbusOptions("127.0.0.1", port=self.port, heartbeat_s=0.1, timeout_s=1.0, max_age_s=0),)
            )
        names = ("verdict", "seq", "decision", "score", "relative_score", "part", "age", "heartbeat")
        nodes = {name: f"ns=2;s=Line.{name.title().replace('_', '')}" for name in names}
        return OutputTables(
            opcua=(OpcUaOptions(f"opc.tcp://127.0.0.1:{self.port}/", heartbeat_s=0.1, max_age_s=0, **nodes),)
        )

    def close(self) -> None:
        self.stop()


class Broker(Peer):
    """mosquitto, and a subscriber whose session it keeps while it is away."""

    def __init__(self, folder: Path, extra: str = "allow_anonymous true") -> None:
        super().__init__("mqtt", folder)
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text(
            f"listener {self.port} 127.0.0.1\n{extra}\npersistence true\npersistence_location {folder}/\n"
            "max_queued_messages 0\nlog_type none\nuser root\n"
        )
        self._subscriber: subprocess.Popen | None = None

    def start(self, behaviour: str = "plain") -> None:
        before = self._subscriptions()
        self._process = subprocess.Popen(["mosquitto", "-c", self._configuration], stderr=subprocess.DEVNULL)
        wait_until(self.listens)
        if self._subscriber is None and behaviour == "plain":
            argv = [sys.executable, HERE / "peer_mqtt.py", str(self.port), self.log]
            self._subscriber = subprocess.Popen(argv)
        if behaviour == "plain":  # it is there (again), so that what comes now comes once and at once
            wait_until(lambda: self._subscriptions() > before)

    def _subscriptions(self) -> int:
        return sum("subscribed" in line for line in self.lines())

    def stop(self, how: int = signal.SIGTERM) -> None:
        super().stop(how)  # SIGTERM: it writes down what it has

    def seqs(self) -> list[int]:
        return [line["payload"]["seq"] for line in self.lines() if "/verdict/" in line.get("topic", "")]

    @property
    def options(self) -> OutputTables:
        return OutputTables(mqtt=MqttOptions("127.0.0.1", port=self.port, topic="plant", heartbeat_s=0.1))

    def close(self) -> None:
        super().close()
        if self._subscriber is not None:
            self._subscriber.kill()
            self._subscriber.wait()


@pytest.fixture
def make_peer(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(kind: str) -> Peer:
            if kind == "mqtt" and shutil.which("mosquitto") is None:
                pytest.skip("mosquitto is not installed: apt install mosquitto")
            peer = Broker(tmp_path) if kind == "mqtt" else Peer(kind, tmp_path)
            stack.callback(peer.close)
            if kind == "mqtt":  # a session that began before the line did: from here on nothing is missed
                peer.start()
                peer.stop()
            return peer

        yield make


@pytest.fixture(params=KINDS)
def peer(request, make_peer) -> Peer:
    return make_peer(request.param)


class Writer:
    """A journal that verdicts are written into."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = Journal(path, "normal")
        self.run = self.journal.begin_run("0" * 64)
        self.count = 0

    def write(self, count: int = 1, **changes) -> None:
        for _ in range(count):
            self.count += 1
            fields = {
                "seq": 0, "time": utc(), "monotonic_ns": time.monotonic_ns(), "run": self.run, "camera": "top",
                "region": "cap", "source": "fake", "frame": self.count, "part": f"A-{self.count}", "decision": "reject",
                "score": 0.75, "p_value": 0.01, "threshold": 0.5, "reason": "", "model": "0" * 64, "dropped": 0,
                "wait_ms": 0.1, "preprocess_ms": 0.2, "infer_ms": 0.3, "latency_ms": 0.6, **changes,
            }  # fmt: skip
            self.journal.write(VerdictRow(**fields))


@pytest.fixture
def writer(tmp_path):
    writer = Writer(tmp_path / "line.sqlite")
    yield writer
    writer.journal.close()


@pytest.fixture
def follow(writer):
    """Start the workers of outputs; return them and their events, without the one that there is no cursor yet."""
    opened = []

    def follow(options: OutputTables, heartbeat: Heartbeat | None = None):
        events: list[str] = []

        def log_event(kind: str, text: str) -> None:
            if "has no cursor yet" not in text:
                events.append(text)

        workers = open_network_outputs(options, writer.path, log_event, heartbeat or Heartbeat())
        opened.extend(workers)
        for worker in workers:
            worker.start()
        return workers, events

    yield follow
    stop_all(opened, time.monotonic() + 5.0)


def floats(registers: list[int], offset: int) -> float:
    return struct.unpack(">f", struct.pack(">HH", *registers[offset : offset + 2]))[0]
