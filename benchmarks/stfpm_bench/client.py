"""Start and control the process in which one contender is measured; its other side is `protocol`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stfpm_runtime.errors import EngineError, StfpmError

from .sensors import process_seconds


@dataclass(frozen=True)
class Contender:
    """Something to measure: its name, and how its process is started."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables on top of this process' own."""


def model_contender(path: Path, name: str, device: str, threads: int | None, frame: tuple[int, int]) -> Contender:
    """Return the contender for one of our models; `frame` is (width, height)."""
    command = (sys.executable, "-m", "stfpm_bench.target", str(path), device, str(threads or 0), *map(str, frame))
    return Contender(name, command, {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})


class BenchProcess:
    """The process of a contender, started by the constructor; `close` ends it."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            contender.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **contender.environment},
            start_new_session=True,  # Ctrl-C reaches this process alone, which keeps partial results
        )  # fmt: skip

    def wait_ready(self) -> tuple[float, dict[str, Any]]:
        """Return the milliseconds from the process' start to its first verdict, and its facts.

        Raises a StfpmError with the process' own message where its model cannot be used.
        """
        facts = self._read_answer()
        return 1e3 * (facts.pop("ready") - self._started), facts  # both by the system's clock, which all share

    def request(self, action: str, **values: int) -> dict[str, Any]:
        """Request an action and return its answer.

        Raises StfpmError where the action fails, EngineError where the process has ended.
        """
        try:
            print(json.dumps({"do": action, **values}), file=self._process.stdin, flush=True)
        except OSError:
            raise self._ended_error() from None
        return self._read_answer()

    def cpu_seconds(self) -> float:
        """Return the processor seconds that the process has used."""
        return process_seconds(self._process.pid)

    def close(self) -> None:
        """End the process: first by closing its input, after 5 s by a signal."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read_answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None, "opened as a pipe"
        line = self._process.stdout.readline()
        if not line:
            raise self._ended_error()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise StfpmError(answer["error"]["text"])
        return answer

    def _ended_error(self) -> EngineError:
        status = self._process.wait()
        why = "its own words are above" if status > 0 else "was it killed for its memory?"
        return EngineError(f"{self.contender.name}: its process ended with status {status}; {why}")
