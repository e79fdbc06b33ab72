"""Compare two runs, `stfpm-bench --compare old.json new.json`: what got worse, beyond noise.

A latency is worse where the two intervals do not overlap and the new one is larger by more than what two runs of
one file on one machine differ by. Memory and sizes have no intervals, accuracy has no noise: they have
margins of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median_high

from stfpm_runtime.errors import OptionError

from .results import BenchReport, ModelResult

LATENCY_MARGIN = 0.05
START_MARGIN = 0.25
"""Margin of cold starts and of frames after idle times, of which there are few."""
MEMORY_MARGIN = 0.05
SIZE_MARGIN = 0.01
AUROC_MARGIN = 0.002
PARITY_FACTOR = 1.5

Range = tuple[float, Sequence[float]]
"""A time and the times within which it lies."""

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
    """All changes, and notes about what could not be compared."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    @property
    def worse(self) -> tuple[Change, ...]:
        """Return the changes for the worse."""
        return tuple(change for change in self.changes if change.verdict == WORSE)


def compare(old: BenchReport, new: BenchReport) -> Comparison:
    """Compare every model of the old run with the one of its name in the new run; one that is missing got worse.

    Latencies, memory and starts are compared where both runs were on the same hardware and neither was too noisy.
    Raises OptionError where the frames differ, or the runs have no model in common.
    """
    if old.frame != new.frame:
        before, after = ("x".join(map(str, run.frame)) for run in (old, new))
        raise OptionError(f"frames of {before} and of {after}; expected the same, measure again with --frame")
    later = {model.name: model for model in new.models}
    if not {model.name for model in old.models} & set(later):
        raise OptionError("the two runs have no model in common; expected files of the same names")
    is_same_machine = old.machine.hardware == new.machine.hardware
    noise = old.noise or new.noise
    changes: list[Change] = []
    for model in old.models:
        if model.name not in later:
            changes.append(Change(model.name, "model", "measured", "missing", WORSE))
            continue
        changes += _compare_facts(model, later[model.name])
        if is_same_machine:
            changes += _compare_times(model, later[model.name], is_noisy=bool(noise))
    notes = []
    if not is_same_machine:
        differ = ", ".join(sorted({*old.machine.extensions} ^ {*new.machine.extensions}))
        notes.append(
            f"another machine ({old.machine.title}; then {new.machine.title}"
            f"{f'; only one of them has {differ}' if differ else ''}): times and memory are not compared"
        )
    if noise:
        notes.append(f"too noisy to compare latencies: {noise[0]}")
    notes += [f"the {which} run was interrupted" for which, run in (("old", old), ("new", new)) if run.interrupted]
    if old.threads != new.threads:
        notes.append(f"threads differ: {old.threads or 'all'}, then {new.threads or 'all'}")
    return Comparison(tuple(changes), tuple(notes))


def _compare_facts(old: ModelResult, new: ModelResult) -> Iterator[Change]:
    """Compare what does not depend on how fast the machine is."""
    for figure in ("provider", "precision"):
        before, after = getattr(old, figure), getattr(new, figure)
        yield Change(new.name, figure, before, after, SAME if before == after else WORSE)
    yield from _compare_bytes(new.name, "file", old.file_bytes, new.file_bytes, SIZE_MARGIN)
    yield from _compare_bytes(new.name, "installed size", old.installed_bytes, new.installed_bytes, SIZE_MARGIN)
    if old.parity and new.parity:
        before, after = old.parity.map_max_error, new.parity.map_max_error
        is_worse = after > PARITY_FACTOR * before + 1e-9 and not new.parity.holds
        yield Change(new.name, "parity", f"{before:.2g}", f"{after:.2g}", WORSE if is_worse else SAME)
    if old.accuracy and new.accuracy and old.accuracy.data == new.accuracy.data:
        for figure in ("image_auroc", "pixel_auroc", "pro"):
            before, after = getattr(old.accuracy, figure), getattr(new.accuracy, figure)
            if before is not None and after is not None:
                verdict = _verdict(after < before - AUROC_MARGIN, after > before + AUROC_MARGIN)
                yield Change(new.name, figure.replace("_", " "), f"{before:.4f}", f"{after:.4f}", verdict)


def _compare_times(old: ModelResult, new: ModelResult, *, is_noisy: bool) -> Iterator[Change]:
    def compare_ranges(figure: str, before: Range, after: Range, margin: float, form: str) -> Change:
        is_worse = min(after[1]) > max(before[1]) and after[0] > before[0] * (1 + margin)
        is_better = max(after[1]) < min(before[1]) and before[0] > after[0] * (1 + margin)
        verdict = UNKNOWN if is_noisy else _verdict(is_worse, is_better)
        return Change(new.name, figure, f"{before[0]:{form}} ms", f"{after[0]:{form}} ms", verdict)

    if old.latency and new.latency:
        for which in ("p50", "p90", "p99"):
            before, after = (
                (getattr(latency, f"{which}_ms"), getattr(latency, f"{which}_interval_ms"))
                for latency in (old.latency, new.latency)
            )
            yield compare_ranges(which, before, after, LATENCY_MARGIN, ".2f")
    few = []  # all of one run have to lie on one side of all of the other
    if old.cold_start and new.cold_start:
        few.append(("cold start", old.cold_start.starts_ms, new.cold_start.starts_ms))
    later = {idle.idle_s: idle.frames_ms for idle in new.idle}
    few += [(f"after {one.idle_s:g} s", one.frames_ms, later[one.idle_s]) for one in old.idle if one.idle_s in later]
    for figure, olds, news in few:
        yield compare_ranges(figure, (median_high(olds), olds), (median_high(news), news), START_MARGIN, ".1f")
    yield from _compare_bytes(new.name, "memory", old.peak_bytes, new.peak_bytes, MEMORY_MARGIN)


def _compare_bytes(name: str, figure: str, old: int | None, new: int | None, margin: float) -> Iterator[Change]:
    if old is not None and new is not None:
        verdict = _verdict(new > old * (1 + margin), old > new * (1 + margin))
        yield Change(name, figure, f"{old / 1e6:.1f} MB", f"{new / 1e6:.1f} MB", verdict)


def _verdict(is_worse: bool, is_better: bool) -> str:
    return WORSE if is_worse else BETTER if is_better else SAME
