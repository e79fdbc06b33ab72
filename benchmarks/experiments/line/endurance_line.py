"""The line of the endurance run: its configuration, its process that is killed and started again, and its disk."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from stfpm_runtime.errors import StfpmError

TOPIC = "plant/side/part"
COMMAND = "import sys; from stfpm_runtime.batch.cli import main; sys.exit(main())"
AHEAD_DAYS = 9000
WRONG_CLOCK = f"""
import time
wall, wall_ns = time.time, time.time_ns
time.time = lambda: wall() + {AHEAD_DAYS} * 86400.0
time.time_ns = lambda: wall_ns() + {AHEAD_DAYS} * 86400 * 10**9
"""
"""Program text in front of `COMMAND`: the runtime reads the wall clock by these functions alone."""
FULL_S = 5.0
"""Time for which the disk is full, in seconds."""
START_S, STOP_S = 90.0, 60.0
"""Longest time of a start, and of a stop, in seconds."""
DISK_MB = 64


class LineProcess:
    """A line whose process is killed and started again. A process that ends by itself is started again, and counted."""

    def __init__(self, folder: Path, most_exits: int, http_port: int) -> None:
        self.http_port = http_port
        self.disk_is_full = threading.Event()
        self.exits: list[str] = []
        """Ends of the process that no signal and no full disk explains."""
        self.ends_with_full_disk = 0
        self.journal = folder / "disk" / "line.sqlite"
        self.json_lines = folder / "line.jsonl"
        self.log = folder / "line.log"
        self._configuration = folder / "line.toml"
        self._most_exits = most_exits
        self._is_ahead = False
        self._process: subprocess.Popen[bytes]

    def configure(self, model: Path, camera_port: int, ports: Mapping[str, int]) -> None:
        """Write the configuration; `ports` are those of the broker and of the other outputs."""
        source, node = f"http://127.0.0.1:{camera_port}/stream.mjpg", "ns=2;s=Line."
        text = f"""
model = {json.dumps(str(model))}
threads = 1

[journal]
path = {json.dumps(str(self.journal))}
keep_days = 30
json_lines = {json.dumps(str(self.json_lines))}

[pictures]
folder = {json.dumps(str(self.journal.with_name("pictures")))}
quota_mb = 8
free_mb = 1

[dashboard]
listen = "127.0.0.1:{self.http_port}"

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
        self._configuration.write_text(text, encoding="utf-8")

    def start(self, *, is_ahead: bool = False) -> None:
        """Start the process, with a clock that is `AHEAD_DAYS` ahead or with the right one."""
        self._is_ahead = is_ahead
        command = (WRONG_CLOCK if is_ahead else "") + COMMAND
        argv = [sys.executable, "-c", command, "--config", str(self._configuration)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=log)

    def wait_listening(self) -> None:
        """Wait until the process accepts triggers. Raises StfpmError where it does not within `START_S` seconds."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            self._restart_if_ended()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.http_port), 0.2):
                return
            time.sleep(0.05)
        self.kill()
        raise StfpmError(f"the line does not listen within {START_S:g} s; see the end of {self.log}")

    def run_for(self, seconds: float) -> None:
        """Let the process run for some seconds."""
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            self._restart_if_ended()
            time.sleep(min(left_s, 0.1))

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> str:
        """Stop the process as a service manager does; return what was wrong with that, or an empty text."""
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"it still ran after {STOP_S:g} s"
        return f"exit status {status}" if status else ""

    def fill_disk(self, disk: str) -> None:
        """Leave no room on the journal's disk for `FULL_S` seconds; `disk` is what `small_disk` gave."""
        filler, process_id = self.journal.with_name("filler"), self._process.pid
        self.disk_is_full.set()
        try:
            if disk.startswith("a tmpfs"):
                with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(65536))
                time.sleep(FULL_S)
            else:
                for limit in (4096, resource.RLIM_INFINITY):
                    with contextlib.suppress(OSError):
                        resource.prlimit(process_id, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
                    time.sleep(FULL_S if limit == 4096 else 0.0)
        finally:
            filler.unlink(missing_ok=True)
            time.sleep(1.0)  # a process that ends because of the full disk takes a moment
            self.disk_is_full.clear()

    def _restart_if_ended(self) -> None:
        """Start a process that has ended by itself again, as a service manager does, and count that it did."""
        if self._process.poll() is None:
            return
        if self.disk_is_full.is_set():
            self.ends_with_full_disk += 1
        else:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
            self.exits.append(f"exit status {self._process.returncode}: {lines[-1]}")
            if len(self.exits) > self._most_exits:
                raise StfpmError(f"the line does not run: {lines[-1]}")
        time.sleep(0.5)
        self.start(is_ahead=self._is_ahead)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[str]:
    """Make a folder, where possible on a small file system; the context gives how a full disk is made, in words."""
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
