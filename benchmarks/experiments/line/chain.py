"""Measure what the chain of the journal costs a verdict, and how many rows a second `stfpm-journal --verify` reads.

    python -m benchmarks.experiments.line.chain --json FILE

Verdicts are written by turns into two journals on the same disk, with and without their link, each in a transaction of
its own. A larger journal, with a signed head each 600 verdicts (one a minute at 10 parts a second), is verified then.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from stfpm_runtime.cli import run
from stfpm_runtime.line.journal.chain.signing import KeyPair, read_public_key, write_new_key
from stfpm_runtime.line.journal.chain.verify import Verification
from stfpm_runtime.line.journal.rows import VerdictRow, utc, values_of
from stfpm_runtime.line.journal.writer import INSERT, Journal, Synchronous
from stfpm_runtime.machine import describe_machine

from .loop import show_result

COST_BAR_MS = 0.1
RATE_BAR = 200_000
BLOCK = 600
"""Verdicts from one head to the next."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.line.chain", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--rows", type=int, default=2_000_000, metavar="N", help="verdicts that are verified (2000000)")
    parser.add_argument("--turns", type=int, default=3000, metavar="N", help="verdicts of each kind (3000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args(argv)
    return run("chain", lambda: _measure(arguments))


def _measure(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as name:
        result = {
            "schema": 1, "command": "python -m benchmarks.experiments.line.chain --json FILE",
            "machine": dataclasses.asdict(describe_machine()),
            "cost": {mode: measure_cost(Path(name), mode, arguments.turns) for mode in ("normal", "full")},
            "verify": measure_rate(Path(name), arguments.rows),
        }  # fmt: skip
    return show_result(result, arguments.json)


def row(number: int) -> VerdictRow:
    """Return a verdict as a line with a trigger writes it."""
    score = number * 2654435761 % 2**32 / 2**32
    return VerdictRow(
        number, utc(), time.monotonic_ns(), 1, "top", "cap", "rtsp://10.0.0.7/stream1", number, f"A-{number}",
        "reject" if score > 0.95 else "pass", score, 1 - score, 0.95, "", "4f" * 32, 0, round(score * 9, 3),
        round(score * 3, 3), round(score * 17, 3), round(score * 31, 3),
    )  # fmt: skip


def measure_cost(folder: Path, synchronous: Synchronous, turns: int) -> dict[str, object]:
    """Return the medians of a write with and without its link, and of their difference, in ms."""
    times: tuple[list[float], list[float]] = [], []
    with (
        contextlib.closing(Journal(folder / f"with-{synchronous}.sqlite", synchronous)) as chained,
        contextlib.closing(Journal(folder / f"without-{synchronous}.sqlite", synchronous)) as plain,
    ):
        for number in range(1, turns + 1):
            verdict = row(number)
            start = time.perf_counter()
            chained.write(verdict)
            middle = time.perf_counter()
            with plain.transaction() as connection:
                connection.execute(INSERT, values_of(verdict))
            times[0].append(1e3 * (middle - start))
            times[1].append(1e3 * (time.perf_counter() - middle))
    cost = statistics.median(a - b for a, b in zip(*times, strict=True))
    return {
        "with_ms": round(statistics.median(times[0]), 4), "without_ms": round(statistics.median(times[1]), 4),
        "cost_ms": round(cost, 4), "bar_ms": COST_BAR_MS, "verdicts": turns,
    }  # fmt: skip


def measure_rate(folder: Path, rows: int) -> dict[str, object]:
    """Return how many rows a second are verified in a journal with so many verdicts, and its size."""
    path, key = folder / "line.sqlite", folder / "line.key"
    public = read_public_key(write_new_key(key))
    with contextlib.closing(Journal(path, "normal", KeyPair(key))) as journal:
        for first in range(0, rows, BLOCK):
            journal.write_late([row(number) for number in range(first + 1, min(first + BLOCK, rows) + 1)])
            journal.write_head()
    check = Verification(path, [public])
    start = time.perf_counter()
    found = sum(1 for _ in check.findings())
    elapsed_s = time.perf_counter() - start
    return {
        "rows": check.rows, "seconds": round(elapsed_s, 2), "rows_per_s": round(check.rows / elapsed_s),
        "bar_rows_per_s": RATE_BAR, "findings": found, "bytes": path.stat().st_size,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
