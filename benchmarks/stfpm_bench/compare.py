"""What got worse from one run to another, beyond noise: `stfpm-bench --compare old.json new.json`.

A latency is worse where the two intervals do not overlap and the new figure is larger by more than what two runs of
one file on one machine differ by. Memory and sizes have no intervals, accuracy has no noise: they have
margins of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stfpm_runtime.errors import OptionError

from .results import BenchReport, Idle, ModelResult, Throughput

LATENCY_MARGIN = 0.05
START_MARGIN = 0.25
"""Of starts and idle frames, of which there are few."""
MEMORY_MARGIN = 0.05
SIZE_MARGIN = 0.01
AUROC_MARGIN = 0.002
PARITY_FACTOR = 1.5

SAME, BETTER, WORSE, UNKNOWN = "same", "better", "worse", "cannot be told"


@dataclass(frozen=True)
class Change:
    """One figure of one model, before and after."""

    model: str
    figure: str
    before: str
    after: str
    verdict: str
    """`same` within noise, `better`, `worse`, or `cannot be told`."""


@dataclass(frozen=True)
class Comparison:
    """All changes, and what could not be compared."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    @property
    def worse(self) -> tuple[Change, ...]:
        """What got worse."""
        return tuple(change for change in self.changes if change.verdict == WORSE)


def compare(old: BenchReport, new: BenchReport) -> Comparison:
    """Hold every model of the old run against the one of its name in the new run; one that is gone got worse.

    Latencies, memory and starts are compared where both runs were on the same hardware and neither was too noisy.
    Raises OptionError where the frames differ, or the runs have no model in common.
    """
    if old.frame != new.frame:
        raise OptionError(f"frames of {_side(old)} and of {_side(new)}; expected the same, measure again with --frame")
    after = {model.name: model for model in new.models}
    if not {model.name for model in old.models} & set(after):
        raise OptionError("the two runs have no model in common; expected files of the same names")
    notes = []
    if old.machine.hardware != new.machine.hardware:
        differ = ", ".join(sorted({*old.machine.extensions} ^ {*new.machine.extensions}))
        notes.append(
            f"another machine ({old.machine.title}; then {new.machine.title}"
            f"{f'; only one of them has {differ}' if differ else ''}): times and memory are not compared"
        )
    is_noisy = bool(old.noise or new.noise)
    if is_noisy:
        notes.append(f"too noisy to compare latencies: {(old.noise or new.noise)[0]}")
    notes += [f"the {which} run was interrupted" for which, run in (("old", old), ("new", new)) if run.interrupted]
    if old.threads != new.threads:
        notes.append(f"threads differ: {old.threads or 'all'}, then {new.threads or 'all'}")
    changes: list[Change] = []
    for model in old.models:
        if model.name not in after:
            changes.append(Change(model.name, "model", "measured", "missing", WORSE))
            continue
        changes += _facts(model, after[model.name])
        if old.machine.hardware == new.machine.hardware:
            changes += _times(model, after[model.name], is_noisy=is_noisy)
    return Comparison(tuple(changes), tuple(notes))


def _facts(old: ModelResult, new: ModelResult) -> Iterator[Change]:
    """What does not depend on how fast the machine is."""
    for figure, before, after in (
        ("provider", old.provider, new.provider),
        ("precision", old.precision, new.precision),
    ):
        yield Change(new.name, figure, before, after, SAME if before == after else WORSE)
    sizes = ("file", old.file_bytes, new.file_bytes), ("installed size", old.installed_bytes, new.installed_bytes)
    for figure, old_bytes, new_bytes in sizes:
        yield from _margin(new.name, figure, old_bytes, new_bytes, SIZE_MARGIN)
    if old.parity and new.parity:
        one, other = old.parity.map_max_error, new.parity.map_max_error
        verdict = WORSE if other > PARITY_FACTOR * one + 1e-9 and not new.parity.holds else SAME
        yield Change(new.name, "parity", f"{one:.2g}", f"{other:.2g}", verdict)
    if old.accuracy and new.accuracy and old.accuracy.data == new.accuracy.data:
        for figure in ("image_auroc", "pixel_auroc", "pro"):
            one, other = getattr(old.accuracy, figure), getattr(new.accuracy, figure)
            if one is not None and other is not None:
                shift = other - one
                verdict = SAME if abs(shift) <= AUROC_MARGIN else BETTER if shift > 0 else WORSE
                yield Change(new.name, figure.replace("_", " "), f"{one:.4f}", f"{other:.4f}", verdict)


def _times(old: ModelResult, new: ModelResult, *, is_noisy: bool) -> Iterator[Change]:
    if old.latency and new.latency:
        for which in ("p50", "p90", "p99"):
            (one, low, high), (other, new_low, new_high) = (
                (getattr(latency, f"{which}_ms"), *getattr(latency, f"{which}_interval_ms"))
                for latency in (old.latency, new.latency)
            )
            verdict = SAME
            if new_low > high and other > one * (1 + LATENCY_MARGIN):
                verdict = WORSE
            elif new_high < low and one > other * (1 + LATENCY_MARGIN):
                verdict = BETTER
            yield Change(new.name, which, f"{one:.2f} ms", f"{other:.2f} ms", UNKNOWN if is_noisy else verdict)
    if old.cold_start and new.cold_start:
        one, other = old.cold_start.starts_ms, new.cold_start.starts_ms
        yield _apart(new.name, "cold start", one, other, is_noisy=is_noisy)
    for idle, later in _pairs(old.idle, new.idle):
        yield _apart(new.name, f"after {idle.idle_s:g} s", idle.frames_ms, later.frames_ms, is_noisy=is_noisy)
    yield from _margin(new.name, "memory", old.peak_bytes, new.peak_bytes, MEMORY_MARGIN)


def _pairs(old: tuple[Idle, ...], new: tuple[Idle, ...]) -> Iterator[tuple[Idle, Idle]]:
    later = {idle.idle_s: idle for idle in new}
    return ((idle, later[idle.idle_s]) for idle in old if idle.idle_s in later)


def _apart(name: str, figure: str, old: tuple[float, ...], new: tuple[float, ...], *, is_noisy: bool) -> Change:
    """Of few repetitions: all of one run on one side of all of the other, and by a margin."""
    one, other = sorted(old)[len(old) // 2], sorted(new)[len(new) // 2]
    verdict = SAME
    if min(new) > max(old) and other > one * (1 + START_MARGIN):
        verdict = WORSE
    elif max(new) < min(old) and one > other * (1 + START_MARGIN):
        verdict = BETTER
    return Change(name, figure, f"{one:.1f} ms", f"{other:.1f} ms", UNKNOWN if is_noisy else verdict)


def _margin(name: str, figure: str, old: int | None, new: int | None, margin: float) -> Iterator[Change]:
    if old is not None and new is not None:
        verdict = WORSE if new > old * (1 + margin) else BETTER if old > new * (1 + margin) else SAME
        yield Change(name, figure, f"{old / 1e6:.1f} MB", f"{new / 1e6:.1f} MB", verdict)


def _side(report: BenchReport) -> str:
    return "x".join(map(str, report.frame))


def best_throughput(model: ModelResult) -> Throughput | None:
    """The batch that gives the most frames a second; None where none was measured."""
    return max(model.throughput, key=lambda one: one.frames_per_s, default=None)
