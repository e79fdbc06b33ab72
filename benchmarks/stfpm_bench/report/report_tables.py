"""The tables and sentences of a report, as text: the terminal, Markdown and the page show the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stfpm_bench.protocol import STAGES
from stfpm_bench.results import BenchReport, ModelResult
from stfpm_bench.roofline import Roofline

NOT_MEASURED = "-"
STAGE_HEADINGS = ["model", *STAGES]
ROOFLINE_HEADINGS = ["layers", "million multiply-adds", "MB moved", "limit ms", "takes ms", "of the limit"]

Row = tuple[str, Callable[[ModelResult], object], str]
"""A heading, what it says of a model (None for what was not measured), and its format."""


@dataclass(frozen=True)
class Section:
    """One table."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[tuple[int, int]] = ()
    """Time and limit of each group of layers in a roofline, in percent of the longest; other tables have none."""


def sections(report: BenchReport) -> list[Section]:
    """Return all tables of a report, in order; what no model has is left out."""
    names = ["", *(model.name for model in report.models)]
    found = [Section("From frame to decision", names, _rows(_main_rows(report), report))]
    if quality := _rows(_QUALITY_ROWS, report):
        found.append(Section("Parity and accuracy", names, quality))
    stages = [
        [model.name, *(number(model.latency.stages_ms.get(stage), ".2f") for stage in STAGES)]
        for model in report.models
        if model.latency
    ]
    if stages:
        found.append(Section("Where a frame's time goes, medians in ms", STAGE_HEADINGS, stages))
    return found + [_roofline(model, model.roofline) for model in report.models if model.roofline]


def reader_notes(report: BenchReport) -> list[str]:
    """Return what a reader has to know before trusting the report, a sentence each."""
    lines = [f"Too noisy to trust: {reason}." for reason in report.noise]
    if report.interrupted:
        lines.append("Interrupted: what is missing was not measured.")
    limited = []
    notes: dict[str, list[str]] = {}
    for model in report.models:
        if model.latency and model.latency.stopped_by == "time limit":
            low, high = model.latency.p50_interval_ms
            limited.append(f"{model.name} {(high - low) / model.latency.p50_ms:.1%}")
        if model.parity and not model.parity.holds:
            count = model.parity.verdict_flips
            flips = f"; {count} of {model.parity.images} verdicts flip" if count else ""
            lines.append(
                f"{model.name}: its map is {model.parity.map_max_error:.2g} away from {model.parity.against}'s, "
                f"{model.parity.limit:.2g} is allowed{flips}."
            )
        for note in (*model.notes, *(model.accuracy.notes if model.accuracy else ())):
            notes.setdefault(note, []).append(model.name)
    if limited:
        lines.append(f"The time limit ended it, with each p50 known to: {', '.join(limited)}.")
    return lines + [f"{', '.join(names)}: {note}." for note, names in notes.items()]


def conditions(report: BenchReport) -> list[str]:
    """Return how the run was measured, a line each."""
    packages = ", ".join(f"{name} {version}" for name, version in report.machine.packages.items())
    frames = [model.latency.frames for model in report.models if model.latency]
    lines = [
        f"{report.machine.title}; Python {report.machine.python}; {packages}",
        f"{report.created[:10]}; from a {report.frame[0]}x{report.frame[1]} uint8 frame in memory to its decision; "
        f"by turns, each model in a process of its own; threads: {report.threads or 'the engine decides'}; "
        f"{min(frames, default=0)} frames or more of each; ± is half the 95% interval of the p50",
    ]
    start, end = report.sensors_start, report.sensors_end
    if start.clock_mhz and end.clock_mhz:
        lines.append(f"clock {start.clock_mhz:.0f} MHz at the start, {end.clock_mhz:.0f} at the end")
    for name, celsius in end.temperatures_c.items():
        lines.append(f"{name} {start.temperatures_c.get(name, celsius):.0f} °C at the start, {celsius:.0f} at the end")
    lines += [f"{name} {watts:.1f} W" for name, watts in end.power_w.items()]
    if report.others_cpu_share is not None:
        lines.append(f"other programs used {report.others_cpu_share:.0%} of the processor meanwhile")
    return lines


def number(value: object, form: str) -> str:
    """Return a value in a format, or the sign for what was not measured."""
    return NOT_MEASURED if value is None else format(value, form)


def megabytes(value: int | None) -> str:
    """Return bytes as MB, with a digit behind the point for less than 100 MB."""
    return number(None if value is None else value / 1e6, ".1f" if value is not None and value < 1e8 else ".0f")


def _main_rows(report: BenchReport) -> list[Row]:
    idle_times = sorted({idle.idle_s for model in report.models for idle in model.idle})
    return [
        ("precision", lambda model: model.precision, ""),
        ("provider", lambda model: model.provider, ""),
        ("p50, ms", lambda model: model.latency and model.latency.p50_ms, ".1f"),
        ("± ms", lambda model: model.latency and model.latency.p50_half_width_ms, ".2f"),
        ("p90, ms", lambda model: model.latency and model.latency.p90_ms, ".1f"),
        ("p99, ms", lambda model: model.latency and model.latency.p99_ms, ".1f"),
        ("max, ms", lambda model: model.latency and model.latency.max_ms, ".1f"),
        ("jitter, ms", lambda model: model.latency and model.latency.jitter_ms, ".2f"),
        ("frames/s (at batch)", _throughput, ""),
        ("cold start, s", lambda model: model.cold_start and model.cold_start.p50_ms / 1e3, ".2f"),
        *((f"after {idle_s:g} s idle, ms", _idle(idle_s), ".1f") for idle_s in idle_times),
        ("memory, MB", lambda model: megabytes(model.peak_bytes), ""),
        ("GPU, MB", lambda model: megabytes(model.gpu_bytes), ""),
        ("file, MB", lambda model: megabytes(model.file_bytes), ""),
        ("installed, MB", lambda model: megabytes(model.installed_bytes), ""),
        ("energy, mJ/frame", lambda model: model.energy_mj_per_frame, ".1f"),
    ]


_QUALITY_ROWS: list[Row] = [
    ("parity against", lambda model: model.parity and model.parity.against, ""),
    ("map error", lambda model: model.parity and model.parity.map_max_error, ".2g"),
    ("allowed", lambda model: model.parity and model.parity.limit, ".2g"),
    ("flips", lambda model: model.parity and f"{model.parity.verdict_flips} of {model.parity.images}", ""),
    ("data", lambda model: model.accuracy and model.accuracy.data, ""),
    ("image AUROC", lambda model: model.accuracy and model.accuracy.image_auroc, ".4f"),
    ("pixel AUROC", lambda model: model.accuracy and model.accuracy.pixel_auroc, ".4f"),
    ("PRO", lambda model: model.accuracy and model.accuracy.pro, ".4f"),
    ("missed", lambda model: _share_of(model, "missed", "defective"), ""),
    ("false alarms", lambda model: _share_of(model, "false_alarms", "good"), ""),
]


def _rows(rows: Sequence[Row], report: BenchReport) -> list[list[str]]:
    """Return the rows with a cell for each model, so that the table stays narrow; rows without a value are left out."""
    texts = [[heading, *(number(value(model), form) for model in report.models)] for heading, value, form in rows]
    return [row for row in texts if set(row[1:]) != {NOT_MEASURED}]


def _throughput(model: ModelResult) -> str | None:
    best = max(model.throughput, key=lambda one: one.frames_per_s, default=None)
    return f"{best.frames_per_s:.0f} ({best.batch})" if best else None


def _idle(idle_s: float) -> Callable[[ModelResult], float | None]:
    return lambda model: next((idle.p50_ms for idle in model.idle if idle.idle_s == idle_s), None)


def _share_of(model: ModelResult, count: str, total: str) -> str | None:
    if model.accuracy is None or getattr(model.accuracy, count) is None:
        return None
    return f"{getattr(model.accuracy, count)} of {getattr(model.accuracy, total)}"


def _roofline(model: ModelResult, roofline: Roofline) -> Section:
    parts = [(one.name, one.macs, one.bytes, one.limit_ms, one.time_ms) for one in roofline.groups]
    macs, moved = sum(part[1] for part in parts), sum(part[2] for part in parts)
    longest = max((max(limit, time) for *_, limit, time in parts), default=0.0) or 1.0
    rows = [
        [name, f"{macs / 1e6:.0f}", f"{moved / 1e6:.1f}", f"{limit:.2f}", f"{time:.2f}",
         f"{limit / time:.0%}" if time and (macs or moved) else NOT_MEASURED]
        for name, macs, moved, limit, time in [*parts, ("the whole", macs, moved, roofline.limit_ms, roofline.time_ms)]
    ]  # fmt: skip
    title = (
        f"{model.name} compared with this machine's limit: {roofline.peak_gops:.0f} Gop/s in {model.precision}, "
        f"{roofline.copy_gb_s:.0f} GB/s"
    )
    bars = [(round(100 * time / longest), round(100 * limit / longest)) for *_, limit, time in parts]
    return Section(title, ROOFLINE_HEADINGS, rows, bars)
