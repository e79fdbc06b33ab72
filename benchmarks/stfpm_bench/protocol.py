"""A process of its own for each thing that is measured: the side of the process.

It opens the model, judges one frame, says so, and then obeys, one JSON object a line on stdin and stdout. So
nothing measured shares memory, threads or imports with anything else, and other people's packages can be measured from
their own environments: this module needs NumPy alone.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

STAGES = ("resize", "copy_in", "network", "copy_out", "decision")
"""Where a frame's time goes, in this order."""
STATUS = Path("/proc/self/status")


class BenchTarget(Protocol):
    """What is measured."""

    def facts(self) -> dict[str, Any]:
        """What is known of it: `provider` and more, as JSON."""
        ...

    def judge(self) -> dict[str, float | None]:
        """Judge one frame; milliseconds by stage, None for what it cannot tell apart."""
        ...

    def judge_batch(self, size: int) -> None:
        """Judge several frames at once. Raises NotImplementedError where it cannot."""
        ...


def make_frame(width: int, height: int) -> npt.NDArray[np.uint8]:
    """A noisy frame uint8 [height, width, 3], the same for everybody, made in no time."""
    tile = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    tiles = np.tile(tile, (-(-height // 64), -(-width // 64), 1))
    return np.ascontiguousarray(tiles[:height, :width])


def serve(open_subject: Callable[[], BenchTarget], describe: Callable[[Exception], dict[str, str] | None]) -> int:
    """Open, judge once, and obey until stdin ends.

    `describe` makes an answer of an error that a user can mend, and None of any other, which keeps its traceback.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=answers, flush=True)

    try:
        subject = open_subject()
        subject.judge()
        answer({"ready": time.monotonic(), **subject.facts()})
        for line in sys.stdin:
            answer(_obey(subject, json.loads(line)))
    except Exception as error:
        found = describe(error)
        if found is None:
            raise
        answer({"error": found})
        return 1
    return 0


def _obey(subject: BenchTarget, request: dict[str, Any]) -> dict[str, Any]:
    match request["do"]:
        case "frames":
            for _ in range(request["warm"]):
                subject.judge()
            return {"frames": [_timed(subject) for _ in range(request["count"])]}
        case "batch":
            return _batches(subject, request["size"], request["count"])
        case _:
            return {"peak_bytes": peak_bytes(), "installed_bytes": installed_bytes()}


def _timed(subject: BenchTarget) -> dict[str, float | None]:
    started = time.perf_counter()
    stages = subject.judge()
    total = 1e3 * (time.perf_counter() - started)
    return {"total": total, **stages}


def _batches(subject: BenchTarget, size: int, count: int) -> dict[str, Any]:
    times = []
    try:
        for number in range(count + 1):
            started = time.perf_counter()
            subject.judge_batch(size)
            if number:  # the first may have to allocate
                times.append(1e3 * (time.perf_counter() - started))
    except NotImplementedError:
        return {"times": None}
    return {"times": times}


def peak_bytes() -> int | None:
    """The most memory that this process ever held resident; None where the system does not tell.

    Linux' VmHWM: `getrusage` would count the parent's memory too, from before this program was loaded.
    """
    if STATUS.is_file():
        found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"), re.MULTILINE)
        return 1024 * int(found[1]) if found else None
    return None


def installed_bytes() -> int:
    """The size of the installed packages that this process has loaded something from, Python itself left out."""
    owners = importlib.metadata.packages_distributions()
    names = {owner for module in list(sys.modules) for owner in owners.get(module.partition(".")[0], ())}
    files = {
        Path(str(file.locate()))
        for name in names
        for file in importlib.metadata.files(name) or ()
        if not str(file).endswith(".pyc")
    }
    files |= {  # a working tree's own code is no installed file
        path
        for name in ("stfpm_runtime", "stfpm_edge")
        if name in sys.modules
        for path in Path(str(sys.modules[name].__file__)).parent.rglob("*")
        if path.suffix != ".pyc"
    }
    return sum(path.stat().st_size for path in files if path.is_file())
