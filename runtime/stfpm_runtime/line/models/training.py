"""Trains and exports a model from collected pictures while the line runs, in processes of a lower priority.

Training needs the packages of the extra `export` (PyTorch) on this machine. Where they are missing, the set is copied
to a machine that has them, and the model file back into the folder of the model in use.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from stfpm_runtime.errors import OptionError
from stfpm_runtime.lifecycle import Worker, child_environment, lower_priority
from stfpm_runtime.line.journal.rows import LogEvent
from stfpm_runtime.line.observers.collector import finished_pictures

LOG = logging.getLogger("stfpm.training")
POLL_S = 0.2
LINES = 40
"""The newest lines of the commands' output that are kept."""
KILLED_S = 5.0
"""The longest wait for the end of a process that is told to end, in seconds; it is killed then."""
COMMAND = """import runpy, sys
from stfpm_runtime.lifecycle import exit_with_parent
exit_with_parent()
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Runs a command of ours, which does not outlive the line."""
NEEDED = ("torch", "stfpm_edge", "stfpm_export")
EPOCH = re.compile(r"epoch (\d+)/(\d+)")
State = Literal["idle", "training", "exporting", "done", "cancelled", "failed"]


@dataclass(frozen=True)
class TrainingTask:
    """What is trained, and by whom."""

    data: Path
    """A folder with `train/good`."""
    model: Path
    """The .onnx file that is made."""
    product: str
    size: tuple[int, int]
    """Height and width of the model's input in pixels: that of the model in use, which it is to replace."""
    teacher: str
    """As `stfpm-train --teacher` takes it."""
    epochs: int | None
    """None: as many as the recipe has."""
    who: str
    accept_data: bool = False
    """Whether pictures are trained on although their check finds something."""

    @property
    def checkpoint(self) -> Path:
        """Return the checkpoint, next to the model: its name changes with all that must be the same to continue it.

        So a training is continued with the same pictures only, and no other training's file is replaced.
        """
        good = self.data / "train" / "good"
        files, facts = [*(good / name for name in finished_pictures(good)), Path(self.teacher)], []
        for path in files:
            with contextlib.suppress(OSError):  # removed meanwhile, or the name of a teacher that is no file
                status = path.stat()
                facts.append((path.name, status.st_size, status.st_mtime_ns))
        made_of = repr((facts, self.size, self.teacher, self.epochs, version("stfpm-edge"))).encode()
        return self.model.with_name(f"{self.model.stem}-{hashlib.sha256(made_of).hexdigest()[:12]}.safetensors")

    def unfinished_others(self) -> list[Path]:
        """Return what cancelled trainings of this model with other pictures or options have left."""
        name = re.compile(rf"{re.escape(self.model.stem)}-[0-9a-f]{{12}}\.unfinished\.safetensors")
        found = [path for path in self.model.parent.iterdir() if name.fullmatch(path.name)]
        return [path for path in found if path.name != f"{self.checkpoint.stem}.unfinished.safetensors"]


class Training(Worker):
    """Runs one training at a time. All methods but `run` are for any thread."""

    keeps_real_time = False

    def __init__(self, log_event: LogEvent) -> None:
        super().__init__("training")
        self.state: State = "idle"
        self.epoch = self.epochs = 0
        """How many epochs are done, and of how many; 0 before the first."""
        self.lines: deque[str] = deque(maxlen=LINES)
        self._log_event = log_event
        self._task: TrainingTask | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._kill_s: float | None = None
        """When the process that was told to end is killed, on `time.monotonic()`."""
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._woken = threading.Event()

    @property
    def missing(self) -> str:
        """Return the name of the first package that training needs and this machine does not have; else empty."""
        return next((name for name in NEEDED if importlib.util.find_spec(name) is None), "")

    def begin(self, task: TrainingTask) -> None:
        """Start a training; one with the same pictures and options goes on where it was. Raises OptionError."""
        if self.missing:
            raise OptionError(f"{self.missing} is not installed here; train on a machine with stfpm-edge[export]")
        with self._lock:
            if self._task is not None:
                raise OptionError("another training runs; cancel it, or wait until it ends")
            self._task, self._is_cancelled = task, False
            self.state, self.epoch, self.epochs = "training", 0, 0
            self.lines.clear()
        self._woken.set()

    def makes(self, model: Path) -> bool:
        """Return whether the training that runs makes this file."""
        task = self._task
        return task is not None and task.model == model

    def cancel(self) -> None:
        """End the training that runs; its epochs are kept. Raises OptionError where none runs."""
        with self._lock:
            if self._task is None:
                raise OptionError("no training runs")
            self._is_cancelled = True
            self._terminate()

    def wake(self) -> None:
        """End the training, as the line stops."""
        self._woken.set()
        with self._lock:
            self._terminate()

    def run(self) -> None:
        """Carry out trainings until the stop."""
        while not self.stopping.is_set():
            self._woken.wait()
            self._woken.clear()
            if (task := self._task) is None:
                continue
            try:
                state: State = self._carry_out(task)
            except Exception as error:
                LOG.exception("internal error: a training was not carried out")
                self.lines.append(f"internal error: {type(error).__name__}: {error}")
                state = "failed"
            with self._lock:
                self._task, self.state = None, state
            self._log_event("training", f"{state}: {task.model.name}, begun by {task.who}")

    def _carry_out(self, task: TrainingTask) -> State:
        checkpoint, (height, width) = task.checkpoint, task.size
        train = [
            "stfpm_edge.cli", str(task.data), "-o", str(checkpoint), "--teacher", task.teacher, "--name", task.product,
            "--size", f"{width}x{height}", "--by", task.who, "--resume",
        ]  # fmt: skip
        if task.accept_data:
            train.append("--accept-data")
        if task.epochs is not None:
            train += ["--epochs", str(task.epochs)]
        self._log_event("training", f"begun by {task.who}: {task.model.name} from {task.data}")
        for rest in task.unfinished_others():
            rest.unlink(missing_ok=True)
            self.lines.append("other pictures or options than in the cancelled training: a new one begins")
        steps: list[tuple[State, list[str]]] = [
            ("training", train), ("exporting", ["stfpm_export.cli", str(checkpoint), "-o", str(task.model)]),
        ]  # fmt: skip
        for self.state, argv in steps[checkpoint.exists() :]:  # cancelled while it was exported
            if code := self._call(argv):
                return "cancelled" if self._is_cancelled or self.stopping.is_set() else _failed(code, self.lines)
        return "done"

    def _call(self, argv: Sequence[str]) -> int:
        """Run a command of ours, and return its exit code; its output goes into `lines`."""
        with tempfile.TemporaryFile() as output:
            with self._lock:
                if self._is_cancelled or self.stopping.is_set():
                    return 1
                self._kill_s = None
                process = self._process = subprocess.Popen(
                    [sys.executable, "-c", COMMAND, *argv],
                    stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                    env=child_environment(),
                )  # fmt: skip
            lower_priority(process.pid)
            place, code = 0, None
            while code is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(POLL_S)
                place = self._read(output.fileno(), place)
                if self._kill_s is not None and time.monotonic() > self._kill_s:
                    self._signal(signal.SIGKILL)
            with self._lock:
                self._process = None
        assert process.stdin is not None, "a pipe"
        process.stdin.close()
        return code

    def _read(self, descriptor: int, place: int) -> int:
        """Add what the command printed after that place in its output, and return how far whole lines go."""
        data = os.pread(descriptor, 1 << 20, place)
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.decode(errors="replace").splitlines():
            self.lines.append(line.rstrip())
            if found := EPOCH.search(line):
                self.epoch, self.epochs = int(found[1]), int(found[2])
        return place + len(whole)

    def _terminate(self) -> None:
        """Tell the process to end, within `KILLED_S`. The caller holds the lock."""
        if self._process:
            self._kill_s = time.monotonic() + KILLED_S
            self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        """Send a signal to the process and to all that it started."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def _failed(code: int, lines: deque[str]) -> State:
    LOG.error("the training ended with exit code %d: %s", code, lines[-1] if lines else "it printed nothing")
    return "failed"
