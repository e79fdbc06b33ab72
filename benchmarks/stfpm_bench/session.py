"""The schedule: contenders by turns, so that a machine that drifts harms all alike.

Each contender is a process of its own. ONNX Runtime's threads spin on for tens of milliseconds after a frame and would
take the cores of whoever comes next, so that every turn begins with a pause; two frames that are not counted then wake
its threads and caches, and the counted ones follow back to back. The order rotates from round to round.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from .client import Contender, Worker
from .protocol import STAGES
from .results import ColdStart, Idle, Latency, Throughput
from .sensors import Reading, busy_seconds, read_energy, read_power, read_sensors
from .stats import NARROW, Rounds, estimate_percentiles, jitter, quantiles

PAUSE_S = 0.05
WARM, FRAMES = 2, 5
"""Frames of a turn that are not counted, and that are."""
ENOUGH = 200
"""Frames before `precision` may end it: fewer say nothing about a p99."""
CHECK_EVERY = 10
"""Rounds between looks at the intervals."""
LEAST_ROUNDS = 3
MEMORY_FRAMES = 20
BATCH_RUNS = 5

PRECISION, TIME_LIMIT, INTERRUPTED = "precision", "time limit", "interrupted"


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    time_limit_s: float = 60.0
    """For the latencies of all contenders together; what else there is comes on top."""
    cold_starts: int = 5
    idle_s: tuple[float, ...] = (1.0, 10.0)
    idle_repeats: int = 3
    batches: tuple[int, ...] = (1, 2, 4, 8)


@dataclass
class Tally:
    """What is known of a contender so far."""

    contender: Contender
    facts: dict[str, Any] = field(default_factory=dict)
    starts_ms: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    installed_bytes: int | None = None
    gpu_bytes: int | None = None
    turns: list[list[dict[str, float | None]]] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    """Of each turn, for one frame; empty where the machine does not tell."""
    idle_ms: dict[float, list[float]] = field(default_factory=dict)
    batch_ms: dict[int, list[float]] = field(default_factory=dict)

    @property
    def rounds(self) -> Rounds:
        """Latencies in milliseconds [rounds, FRAMES]."""
        return np.asarray([[frame["total"] for frame in turn] for turn in self.turns], np.float64)

    def cold_start(self) -> ColdStart | None:
        """See ColdStart."""
        return ColdStart(median(self.starts_ms), tuple(self.starts_ms)) if self.starts_ms else None

    def latency(self, stopped_by: str) -> Latency | None:
        """See Latency."""
        if not self.turns:
            return None
        rounds = self.rounds
        p50, p90, p99 = estimate_percentiles(rounds).values()
        frames = [frame for turn in self.turns for frame in turn]
        return Latency(
            p50.value, (p50.low, p50.high), p90.value, (p90.low, p90.high), p99.value, (p99.low, p99.high),
            max_ms=float(rounds.max()), jitter_ms=jitter(rounds), frames=rounds.size, stopped_by=stopped_by,
            stages_ms={stage: _median_of([frame.get(stage) for frame in frames]) for stage in STAGES},
            quantiles_ms=tuple(quantiles(rounds)),
        )  # fmt: skip

    def idle(self) -> tuple[Idle, ...]:
        """See Idle."""
        return tuple(Idle(idle_s, median(own), tuple(own)) for idle_s, own in self.idle_ms.items() if own)

    def throughput(self) -> tuple[Throughput, ...]:
        """See Throughput."""
        return tuple(
            Throughput(size, 1e3 * size / median(own), median(own)) for size, own in self.batch_ms.items() if own
        )


@dataclass
class Session:
    """A whole run. It is filled step by step, so that what there is survives an interruption."""

    tallies: list[Tally]
    stopped_by: str = INTERRUPTED
    others_cpu_share: float | None = None
    sensors_start: Reading = field(default_factory=Reading)
    sensors_end: Reading = field(default_factory=Reading)
    interrupted: bool = False


def measure(contenders: Sequence[Contender], plan: Plan, say: Callable[[str], None] = lambda line: None) -> Session:
    """Measure all contenders by the plan. Ctrl-C ends it early: the session says so, and holds what there is.

    `say` gets lines for a person. Raises StfpmError where a contender cannot be run.
    """
    session = Session([Tally(contender) for contender in contenders])
    try:
        say("cold starts")
        for _ in range(max(plan.cold_starts, 1)):
            for tally in session.tallies:
                start_cold(tally, count=plan.cold_starts > 0)
        with _open(session.tallies) as workers:
            say(f"latencies, at most {plan.time_limit_s:.0f} s")
            _measure_latencies(session, workers, plan)
            if plan.idle_s:
                say(f"single frames after {' and '.join(f'{pause:g}' for pause in plan.idle_s)} s of idling")
            _measure_idle(session.tallies, workers, plan)
            if plan.batches:
                say("batches")
            _measure_batches(session.tallies, workers, plan)
    except KeyboardInterrupt:
        session.interrupted = True
    session.sensors_end = session.sensors_end if session.stopped_by != INTERRUPTED else read_sensors()
    return session


def start_cold(tally: Tally, *, count: bool = True) -> None:
    """One process from its start to its first verdict, and its memory after some more frames."""
    worker = Worker(tally.contender)
    try:
        start_ms, tally.facts = worker.wait_ready()
        if count:
            tally.starts_ms.append(start_ms)
        worker.ask("frames", warm=0, count=MEMORY_FRAMES)
        if tally.installed_bytes is None:
            memory = worker.ask("memory")
            tally.peak_bytes, tally.installed_bytes = memory["peak_bytes"], memory["installed_bytes"]
    finally:
        worker.close()


@contextlib.contextmanager
def _open(tallies: Sequence[Tally]) -> Iterator[list[Worker]]:
    """All contenders' processes, opened one after another."""
    with contextlib.ExitStack() as stack:
        workers = []
        for tally in tallies:
            before = read_sensors().gpu_memory_bytes
            worker = Worker(tally.contender)
            stack.callback(worker.close)
            worker.wait_ready()
            after = read_sensors().gpu_memory_bytes
            if before is not None and after is not None:
                tally.gpu_bytes = max(after - before, 0)
            workers.append(worker)
        yield workers


def _measure_latencies(session: Session, workers: Sequence[Worker], plan: Plan) -> None:
    pairs = list(zip(session.tallies, workers, strict=True))
    started, busy, own = time.monotonic(), busy_seconds(), _own_seconds(workers)
    for number in range(1 << 30):
        for tally, worker in pairs[number % len(pairs) :] + pairs[: number % len(pairs)]:
            _take_turn(tally, worker)
        if number == 0:
            session.sensors_start = read_sensors()
        if is_over := time.monotonic() - started > plan.time_limit_s and number + 1 >= LEAST_ROUNDS:
            session.stopped_by = TIME_LIMIT
        if (number + 1) % CHECK_EVERY == 0 and all(map(is_known, session.tallies)):
            session.stopped_by, is_over = PRECISION, True
        if busy is not None:
            elapsed = (time.monotonic() - started) * _cores()
            others = (busy_seconds() or 0.0) - busy - (_own_seconds(workers) - own)
            session.others_cpu_share = min(max(others / elapsed, 0.0), 1.0)
        if is_over:
            break
    session.sensors_end = read_sensors()


def _take_turn(tally: Tally, worker: Worker) -> None:
    time.sleep(PAUSE_S)
    started, before = time.monotonic(), read_energy()
    frames = worker.ask("frames", warm=WARM, count=FRAMES)["frames"]
    after, watts = read_energy(), read_power()
    tally.turns.append(frames)
    if before is not None and after is not None and after > before:
        tally.joules.append((after - before) / (WARM + FRAMES))
    elif watts is not None:
        tally.joules.append(watts * (time.monotonic() - started) / (WARM + FRAMES))


def is_known(tally: Tally) -> bool:
    """Whether enough has been measured of a contender."""
    rounds = tally.rounds
    return rounds.size >= ENOUGH and estimate_percentiles(rounds, resamples=300)[50].width < NARROW


def _measure_idle(tallies: Sequence[Tally], workers: Sequence[Worker], plan: Plan) -> None:
    """A single frame of each after all have idled; the pause between two keeps one's threads out of the next's way."""
    pairs = list(zip(tallies, workers, strict=True))
    for idle_s in plan.idle_s:
        for number in range(plan.idle_repeats):
            time.sleep(idle_s)
            for tally, worker in pairs[number % len(pairs) :] + pairs[: number % len(pairs)]:
                (frame,) = worker.ask("frames", warm=0, count=1)["frames"]
                tally.idle_ms.setdefault(idle_s, []).append(frame["total"])
                time.sleep(PAUSE_S)


def _measure_batches(tallies: Sequence[Tally], workers: Sequence[Worker], plan: Plan) -> None:
    for size in plan.batches:
        for _ in range(2):
            for tally, worker in zip(tallies, workers, strict=True):
                time.sleep(PAUSE_S)
                times = worker.ask("batch", size=size, count=BATCH_RUNS)["times"]
                if times:
                    tally.batch_ms.setdefault(size, []).extend(times)


def _own_seconds(workers: Sequence[Worker]) -> float:
    return time.process_time() + sum(worker.cpu_seconds() for worker in workers)


def _cores() -> int:
    return os.cpu_count() or 1


def _median_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return median(known) if known else None
