"""A process of its own for each thing that is measured: our side. The other is `serving`."""

from __future__ import annotations

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
    """Something to measure: how its process is started, and which files it cannot do without."""

    name: str
    command: tuple[str, ...]
    files: tuple[Path, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """On top of this process' own."""


def our_contender(path: Path, name: str, device: str, threads: int | None, frame: tuple[int, int]) -> Contender:
    """One of our models; `frame` is (width, height)."""
    command = (sys.executable, "-m", "stfpm_bench.target", str(path), device, str(threads or 0), *map(str, frame))
    return Contender(name, command, (path,), {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})


class Worker:
    """A contender's process. Close it when done."""

    def __init__(self, contender: Contender) -> None:
        """Start it; `wait_ready` says when it has judged its first frame."""
        self.contender = contender
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            contender.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **contender.environment},
            start_new_session=True,  # Ctrl-C is for us: partial results are kept
        )  # fmt: skip

    def wait_ready(self) -> tuple[float, dict[str, Any]]:
        """Milliseconds from the process' start to its first verdict, and what it says of itself.

        Raises a StfpmError with the process' own words where its model cannot be used.
        """
        facts = self._answer()
        return 1e3 * (facts.pop("ready") - self._started), facts  # both by the system's clock, which all share

    def ask(self, do: str, **values: int) -> dict[str, Any]:
        """Have something done. Raises StfpmError where that fails, EngineError where the process is gone."""
        try:
            print(json.dumps({"do": do, **values}), file=self._process.stdin, flush=True)
        except OSError:
            raise self._gone() from None
        return self._answer()

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        return process_seconds(self._process.pid)

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None, "asked for"
        line = self._process.stdout.readline()
        if not line:
            raise self._gone()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise StfpmError(answer["error"]["text"])
        return answer

    def _gone(self) -> EngineError:
        status = self._process.wait()
        why = "its own words are above" if status > 0 else "was it killed for its memory?"
        return EngineError(f"{self.contender.name}: its process ended with status {status}; {why}")
