"""Run the process that measures one contender; `client` starts it.

The process opens the contender, inspects one frame, says so, and then answers requests, one JSON object a line on stdin
and stdout. So nothing measured shares memory, threads or imports with anything else, and other packages can be
measured in environments of their own: this module needs NumPy alone.
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

STAGES = ("resize", "network", "decision")
"""Where a frame's time goes, in this order."""
STATUS = Path("/proc/self/status")


class BenchTarget(Protocol):
    """What is measured."""

    def facts(self) -> dict[str, Any]:
        """Return what is known of it, `provider` and more, as JSON."""
        ...

    def inspect(self) -> dict[str, float | None]:
        """Inspect one frame and return milliseconds by stage, None for a stage that is not known."""
        ...

    def inspect_batch(self, size: int) -> None:
        """Inspect a batch of `size` frames. Raises NotImplementedError where it takes single frames alone."""
        ...


def make_frame(width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return a noisy frame uint8 [height, width, 3], the same for all contenders."""
    tile = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    tiles = np.tile(tile, (-(-height // 64), -(-width // 64), 1))
    return np.ascontiguousarray(tiles[:height, :width])


def serve(open_target: Callable[[], BenchTarget], describe: Callable[[Exception], dict[str, str] | None]) -> int:
    """Open the target, inspect one frame, and answer requests until stdin ends; return the exit code.

    `describe` makes an answer of an error that the user can fix, and None of any other, which keeps its traceback.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer

    def send(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=answers, flush=True)

    try:
        target = open_target()
        target.inspect()
        send({"ready": time.monotonic(), **target.facts()})
        for line in sys.stdin:
            send(_answer(target, json.loads(line)))
    except Exception as error:
        found = describe(error)
        if found is None:
            raise
        send({"error": found})
        return 1
    return 0


def _answer(target: BenchTarget, request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "frames":
        for _ in range(request["warm"]):
            target.inspect()
        return {"frames": [_time_frame(target) for _ in range(request["count"])]}
    if request["do"] == "batch":
        return {"times": _time_batches(target, request["size"], request["count"])}
    return {"peak_bytes": peak_bytes(), "installed_bytes": installed_bytes()}


def _time_frame(target: BenchTarget) -> dict[str, float | None]:
    started = time.perf_counter()
    stages = target.inspect()
    return {"total": 1e3 * (time.perf_counter() - started), **stages}


def _time_batches(target: BenchTarget, size: int, count: int) -> list[float] | None:
    """Return the milliseconds of `count` batches after one that may have to allocate; None without batches."""
    times = []
    try:
        for _ in range(count + 1):
            started = time.perf_counter()
            target.inspect_batch(size)
            times.append(1e3 * (time.perf_counter() - started))
    except NotImplementedError:
        return None
    return times[1:]


def peak_bytes() -> int | None:
    """Return the largest resident memory of this process so far; None where the system does not say.

    Linux' VmHWM: `getrusage` would count the parent's memory too, from before this program was loaded.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="utf-8") if STATUS.is_file() else "", re.M)
    return 1024 * int(found[1]) if found else None


def installed_bytes() -> int:
    """Return the size of the installed packages that this process has loaded something from, without Python itself."""
    owners = importlib.metadata.packages_distributions()
    names = {owner for module in list(sys.modules) for owner in owners.get(module.partition(".")[0], ())}
    files = {Path(str(file.locate())) for name in names for file in importlib.metadata.files(name) or ()}
    for name in {"stfpm_runtime", "stfpm_edge"} & set(sys.modules):  # a working tree's own code is no installed file
        files |= set(Path(str(sys.modules[name].__file__)).parent.rglob("*"))
    return sum(path.stat().st_size for path in files if path.suffix != ".pyc" and path.is_file())
