"""The schedule of a measurement: contenders by turns, so that a machine that drifts affects all of them alike.

Each contender is a process of its own. ONNX Runtime's threads spin on for tens of milliseconds after a frame and would
take the cores of the next contender, so that every turn begins with a pause; two frames that are not counted then wake
its threads and caches, and the counted ones follow back to back. The order rotates from round to round.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from .client import BenchProcess, Contender
from .protocol import STAGES
from .results import ColdStart, Idle, Latency, Throughput
from .sensors import Reading, busy_seconds, read_energy, read_power, read_sensors
from .stats import NARROW, Rounds, estimate_percentiles, jitter, quantiles

PAUSE_S = 0.05
WARM_FRAMES, FRAMES = 2, 5
"""Frames of a turn that are not counted, and that are."""
MIN_FRAMES = 200
"""Frames before `precision` may end it: fewer say nothing about a p99."""
CHECK_EVERY = 10
"""Rounds between two estimates of the intervals."""
MIN_ROUNDS = 3
MEMORY_FRAMES = 20
BATCH_RUNS = 5

PRECISION, TIME_LIMIT, INTERRUPTED = "precision", "time limit", "interrupted"


@dataclass(frozen=True)
class Plan:
    """The number of measurements of each kind, and the time limit."""

    time_limit_s: float = 60.0
    """Limit for the latencies of all contenders together; starts, idle frames and batches come on top."""
    cold_starts: int = 5
    idle_s: tuple[float, ...] = (1.0, 10.0)
    idle_repeats: int = 3
    batches: tuple[int, ...] = (1, 2, 4, 8)


@dataclass
class Tally:
    """The measurements of one contender so far."""

    contender: Contender
    facts: dict[str, Any] = field(default_factory=dict)
    starts_ms: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    installed_bytes: int | None = None
    gpu_bytes: int | None = None
    turns: list[list[dict[str, float | None]]] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    """Energy of one frame in each turn; empty where it is not known."""
    idle_ms: dict[float, list[float]] = field(default_factory=dict)
    batch_ms: dict[int, list[float]] = field(default_factory=dict)

    @property
    def rounds(self) -> Rounds:
        """Return the latencies in milliseconds [rounds, FRAMES]."""
        return np.asarray([[frame["total"] for frame in turn] for turn in self.turns], np.float64)

    def cold_start(self) -> ColdStart | None:
        """Return the cold start, None where none was measured."""
        return ColdStart(median(self.starts_ms), tuple(self.starts_ms)) if self.starts_ms else None

    def latency(self, stopped_by: str) -> Latency | None:
        """Return the latency of single frames, None where none was measured."""
        if not self.turns:
            return None
        rounds = self.rounds
        p50, p90, p99 = estimate_percentiles(rounds).values()
        frames = [frame for turn in self.turns for frame in turn]
        return Latency(
            p50.value, (p50.low, p50.high), p90.value, (p90.low, p90.high), p99.value, (p99.low, p99.high),
            max_ms=float(rounds.max()), jitter_ms=jitter(rounds), frames=rounds.size, stopped_by=stopped_by,
            stages_ms={stage: _median([frame.get(stage) for frame in frames]) for stage in STAGES},
            quantiles_ms=tuple(quantiles(rounds)),
        )  # fmt: skip

    def idle(self) -> tuple[Idle, ...]:
        """Return the frames after idle times, empty where none was measured."""
        return tuple(Idle(idle_s, median(times), tuple(times)) for idle_s, times in self.idle_ms.items())

    def throughput(self) -> tuple[Throughput, ...]:
        """Return the throughput of each batch size, empty where none was measured."""
        return tuple(
            Throughput(size, 1e3 * size / median(times), median(times)) for size, times in self.batch_ms.items()
        )

    def is_precise(self) -> bool:
        """Return whether enough frames have been measured to know the p50."""
        rounds = self.rounds
        return rounds.size >= MIN_FRAMES and estimate_percentiles(rounds, resamples=300)[50].width < NARROW


Pairs = Sequence[tuple[Tally, BenchProcess]]


@dataclass
class Session:
    """A whole run. It is filled step by step, so that an interruption leaves what has been measured."""

    tallies: list[Tally]
    stopped_by: str = INTERRUPTED
    others_cpu_share: float | None = None
    sensors_start: Reading = field(default_factory=Reading)
    sensors_end: Reading = field(default_factory=Reading)
    interrupted: bool = False


def measure(contenders: Sequence[Contender], plan: Plan, log: Callable[[str], None] = lambda line: None) -> Session:
    """Measure all contenders by the plan. Ctrl-C ends it early: the session says so, and holds what there is.

    `log` is called with one line for each step. Raises StfpmError where a contender cannot be run.
    """
    session = Session([Tally(contender) for contender in contenders])
    try:
        log("cold starts")
        for _ in range(max(plan.cold_starts, 1)):
            for tally in session.tallies:
                _measure_start(tally, is_counted=plan.cold_starts > 0)
        with _open_processes(session.tallies) as pairs:
            log(f"latencies, at most {plan.time_limit_s:.0f} s")
            _measure_latencies(session, pairs, plan)
            if plan.idle_s:
                log(f"single frames after {' and '.join(f'{pause:g}' for pause in plan.idle_s)} s of idling")
            _measure_idle(pairs, plan)
            if plan.batches:
                log("batches")
            _measure_batches(pairs, plan)
    except KeyboardInterrupt:
        session.interrupted = True
    if session.stopped_by == INTERRUPTED:
        session.sensors_end = read_sensors()
    return session


def _measure_start(tally: Tally, *, is_counted: bool) -> None:
    """Measure one process from its start to its first verdict, and its memory after some more frames."""
    with contextlib.closing(BenchProcess(tally.contender)) as process:
        start_ms, tally.facts = process.wait_ready()
        if is_counted:
            tally.starts_ms.append(start_ms)
        process.request("frames", warm=0, count=MEMORY_FRAMES)
        if tally.installed_bytes is None:
            memory = process.request("memory")
            tally.peak_bytes, tally.installed_bytes = memory["peak_bytes"], memory["installed_bytes"]


@contextlib.contextmanager
def _open_processes(tallies: Sequence[Tally]) -> Iterator[Pairs]:
    """Open all contenders' processes one after another, and close them at the end."""
    with contextlib.ExitStack() as stack:
        pairs = []
        for tally in tallies:
            before = read_sensors().gpu_memory_bytes
            process = stack.enter_context(contextlib.closing(BenchProcess(tally.contender)))
            process.wait_ready()
            after = read_sensors().gpu_memory_bytes
            if before is not None and after is not None:
                tally.gpu_bytes = max(after - before, 0)
            pairs.append((tally, process))
        yield pairs


def _measure_latencies(session: Session, pairs: Pairs, plan: Plan) -> None:
    started, others = time.monotonic(), _others_seconds(pairs)
    for number in itertools.count(1):
        for tally, process in _rotated(pairs, number - 1):
            _take_turn(tally, process)
        if number == 1:
            session.sensors_start = read_sensors()
        elapsed = time.monotonic() - started
        share = (_others_seconds(pairs) - others) / (elapsed * (os.cpu_count() or 1))
        session.others_cpu_share = min(max(share, 0.0), 1.0)
        if number % CHECK_EVERY == 0 and all(tally.is_precise() for tally in session.tallies):
            session.stopped_by = PRECISION
        elif elapsed > plan.time_limit_s and number >= MIN_ROUNDS:
            session.stopped_by = TIME_LIMIT
        if session.stopped_by != INTERRUPTED:
            break
    session.sensors_end = read_sensors()


def _take_turn(tally: Tally, process: BenchProcess) -> None:
    time.sleep(PAUSE_S)
    started, before = time.monotonic(), read_energy()
    tally.turns.append(process.request("frames", warm=WARM_FRAMES, count=FRAMES)["frames"])
    after, watts = read_energy(), read_power()
    if before is not None and after is not None and after > before:
        tally.joules.append((after - before) / (WARM_FRAMES + FRAMES))
    elif watts is not None:
        tally.joules.append(watts * (time.monotonic() - started) / (WARM_FRAMES + FRAMES))


def _measure_idle(pairs: Pairs, plan: Plan) -> None:
    """Measure one frame of each contender after all have idled; a pause keeps one's threads away from the next."""
    for idle_s in plan.idle_s:
        for number in range(plan.idle_repeats):
            time.sleep(idle_s)
            for tally, process in _rotated(pairs, number):
                (frame,) = process.request("frames", warm=0, count=1)["frames"]
                tally.idle_ms.setdefault(idle_s, []).append(frame["total"])
                time.sleep(PAUSE_S)


def _measure_batches(pairs: Pairs, plan: Plan) -> None:
    for size, _, (tally, process) in itertools.product(plan.batches, range(2), pairs):
        time.sleep(PAUSE_S)
        if times := process.request("batch", size=size, count=BATCH_RUNS)["times"]:
            tally.batch_ms.setdefault(size, []).extend(times)


def _rotated(pairs: Pairs, number: int) -> Pairs:
    first = number % len(pairs)
    return [*pairs[first:], *pairs[:first]]


def _others_seconds(pairs: Pairs) -> float:
    """Return the processor seconds of all programs but this one and the contenders."""
    return busy_seconds() - time.process_time() - sum(process.cpu_seconds() for _, process in pairs)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
