"""Check in one run that no part is passed by mistake and no verdict is lost while everything around the line fails.

    python -m benchmarks.experiments.endurance demo/gear.onnx demo/gear --kills 100 --json FILE

A real `stfpm-inspect --config` with five outputs (MQTT, webhook, Modbus TCP, OPC UA, JSON lines), two cameras and
triggers by HTTP and MQTT is killed again and again, at random times. Meanwhile frames are torn and damaged, triggers
are poisoned, the disk of journal and pictures is full for some seconds, the PLC is dead for a stretch, and two runs
have a clock that is 9,000 days ahead, with `keep_days` set. Then the journal is compared with what the machine asked,
what the camera showed and what each output was told. Ends with 1 where a check is broken.

The full disk is a file system of its own in memory, which takes root; without it the process may write no file beyond
its present size for that time, and the result says so.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stfpm_bench.report.text import markdown_table
from stfpm_runtime.cli import run
from stfpm_runtime.errors import OptionError, StfpmError
from stfpm_runtime.files import atomic_path
from stfpm_runtime.line.journal.reader import open_for_reading
from stfpm_runtime.machine import describe_machine

from .endurance_audit import Check, audit
from .endurance_plant import PATIENCE_S, Camera, Machine, Subscriber, choose_pictures
from .plant import free_port, peer, wait_for

TOPIC = "plant/side/part"
COMMAND = "import sys; from stfpm_runtime.batch.cli import main; sys.exit(main())"
AHEAD_DAYS = 9000
WRONG_CLOCK = f"""
import time
wall, wall_ns = time.time, time.time_ns
time.time = lambda: wall() + {AHEAD_DAYS} * 86400.0
time.time_ns = lambda: wall_ns() + {AHEAD_DAYS} * 86400 * 10**9
"""
"""Goes before `COMMAND`: the runtime reads the wall clock by these alone."""
LIVE_S = 0.3, 4.0
"""Seconds from when a run accepts triggers until it is killed: shortest and longest."""
EARLY_SHARE = 0.15
"""The share of runs that are killed while they start."""
WRONG_CLOCK_S = 15.0
"""Shortest time that a run with a wrong clock gets, in seconds: enough to delete what it would delete."""
FULL_S, DEAD_S = 5.0, 15.0
"""Time for which the disk is full, and the PLC switched off, in seconds."""
SUBSCRIBE_S = 3.0
"""Time for the line's first subscription, which the broker keeps from then on."""
START_S, SETTLE_S, STOP_S = 90.0, 180.0, 60.0
"""Patience with a start, with outputs that catch up, and with a stop."""
DISK_MB = 64


@dataclass
class Run:
    """One endurance run: where things lie, and what has happened so far."""

    model: Path
    folder: Path
    kills: int
    seed: int
    http_port: int = field(default_factory=free_port)
    disk: str = ""
    """The way in which a full disk is made, in words."""
    disk_is_full: threading.Event = field(default_factory=threading.Event)
    exits: list[str] = field(default_factory=list)
    """Ends of the process that nobody asked for and no full disk explains."""
    ends_with_full_disk: int = 0
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "line.log"

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.folder / "disk" / "line.sqlite"

    @property
    def json_lines(self) -> Path:
        """The JSON lines' file."""
        return self.folder / "line.jsonl"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.endurance", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("model", type=Path, help="a .onnx file that stfpm-export wrote, its golden file beside it")
    add("data", type=Path, help="an MVTec-style category with parts that the model clearly passes and rejects")
    add("--kills", type=int, default=100, metavar="N", help="how often the process is killed (100)")
    add("--seed", type=int, default=0, help="of parts, times and damage (0)")
    add("--json", type=Path, metavar="FILE", help="write the result there too")
    arguments = parser.parse_args(argv)
    return run("endurance", lambda: _endure(arguments))


def _endure(arguments: argparse.Namespace) -> int:
    if arguments.kills < 1:
        raise OptionError(f"got --kills {arguments.kills}; expected 1 or more")
    if shutil.which("mosquitto") is None:
        raise OptionError("mosquitto is not installed; expected a broker: apt install mosquitto")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stfpm-endurance-") as name, contextlib.ExitStack() as stack:
        one = Run(arguments.model.resolve(), Path(name), arguments.kills, arguments.seed)
        one.disk = stack.enter_context(_small_disk(one.folder / "disk"))
        checks, counts = endure(one, arguments.data)
        tail = one.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
    result = {
        "schema": 1,
        "command": f"python -m benchmarks.experiments.endurance MODEL DATA --kills {one.kills} --seed {one.seed}",
        "machine": dataclasses.asdict(describe_machine()),
        "seconds": round(time.monotonic() - started, 1),
        "full_disk": one.disk,
        **counts,
        "checks": [dataclasses.asdict(check) for check in checks],
        "holds": not any(check.broken for check in checks),
    }
    print(render(checks, counts))
    if arguments.json:
        with atomic_path(arguments.json) as unfinished:
            unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    broken = [check for check in checks if check.broken]
    if broken:
        print("\n".join(tail), file=sys.stderr)
        raise StfpmError(f"{len(broken)} of {len(checks)} checks are broken, first: {broken[0].name}; see the table")
    return 0


def render(checks: Sequence[Check], counts: dict[str, object]) -> str:
    """Return the checks and what happened as a table."""
    rows = [check.cells for check in checks]
    table = markdown_table(("check", "of", "broken", "which"), rows)
    return "\n".join([*(f"{name.replace('_', ' ')}: {value}" for name, value in counts.items()), "", table])


def endure(one: Run, data: Path) -> tuple[list[Check], dict[str, object]]:
    """Do it all; returns the checks and what happened how often."""
    camera = Camera(choose_pictures(one.model, data), one.seed)
    with contextlib.ExitStack() as stack:
        stack.callback(camera.close)
        ports = {kind: free_port() for kind in ("mqtt", "webhook", "modbus", "opcua")}
        logs = {kind: one.folder / f"{kind}.log" for kind in ("webhook", "modbus", "opcua")}
        _configure(one, camera, ports)
        stack.enter_context(_broker(one.folder, ports["mqtt"]))
        for kind in ("webhook", "opcua"):
            stack.enter_context(peer(kind, ports[kind], str(logs[kind])))
        plc = Restartable(lambda: peer("modbus", ports["modbus"], str(logs["modbus"])))
        stack.callback(plc.stop)
        plc.start()
        for port in ports.values():
            wait_for(port)
        subscriber = Subscriber(ports["mqtt"], "plant")
        stack.callback(subscriber.close)
        process = _await_listening(one, _start(one))
        time.sleep(SUBSCRIBE_S)
        machine = Machine(camera, subscriber, one.http_port, TOPIC, one.disk_is_full)
        thread = machine.start()
        stack.callback(machine.stopping.set)
        done = _torment(one, plc, process)
        last = _run_to_the_end(one, machine, thread, subscriber, logs)
        told = {
            "mqtt": subscriber.seqs,
            **{kind: _numbers(path) for kind, path in logs.items()},
            "json_lines": _json_lines(one.json_lines),
        }
        checks = [*audit(one.journal, machine.parts, told, one.exits), last]
    counts: dict[str, object] = {
        **done,
        "ended_with_a_full_disk": one.ends_with_full_disk,
        "parts": len(machine.parts),
        "parts_answered": sum(bool(part.answer) for part in machine.parts),
        "good_parts_passed": sum(part.kind == "good" and part.answer == "pass" for part in machine.parts),
        "good_parts": sum(part.kind == "good" for part in machine.parts),
        "parts_without_a_disk": sum(part.may_be_missing for part in machine.parts),
        "poisoned_triggers": 2 * machine.poisons,
        "frames": camera.frames,
    }
    return checks, counts


def _configure(one: Run, camera: Camera, ports: dict[str, int]) -> None:
    source = f"http://127.0.0.1:{camera.port}/stream.mjpg"
    node = "ns=2;s=Line."
    text = f"""
model = {json.dumps(str(one.model))}
threads = 1

[journal]
path = {json.dumps(str(one.journal))}
keep_days = 30
json_lines = {json.dumps(str(one.json_lines))}

[pictures]
folder = {json.dumps(str(one.folder / "disk" / "pictures"))}
quota_mb = 8
free_mb = 1

[dashboard]
listen = "127.0.0.1:{one.http_port}"

[mqtt]
host = "127.0.0.1"
port = {ports["mqtt"]}
topic = "plant"

[[webhook]]
url = "http://127.0.0.1:{ports["webhook"]}/"

[[modbus]]
host = "127.0.0.1"
port = {ports["modbus"]}

[[opcua]]
url = "opc.tcp://127.0.0.1:{ports["opcua"]}/"
verdict = "{node}Verdict"
seq = "{node}Seq"
decision = "{node}Decision"
part = "{node}Part"

[[camera]]
name = "top"
source = "{source}"
trigger = "http"

[[camera]]
name = "side"
source = "{source}"
trigger = "mqtt"
topic = "{TOPIC}"
"""
    (one.folder / "line.toml").write_text(text, encoding="utf-8")


def _torment(one: Run, plc: Restartable, process: subprocess.Popen[bytes]) -> dict[str, object]:
    """Kill and start the process as often as wanted; meanwhile the disk is full, the PLC dead and the clock wrong."""
    chance = random.Random(one.seed)
    full, dead, ahead = {one.kills // 5}, {one.kills // 2}, {2 * one.kills // 3, 2 * one.kills // 3 + 1}
    early = 0
    for number in range(one.kills):
        is_ahead = number in ahead
        process = _start(one, is_ahead=is_ahead) if number else process
        others: list[threading.Thread] = []
        if number in dead:
            others.append(_beside(plc.stop_for, DEAD_S))
        if number in full:
            others.append(_beside(_fill, one, process))
        is_early = not (is_ahead or others) and chance.random() < EARLY_SHARE
        early += is_early
        if is_early:
            time.sleep(chance.uniform(0.05, 1.5))
        else:
            process = _await_listening(one, process, is_ahead=is_ahead)
            lives_s = max(chance.uniform(*LIVE_S), WRONG_CLOCK_S if is_ahead else FULL_S / 2 if others else 0.0)
            process = _watch(one, process, lives_s, is_ahead=is_ahead)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for thread in others if number in full else ():  # the next start finds room again, or does not: both happen
            thread.join(chance.choice((0.0, 2 * FULL_S)))
        print(f"endurance: kill {number + 1} of {one.kills}", file=sys.stderr)
    return {"kills": one.kills, "kills_while_starting": early, "runs_with_a_clock_ahead": len(ahead)}


def _run_to_the_end(
    one: Run, machine: Machine, thread: threading.Thread, subscriber: Subscriber, logs: dict[str, Path]
) -> Check:
    """Run once more, until every output has caught up, and stop as a service manager does."""
    process = _await_listening(one, _start(one))
    process = _watch(one, process, PATIENCE_S + LIVE_S[1])  # a trigger from before the last kill is answered, too
    machine.stopping.set()
    until = time.monotonic() + SETTLE_S
    thread.join(SETTLE_S)
    while time.monotonic() < until:
        process = _watch(one, process, 0.5)
        last = _last_seq(one.journal)
        reached = [max(_numbers(path), default=0) for path in logs.values()]
        if min(*reached, max(subscriber.seqs, default=0), max(_json_lines(one.json_lines), default=0)) >= last:
            break
    process.send_signal(signal.SIGTERM)
    try:
        status = process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return Check("the line stops when it is told to", 1, (f"it still ran after {STOP_S:g} s",))
    time.sleep(1.0)  # for what the broker still has for us
    return Check("the line stops when it is told to", 1, () if status == 0 else (f"exit status {status}",))


def _start(one: Run, *, is_ahead: bool = False) -> subprocess.Popen[bytes]:
    command = (WRONG_CLOCK if is_ahead else "") + COMMAND
    with one.log.open("ab") as log:
        argv = [sys.executable, "-c", command, "--config", str(one.folder / "line.toml")]
        return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=log)


def _again_if_ended(one: Run, process: subprocess.Popen[bytes], *, is_ahead: bool) -> subprocess.Popen[bytes]:
    """Start a process that has ended by itself again, as a service manager does, and note that it did."""
    if process.poll() is None:
        return process
    if one.disk_is_full.is_set():
        one.ends_with_full_disk += 1
    else:
        lines = one.log.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        one.exits.append(f"exit status {process.returncode}: {lines[-1]}")
        if len(one.exits) > one.kills + 10:
            raise StfpmError(f"the line does not run: {lines[-1]}")
    time.sleep(0.5)
    return _start(one, is_ahead=is_ahead)


def _await_listening(one: Run, process: subprocess.Popen[bytes], *, is_ahead: bool = False) -> subprocess.Popen[bytes]:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        process = _again_if_ended(one, process, is_ahead=is_ahead)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", one.http_port), 0.2):
            return process
        time.sleep(0.05)
    process.kill()
    raise StfpmError(f"the line does not listen within {START_S:g} s; see the end of {one.log}")


def _watch(
    one: Run, process: subprocess.Popen[bytes], seconds: float, *, is_ahead: bool = False
) -> subprocess.Popen[bytes]:
    until = time.monotonic() + seconds
    while (left_s := until - time.monotonic()) > 0:
        process = _again_if_ended(one, process, is_ahead=is_ahead)
        time.sleep(min(left_s, 0.1))
    return process


class Restartable:
    """One of the other sides that is dead for a while."""

    def __init__(self, make: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self._make = make
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        """Start its process."""
        self._stack.enter_context(self._make())

    def stop(self) -> None:
        """Kill its process."""
        self._stack.close()

    def stop_for(self, seconds: float) -> None:
        """Kill its process and start it again after that time."""
        self.stop()
        time.sleep(seconds)
        self.start()


def _beside(action: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=action, args=arguments, daemon=True)
    thread.start()
    return thread


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[str]:
    """Make a folder on a small file system of its own, where that is possible; gives how a full disk is made."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "stfpm-endurance", str(folder)]
    is_mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield (
            f"a tmpfs of {DISK_MB} MB, filled up for {FULL_S:g} s" if is_mounted
            else f"no file of the process may grow for {FULL_S:g} s (no right to mount a file system)"
        )  # fmt: skip
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def _fill(one: Run, process: subprocess.Popen[bytes]) -> None:
    """Leave no room on the journal's disk for some seconds."""
    filler = one.journal.with_name("filler")
    one.disk_is_full.set()
    try:
        if one.disk.startswith("a tmpfs"):
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(65536))
            time.sleep(FULL_S)
        else:
            with contextlib.suppress(OSError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            time.sleep(FULL_S)
            with contextlib.suppress(OSError):
                limits = resource.RLIM_INFINITY, resource.RLIM_INFINITY
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
    finally:
        filler.unlink(missing_ok=True)
        time.sleep(1.0)  # a process that ends on account of it takes a moment
        one.disk_is_full.clear()


@contextlib.contextmanager
def _broker(folder: Path, port: int) -> Iterator[None]:
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nlog_type none\nuser root\n",
        encoding="ascii",
    )
    process = subprocess.Popen(["mosquitto", "-c", str(configuration)], stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield
    finally:
        process.kill()
        process.wait()


def _last_seq(journal: Path) -> int:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(open_for_reading(journal)) as connection:
        return int(connection.execute("SELECT coalesce(max(seq), 0) FROM verdicts").fetchone()[0])
    return sys.maxsize


def _numbers(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def _json_lines(path: Path) -> list[int]:
    """Return the numbers in all parts of the file: at its limit it becomes FILE.1."""
    lines = [
        line
        for part in (path.with_name(path.name + ".1"), path)
        if part.exists()
        for line in part.read_text(encoding="utf-8").splitlines()
    ]
    return [int(json.loads(line)["seq"]) for line in lines if line.endswith("}")]


if __name__ == "__main__":
    sys.exit(main())
