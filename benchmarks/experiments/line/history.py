"""Measure how fast a journal of millions of verdicts answers questions, and what its tables of counts cost a verdict.

    python -m benchmarks.experiments.line.history --verdicts 10000000 --folder DIR --json FILE

The journal is written as an earlier version wrote it, of four places and a verdict each 1.5 s, and then opened by the
writer as a line opens it, which adds the counts. The time of a question includes opening the journal. Each question is
asked three times, and the slowest answer counts.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from stfpm_runtime.cli import run
from stfpm_runtime.detector import Verdict
from stfpm_runtime.line.inspect import peak_of
from stfpm_runtime.line.journal.history import Filter, History, Per
from stfpm_runtime.line.journal.labels import new_label, write_label
from stfpm_runtime.line.journal.rows import COLUMNS, VerdictRow, utc
from stfpm_runtime.line.journal.writer import INSERT, Journal
from stfpm_runtime.machine import describe_machine

from .loop import show_result

BEGIN_S = 1_700_000_000.0
EVERY_S = 1.5
MODELS = ("a" * 64, "b" * 64)
REJECTED, FAULTS = 0.02, 0.001
PLACES = (("top", "cap"), ("top", "label"), ("side", "frame"), ("back", "frame"))
ALL_PERS: tuple[Per, ...] = ("hour", "day", "shift", "region", "model")
TIMES = 3
WRITES = 5000
LABELS = 500


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.line.history", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--verdicts", type=int, default=10_000_000, metavar="N", help="in the journal (10000000)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the journal is made, 5 GB (a temporary one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args(argv)
    return run("history", lambda: _measure(arguments))


def _measure(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        result = {
            "schema": 1,
            "command": f"python -m benchmarks.experiments.line.history --verdicts {arguments.verdicts} --json FILE",
            "machine": dataclasses.asdict(describe_machine()),
            **measure(Path(name) / "line.sqlite", arguments.verdicts),
        }  # fmt: skip
    return show_result(result, arguments.json)


def measure(path: Path, verdicts: int) -> dict[str, object]:
    """Return the times of questions to a journal of so many verdicts, and of writing it."""
    Journal(path, "normal").close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.executescript("DROP TRIGGER verdict_counted; DROP TRIGGER verdict_deleted; DROP TABLE verdict_counts;"
                           "DROP INDEX verdicts_rejects; BEGIN;")  # fmt: skip
        file.executemany(INSERT, rows(verdicts))
        file.execute("COMMIT")
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    old_bytes = path.stat().st_size
    upgrade_s = _seconds(lambda: Journal(path, "normal").close())
    with contextlib.closing(sqlite3.connect(path)) as file:
        (counts,) = file.execute("SELECT count(*) FROM verdict_counts").fetchone()
    for seq in range(1, verdicts, verdicts // LABELS):
        write_label(path, new_label(seq, "defect", "benchmark"))
    questions = {name: answer_s(path, ask) for name, ask in make_questions(verdicts).items()}
    answer = np.random.default_rng(0).random((256, 256), np.float32)
    verdict = Verdict("reject", 1.0, 0.5, answer)
    return {
        "verdicts": verdicts, "days": round(verdicts * EVERY_S / 86_400), "places": len(PLACES),
        "rows_of_counts": counts, "megabytes": round(old_bytes / 1e6), "upgrade_s": round(upgrade_s, 1),
        "added_megabytes": round((path.stat().st_size - old_bytes) / 1e6),
        "slowest_answers_s": questions, "bar_s": 2.0,
        "write": write_times(path),
        "peak_ms": round(1e3 * float(np.median([_seconds(lambda: peak_of(verdict)) for _ in range(1000)])), 4),
    }  # fmt: skip


def make_questions(verdicts: int) -> dict[str, Callable[[History], object]]:
    """Return the questions of the page and of the command by their names."""
    end_s = BEGIN_S + verdicts * EVERY_S
    week = Filter(utc(end_s - 7.2 * 86_400), utc(end_s - 100))
    last = 2**53
    return {
        "counts by hour, day, shift, region and model of everything": lambda h: h.counts(Filter(), *ALL_PERS),
        "the same of a week": lambda h: h.counts(week, *ALL_PERS),
        "counts of the night shifts of one region": lambda h: h.counts(Filter(region="cap", shift="night"), "shift"),
        "heat maps of everything": lambda h: h.heat_maps(Filter()),
        "heat maps of the night shifts of one model": lambda h: h.heat_maps(Filter(model="bbbb", shift="night")),
        "the newest 50 verdicts": lambda h: h.page(Filter(), last, 50),
        "50 faults of one region, a page in the middle": lambda h: h.page(
            Filter(region="label", decision="fault"), verdicts // 2, 50
        ),
        "50 rejects of a week of one shift": lambda h: h.page(
            dataclasses.replace(week, decision="reject", shift="early"), last, 50
        ),
        "the oldest verdicts of a model": lambda h: h.page(Filter(model="aaaa"), 200, 50),
        "one part": lambda h: (h.page(Filter(part="P777"), last, 50), h.counts(Filter(part="P777"), *ALL_PERS)),
        "labelled parts": lambda h: (
            h.page(Filter(label="defect"), last, 50),
            h.counts(Filter(label="defect"), *ALL_PERS),
        ),
        "what nothing matches": lambda h: h.page(Filter(camera="none", decision="fault"), last, 50),
    }


def rows(count: int) -> Iterator[tuple[object, ...]]:
    """Yield the values of so many verdicts."""
    draw = random.Random(0)
    half = count // 2
    row = VerdictRow(0, "", 0, 1, "", "", "rtsp://10.0.0.7/stream1", 7, "", "pass", 0.005, 0.5, 0.0125, "", "", 0, 0.1,
                     1.2, 11.3, 14.0)  # fmt: skip
    values = [getattr(row, name) for name in COLUMNS]
    at = {name: COLUMNS.index(name) for name in COLUMNS}
    for number in range(count):
        camera, region = PLACES[number % len(PLACES)]
        chance = draw.random()
        decision = "fault" if chance < FAULTS else "reject" if chance < FAULTS + REJECTED else "pass"
        changed = {
            "seq": number + 1, "time": utc(BEGIN_S + number * EVERY_S), "monotonic_ns": number, "camera": camera,
            "region": region, "part": f"P{number // len(PLACES)}", "decision": decision,
            "score": None if decision == "fault" else 0.02 if decision == "reject" else 0.005,
            "reason": "the camera is lost" if decision == "fault" else "", "model": MODELS[number > half],
            "peak_x": round(draw.random(), 4), "peak_y": round(draw.random() ** 2, 4),
        }  # fmt: skip
        for name, value in changed.items():
            values[at[name]] = value
        yield tuple(values)


def write_times(path: Path) -> dict[str, dict[str, float]]:
    """Return p50 and p99 of writing a verdict with `synchronous = normal`, in milliseconds.

    The writes are with the counts, with them while a page asks without a pause, and without them.
    """
    made = [dataclasses.replace(VerdictRow(*values), time=utc()) for values in rows(WRITES)]  # type: ignore[arg-type]
    with contextlib.closing(Journal(path, "normal")) as journal:

        def times() -> dict[str, float]:
            ms = [1e3 * _seconds(lambda row=row: journal.write(row)) for row in made]  # type: ignore[misc]
            return dict(zip(("p50_ms", "p99_ms"), np.percentile(ms, [50, 99]).round(3).tolist(), strict=True))

        times()  # warms the caches up
        found = {"with_counts": times()}
        stop = threading.Event()
        asking = threading.Thread(target=_ask_until, args=(path, stop))
        asking.start()
        found["with_counts_while_a_page_asks"] = times()
        stop.set()
        asking.join()
        with journal.transaction() as connection:
            connection.execute("DROP TRIGGER verdict_counted")
            connection.execute("DROP INDEX verdicts_rejects")
        found["without_counts"] = times()
    return found


def _ask_until(path: Path, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.closing(History(path)) as history:
            history.counts(Filter(), *ALL_PERS)
            history.heat_maps(Filter())
            history.page(Filter(), 2**53, 50)


def answer_s(path: Path, ask: Callable[[History], object]) -> float:
    """Return the longest time of an answer in seconds, with opening the journal."""

    def open_and_ask() -> None:
        with contextlib.closing(History(path)) as history:
            ask(history)

    return round(max(_seconds(open_and_ask) for _ in range(TIMES)), 3)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
