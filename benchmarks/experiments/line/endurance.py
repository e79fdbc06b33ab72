"""Check in one run that no part is passed by mistake and no verdict is lost while everything around the line fails.

    python -m benchmarks.experiments.line.endurance demo/gear.onnx demo/gear --kills 100 --json FILE

A real `stfpm-inspect --config` with five outputs (MQTT, webhook, Modbus TCP, OPC UA, JSON lines), two cameras and
triggers by HTTP and MQTT is killed again and again, at random times. Meanwhile frames are torn and damaged, triggers
are poisoned, the disk of journal and pictures is full for some seconds, the PLC is dead for a stretch, and two runs
have a clock that is 9,000 days ahead, with `keep_days` set. Then the journal is compared with what the machine asked,
what the camera showed and what each output got. The exit code is 1 if a check fails.

The full disk is a file system of its own in memory, which takes root; without it the process may write no file beyond
its present size for that time, and the result says so.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from stfpm_bench.report.text import markdown_table
from stfpm_runtime.cli import run
from stfpm_runtime.errors import OptionError, StfpmError
from stfpm_runtime.files import atomic_path
from stfpm_runtime.line.journal.reader import open_for_reading
from stfpm_runtime.machine import describe_machine

from .endurance_audit import Check, audit
from .endurance_line import FULL_S, TOPIC, LineProcess, small_disk
from .endurance_plant import PATIENCE_S, Camera, PartFeeder, Subscriber, choose_pictures
from .plant import free_port, peer, wait_for

LIVE_S = 0.3, 4.0
"""Seconds from when a run accepts triggers until it is killed: shortest and longest."""
EARLY_SHARE = 0.15
"""The share of runs that are killed while they start."""
WRONG_CLOCK_S = 15.0
"""Shortest time of a run with a wrong clock, in seconds: enough to delete what it would delete."""
DEAD_S = 15.0
"""Time for which the PLC is switched off, in seconds."""
SUBSCRIBE_S = 3.0
"""Time for the line's first subscription, which the broker keeps from then on."""
SETTLE_S = 180.0
"""Longest time in which the outputs catch up, in seconds."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.line.endurance", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("model", type=Path, help="a .onnx file that stfpm-export wrote, with its golden file in the same folder")
    add("data", type=Path, help="an MVTec-style category with parts that the model clearly passes and rejects")
    add("--kills", type=int, default=100, metavar="N", help="how often the process is killed (100)")
    add("--seed", type=int, default=0, help="seed of parts, times and damage (0)")
    add("--json", type=Path, metavar="FILE", help="write the result there too")
    arguments = parser.parse_args(argv)
    return run("endurance", lambda: _endure(arguments))


def _endure(arguments: argparse.Namespace) -> int:
    if arguments.kills < 1:
        raise OptionError(f"got --kills {arguments.kills}; expected 1 or more")
    if shutil.which("mosquitto") is None:
        raise OptionError("mosquitto is not installed; expected a broker: apt install mosquitto")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stfpm-endurance-") as name, small_disk(Path(name) / "disk") as disk:
        line = LineProcess(Path(name), arguments.kills + 10, free_port())
        checks, counts = endure(line, Path(name), disk, arguments)
        tail = line.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
    result = {
        "schema": 1,
        "command": "python -m benchmarks.experiments.line.endurance MODEL DATA "
        f"--kills {arguments.kills} --seed {arguments.seed}",
        "machine": dataclasses.asdict(describe_machine()),
        "seconds": round(time.monotonic() - started, 1),
        "full_disk": disk,
        **counts,
        "checks": [dataclasses.asdict(check) for check in checks],
        "holds": not any(check.broken for check in checks),
    }
    lines = [f"{name.replace('_', ' ')}: {value}" for name, value in counts.items()]
    print("\n".join([*lines, "", markdown_table(("check", "of", "broken", "which"), [one.cells for one in checks])]))
    if arguments.json:
        with atomic_path(arguments.json) as unfinished:
            unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    broken = [check for check in checks if check.broken]
    if broken:
        print("\n".join(tail), file=sys.stderr)
        raise StfpmError(f"{len(broken)} of {len(checks)} checks are broken, first: {broken[0].name}; see the table")
    return 0


def endure(
    line: LineProcess, folder: Path, disk: str, arguments: argparse.Namespace
) -> tuple[list[Check], dict[str, object]]:
    """Run the line with all faults; return the checks, and how often everything happened."""
    camera = Camera(choose_pictures(arguments.model.resolve(), arguments.data), arguments.seed)
    with contextlib.ExitStack() as stack:
        stack.callback(camera.close)
        ports = {kind: free_port() for kind in ("mqtt", "webhook", "modbus", "opcua")}
        logs = {kind: folder / f"{kind}.log" for kind in ("webhook", "modbus", "opcua")}
        line.configure(arguments.model.resolve(), camera.port, ports)
        stack.enter_context(_broker(folder, ports["mqtt"]))
        for kind in ("webhook", "opcua"):
            stack.enter_context(peer(kind, ports[kind], str(logs[kind])))
        plc = RestartablePeer(lambda: peer("modbus", ports["modbus"], str(logs["modbus"])))
        stack.callback(plc.stop)
        plc.start()
        for port in ports.values():
            wait_for(port)
        subscriber = Subscriber(ports["mqtt"], "plant")
        stack.callback(subscriber.close)
        line.start()
        line.wait_listening()
        time.sleep(SUBSCRIBE_S)
        feeder = PartFeeder(camera, subscriber, line.http_port, TOPIC, line.disk_is_full)
        thread = feeder.start()
        stack.callback(feeder.stopping.set)
        done = _kill_often(line, plc, disk, arguments)

        def delivered() -> dict[str, list[int]]:
            numbers = {kind: _numbers(path) for kind, path in logs.items()}
            return {"mqtt": subscriber.seqs, **numbers, "json_lines": _json_line_numbers(line.json_lines)}

        last = _run_to_the_end(line, feeder, thread, delivered)
        checks = [*audit(line.journal, feeder.parts, delivered(), line.exits), last]
    counts: dict[str, object] = {
        **done,
        "ended_with_a_full_disk": line.ends_with_full_disk,
        "parts": len(feeder.parts),
        "parts_answered": sum(bool(part.answer) for part in feeder.parts),
        "good_parts_passed": sum(part.kind == "good" and part.answer == "pass" for part in feeder.parts),
        "good_parts": sum(part.kind == "good" for part in feeder.parts),
        "parts_without_a_disk": sum(part.may_be_missing for part in feeder.parts),
        "poisoned_triggers": 2 * feeder.poisons,
        "frames": camera.frames,
    }
    return checks, counts


def _kill_often(line: LineProcess, plc: RestartablePeer, disk: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Kill and start the process `kills` times; meanwhile the disk is full, the PLC dead and the clock wrong."""
    kills, chance = arguments.kills, random.Random(arguments.seed)
    full, dead, ahead = kills // 5, kills // 2, (2 * kills // 3, 2 * kills // 3 + 1)
    early = 0
    for number in range(kills):
        is_ahead = number in ahead
        if number:
            line.start(is_ahead=is_ahead)
        faults: list[threading.Thread] = []
        if number == dead:
            faults.append(_in_thread(plc.stop_for, DEAD_S))
        if number == full:
            faults.append(_in_thread(line.fill_disk, disk))
        is_early = not (is_ahead or faults) and chance.random() < EARLY_SHARE
        early += is_early
        if is_early:
            time.sleep(chance.uniform(0.05, 1.5))
        else:
            line.wait_listening()
            line.run_for(max(chance.uniform(*LIVE_S), WRONG_CLOCK_S if is_ahead else FULL_S / 2 if faults else 0.0))
        line.kill()
        for thread in faults if number == full else ():  # the next start finds room again, or does not: both happen
            thread.join(chance.choice((0.0, 2 * FULL_S)))
        print(f"endurance: kill {number + 1} of {kills}", file=sys.stderr)
    return {"kills": kills, "kills_while_starting": early, "runs_with_a_clock_ahead": len(ahead)}


def _run_to_the_end(
    line: LineProcess,
    feeder: PartFeeder,
    thread: threading.Thread,
    delivered: Callable[[], Mapping[str, Sequence[int]]],
) -> Check:
    """Run once more, until every output has caught up, and stop as a service manager does."""
    line.start()
    line.wait_listening()
    line.run_for(PATIENCE_S + LIVE_S[1])  # a trigger from before the last kill is answered, too
    feeder.stopping.set()
    until = time.monotonic() + SETTLE_S
    thread.join(SETTLE_S)
    while time.monotonic() < until:
        line.run_for(0.5)
        last = _last_seq(line.journal)
        if all(max(numbers, default=0) >= last for numbers in delivered().values()):
            break
    wrong = line.stop()
    time.sleep(1.0)  # for what the broker still delivers
    return Check("the line stops when it is told to", 1, (wrong,) if wrong else ())


class RestartablePeer:
    """One of the other sides, which is switched off for a while."""

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


def _in_thread(action: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=action, args=arguments, daemon=True)
    thread.start()
    return thread


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


def _json_line_numbers(path: Path) -> list[int]:
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
