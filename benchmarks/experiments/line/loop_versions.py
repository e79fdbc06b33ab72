"""The loop's latency in two versions of the source code, measured by turns on one machine.

    python -m benchmarks.experiments.line.loop_versions OLD NEW MODEL --json FILE

OLD and NEW are checkouts of this repository. Each turn is a process of its own that runs one version's own
`experiments.loop`: with the model, below and above the rate that it sustains, and with an engine that costs nothing, so
that only the loop's own work remains. The latencies of all turns of a version are pooled.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stfpm_runtime.cli import run
from stfpm_runtime.errors import OptionError
from stfpm_runtime.machine import describe_machine

from .loop import show_result

TURN = """
import json, sys, tempfile, time
from pathlib import Path
from importlib import import_module
for module in ("experiments.line.loop", "experiments.loop", "stfpm_bench.loop"):  # the newest place, and earlier ones
    try:
        loop = import_module(module)
        break
    except ModuleNotFoundError:
        continue
from stfpm_runtime.engines import open_engine
from stfpm_runtime.engines.fake import FakeEngine
model, verdicts = Path(sys.argv[1]), int(sys.argv[2])
engine, frame = open_engine(model), loop.picture()
image = frame[None, : engine.spec.height, : engine.spec.width].copy()
started = time.perf_counter()
for _ in range(10):
    engine.infer(image)
rate = 10 / (time.perf_counter() - started)
with tempfile.TemporaryDirectory() as folder:
    loads = {"unloaded": (engine, rate / 3), "overloaded": (engine, rate * 3),
             "fake engine": (FakeEngine(engine.spec, loop._answer), 100.0)}
    reports = {name: loop._loop(model, found, frame, fps, verdicts, Path(folder) / name)
               for name, (found, fps) in loads.items()}
print(json.dumps({name: report.latencies_ms[loop.WARM_UP:] for name, report in reports.items()}))
"""
"""The program of one turn: prints the latencies in ms, a list for each load."""
FOLDERS = (".", "export", "runtime", "benchmarks")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `argv` is without the command's name."""
    description = "The latency of two versions of the loop, by turns."
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.line.loop_versions", description=description
    )
    parser.add_argument("old", type=Path, help="a checkout of the version before the change")
    parser.add_argument("new", type=Path, help="a checkout of the version after it")
    parser.add_argument("model", type=Path, help="a .onnx file that stfpm-export wrote")
    parser.add_argument("--turns", type=int, default=10, metavar="N", help="of each version (10)")
    parser.add_argument("--verdicts", type=int, default=100, metavar="N", help="for each load in a turn (100)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args(argv)
    return run("loop_versions", lambda: _measure(arguments))


def _measure(arguments: argparse.Namespace) -> int:
    pooled: dict[str, dict[str, list[float]]] = {"old": {}, "new": {}}
    for turn in range(arguments.turns):
        for version in ("old", "new") if turn % 2 == 0 else ("new", "old"):
            print(f"turn {turn + 1} of {arguments.turns}: {version}", file=sys.stderr)
            found = run_turn(getattr(arguments, version), arguments.model, arguments.verdicts)
            for load, latencies in found.items():
                pooled[version].setdefault(load, []).extend(latencies)
    result = {
        "schema": 1,
        "command": "python -m benchmarks.experiments.line.loop_versions OLD NEW MODEL --json FILE",
        "machine": dataclasses.asdict(describe_machine()),
        "verdicts": arguments.turns * arguments.verdicts,
        "loads": {load: compare(pooled["old"][load], pooled["new"][load]) for load in pooled["old"]},
    }
    return show_result(result, arguments.json)


def run_turn(checkout: Path, model: Path, verdicts: int) -> dict[str, list[float]]:
    """Run one version in a process of its own and return its latencies in ms by load. Raises OptionError."""
    if not (checkout / "benchmarks" / "stfpm_bench").is_dir():
        raise OptionError(f"{checkout}: has no benchmarks/stfpm_bench; expected a checkout of this repository")
    path = os.pathsep.join(str((checkout / folder).absolute()) for folder in FOLDERS)
    done = subprocess.run(
        [sys.executable, "-c", TURN, model.absolute(), str(verdicts)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise OptionError(f"{checkout}: cannot be measured: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def compare(old: Sequence[float], new: Sequence[float]) -> dict[str, dict[str, float]]:
    """Return median and 99th percentile of both in ms, and the ratio new / old."""
    table = {}
    for name, percent in (("p50", 50), ("p99", 99)):
        before, after = float(np.percentile(old, percent)), float(np.percentile(new, percent))
        table[name] = {"old_ms": round(before, 3), "new_ms": round(after, 3), "ratio": round(after / before, 3)}
    return table


if __name__ == "__main__":
    sys.exit(main())
