"""Measure the time from a trigger to its answer: beside an open dashboard, beside other load, in real time.

    python -m benchmarks.experiments.line.deadline MODEL --triggers 100000 --json FILE

A clock triggers one camera, and the time counts from the moment when the trigger was due until the verdict is in the
journal and answered. The dashboard is served; the camera is a fake of 1280x720 pixels, which costs no copying.
The conditions:

    usual      the process as a shell starts it
    real time  as the unit's drop-in starts it: one core, scheduled before all other processes (SCHED_RR), see
               runtime/stfpm-inspect-realtime.conf
    viewed     meanwhile another process asks for what the dashboard and the operator's view ask for
    loaded     meanwhile one process for each core copies memory
    flushed    meanwhile another process writes and flushes a file on the journal's disk

Linux only; real time needs the right to it (CAP_SYS_NICE).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stfpm_runtime.cli import run
from stfpm_runtime.engines import open_engine
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.config.server import ServerOptions
from stfpm_runtime.line.config.storage import JournalOptions
from stfpm_runtime.line.journal.rows import Record
from stfpm_runtime.line.loop import run as run_loop
from stfpm_runtime.line.service import open_line
from stfpm_runtime.line.triggers.base import QueuedTrigger, TriggerRequest
from stfpm_runtime.machine import describe_machine
from stfpm_runtime.sources.base import OnEvent
from stfpm_runtime.sources.fake import FakeCamera

from .loop import picture, show_result

MODULE = "benchmarks.experiments.line.deadline"
REAL_TIME = ("chrt", "--rr", "40", "taskset", "--cpu-list", "1")
CONDITIONS = (
    ("usual", ""), ("usual", "viewed"), ("usual", "loaded"), ("real time", ""), ("real time", "viewed"),
    ("real time", "loaded"), ("real time", "flushed"),
)  # fmt: skip
WARM_UP = 200
"""Triggers before the first that counts."""
COPIES = "import numpy as n\na = n.ones(1 << 24)\nwhile True: a[:] = a[::-1].copy()"
FLUSHES = """import os, sys
with open(sys.argv[1], "wb") as file:
    while True:
        file.write(bytes(1 << 20)); file.flush(); os.fsync(file.fileno()); file.seek(0)
"""
VIEWER = """import contextlib, itertools, pathlib, sys, time, urllib.error, urllib.request
port = pathlib.Path(sys.argv[1])
while not port.exists():
    time.sleep(0.1)
for number in itertools.count():
    paths = ["status", "live/fake/frame?width=1280"]
    if number % 2 == 0:
        paths += ["status", "scores/fake/frame?last=200", "rejects?last=12", "events?last=30"]
    for path in paths:
        with contextlib.suppress(urllib.error.URLError):  # there is no verdict yet, or no server
            urllib.request.urlopen(f"http://127.0.0.1:{port.read_text()}/api/{path}", timeout=60).read()
    time.sleep(0.5)
"""
"""The programs of the load; the argument is a file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="a .onnx file that stfpm-export wrote")
    parser.add_argument("--triggers", type=int, default=100_000, metavar="N", help="in each condition (100000)")
    parser.add_argument("--every-ms", type=float, default=10.0, metavar="MS", help="from trigger to trigger (10)")
    parser.add_argument("--deadline-ms", type=int, default=50, metavar="MS", help="the camera's deadline_ms (50)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the engine (1)")
    parser.add_argument("--conditions", default="0,1,2,3,4,5,6", metavar="I,...", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--one", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    return run("deadline", lambda: _one(arguments) if arguments.one else _all(arguments))


def _all(arguments: argparse.Namespace) -> int:
    rows = []
    for number in arguments.conditions.split(","):
        scheduling, load = CONDITIONS[int(number)]
        row = {"scheduling": scheduling, "load": load} | _measure(arguments, scheduling, load)
        print(json.dumps(row), file=sys.stderr)
        rows.append(row)
    names = ("triggers", "every_ms", "deadline_ms", "threads")
    result = {
        "schema": 1,
        "command": f"python -m {MODULE} MODEL --json FILE",
        "machine": dataclasses.asdict(describe_machine()),
        **{name: getattr(arguments, name) for name in names},
        "rows": rows,
    }
    return show_result(result, arguments.json)


def _measure(arguments: argparse.Namespace, scheduling: str, load: str) -> dict[str, object]:
    """Run one condition in a process of its own, and return what that prints."""
    prefix = REAL_TIME if scheduling == "real time" else ()
    with tempfile.TemporaryDirectory() as folder, _beside(Path(folder), load):
        options = [f"--{name}={getattr(arguments, name.replace('-', '_'))}"
                   for name in ("triggers", "every-ms", "deadline-ms", "threads")]  # fmt: skip
        argv = [*prefix, sys.executable, "-m", MODULE, str(arguments.model), *options, "--one", folder]
        done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def _beside(folder: Path, load: str) -> Iterator[None]:
    """Run the processes of a condition meanwhile."""
    copies = [COPIES] * (os.cpu_count() or 1)
    programs = {"loaded": copies, "flushed": [FLUSHES], "viewed": [VIEWER]}.get(load, [])
    place = folder / ("port" if load == "viewed" else "load")
    processes = [subprocess.Popen([sys.executable, "-c", program, str(place)]) for program in programs]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _one(arguments: argparse.Namespace) -> int:
    """Measure in this process, and print the figures."""
    logging.getLogger("stfpm").setLevel(logging.CRITICAL)  # each fault would be a line
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    frame, found, stop = picture(), Answers(arguments.triggers + WARM_UP), threading.Event()

    def open_source(camera: CameraOptions, on_event: OnEvent) -> FakeCamera:
        return FakeCamera(lambda index: frame, fps=None)

    options = LineOptions(
        model=arguments.model,
        threads=arguments.threads,
        threshold=1e6,
        journal=JournalOptions(arguments.one / "line.sqlite"),
        camera=(CameraOptions("fake", "0", trigger="http", deadline_ms=arguments.deadline_ms),),
        dashboard=ServerOptions(listen=f"127.0.0.1:{port}"),
    )
    engine = open_engine(arguments.model, threads=arguments.threads)
    with contextlib.closing(engine), open_line(options, engine, open_source) as line:
        trigger = line.cameras[0].trigger
        assert isinstance(trigger, QueuedTrigger), "as the options say"
        (arguments.one / "port").write_text(str(port), encoding="utf-8")
        clock = threading.Thread(target=found.ask, args=(trigger, arguments.every_ms / 1e3, stop))
        clock.start()
        run_loop(line, stop)
        clock.join()
    print(json.dumps({"engine": engine.provider, **found.figures(arguments.deadline_ms)}))
    return 0


class Answers:
    """Triggers at fixed times, and the answers to them."""

    def __init__(self, triggers: int) -> None:
        self._triggers = triggers
        self._times: list[tuple[float, str]] = []
        """Milliseconds from the due time to the answer, and the decision."""
        self._refused = 0

    def ask(self, trigger: QueuedTrigger, interval_s: float, stop: threading.Event) -> None:
        """Put the triggers, and set `stop` when all are answered."""
        due_s = time.monotonic() + 1
        for _ in range(self._triggers):
            due_s += interval_s
            time.sleep(max(0.0, due_s - time.monotonic()))
            self._put(trigger, round(due_s * 1e9))
        while trigger.unanswered():
            time.sleep(0.01)
        stop.set()

    def figures(self, deadline_ms: int) -> dict[str, object]:
        """Return percentiles of the times in milliseconds, and what was decided."""
        times, decisions = zip(*self._times[WARM_UP:], strict=True)
        values = np.asarray(times)
        percentiles = {f"p{share}_ms".replace(".", "_"): round(float(np.percentile(values, share)), 3)
                       for share in (50, 99, 99.9, 99.99)}  # fmt: skip
        late = [decision for ms, decision in zip(times, decisions, strict=True) if ms > deadline_ms]
        return percentiles | {
            "max_ms": round(float(values.max()), 3),
            "decisions": dict(sorted(Counter(decisions).items())),
            "refused": self._refused,
            "later_than_the_deadline": len(late),
            "passed_later_than_the_deadline": late.count("pass"),
            "latest_pass_ms": round(max((ms for ms, one in self._times if one == "pass"), default=0.0), 3),
        }

    def _put(self, trigger: QueuedTrigger, due_ns: int) -> None:
        def answer(records: Sequence[Record]) -> None:
            self._times.append(((time.monotonic_ns() - due_ns) / 1e6, str(records[0]["decision"])))

        if not trigger.put(TriggerRequest(due_ns, answer=answer)):
            self._refused += 1


if __name__ == "__main__":
    sys.exit(main())
