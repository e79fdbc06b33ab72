"""A run's figures as words, for all reports: one table, written once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stfpm_bench.compare import best_throughput
from stfpm_bench.results import BenchReport, ModelResult
from stfpm_bench.roofline import Roofline

NOT_MEASURED = "-"

Column = tuple[str, Callable[[ModelResult], str]]


def main_columns(report: BenchReport) -> list[Column]:
    """Heading and text of each column of the main table; what no model has is left out."""
    columns: list[Column] = [
        ("model", lambda model: model.name),
        ("precision", lambda model: model.precision),
        ("provider", lambda model: model.provider),
        ("p50, ms", lambda model: _latency(model, "p50")),
        ("± ms", _half_width),
        ("p90, ms", lambda model: _latency(model, "p90")),
        ("p99, ms", lambda model: _latency(model, "p99")),
        ("max, ms", lambda model: f"{model.latency.max_ms:.1f}" if model.latency else NOT_MEASURED),
        ("jitter, ms", lambda model: f"{model.latency.jitter_ms:.2f}" if model.latency else NOT_MEASURED),
        ("frames/s (at batch)", _throughput),
        ("cold start, s", lambda model: f"{model.cold_start.p50_ms / 1e3:.2f}" if model.cold_start else NOT_MEASURED),
        *[(f"after {idle_s:g} s idle, ms", _idle(idle_s)) for idle_s in _idle_times(report)],
        ("memory, MB", lambda model: megabytes(model.peak_bytes)),
        ("GPU, MB", lambda model: megabytes(model.gpu_bytes)),
        ("file, MB", lambda model: megabytes(model.file_bytes)),
        ("installed, MB", lambda model: megabytes(model.installed_bytes)),
        ("energy, mJ/frame", lambda model: number(model.energy_mj_per_frame, ".1f")),
    ]
    return _used(columns, report)


def quality_columns(report: BenchReport) -> list[Column]:
    """Parity and accuracy; empty where neither was asked for."""
    columns: list[Column] = [
        ("model", lambda model: model.name),
        ("parity against", lambda model: model.parity.against if model.parity else NOT_MEASURED),
        ("map error", lambda model: f"{model.parity.map_max_error:.2g}" if model.parity else NOT_MEASURED),
        ("allowed", lambda model: f"{model.parity.limit:.2g}" if model.parity else NOT_MEASURED),
        ("flips", lambda model: f"{model.parity.verdict_flips} of {model.parity.images}" if model.parity else "-"),
        ("data", lambda model: model.accuracy.data if model.accuracy else NOT_MEASURED),
        ("image AUROC", lambda model: number(model.accuracy.image_auroc if model.accuracy else None, ".4f")),
        ("pixel AUROC", lambda model: number(model.accuracy.pixel_auroc if model.accuracy else None, ".4f")),
        ("PRO", lambda model: number(model.accuracy.pro if model.accuracy else None, ".4f")),
        ("missed", lambda model: _of(model, "missed", "defective")),
        ("false alarms", lambda model: _of(model, "false_alarms", "good")),
    ]
    used = _used(columns, report)
    return used if len(used) > 1 else []


def stage_rows(report: BenchReport) -> list[list[str]]:
    """Where a frame's time goes: model, then milliseconds by stage; `-` where an engine cannot tell it apart."""
    return [
        [model.name, *(number(value, ".2f") for value in model.latency.stages_ms.values())]
        for model in report.models
        if model.latency
    ]


def roofline_rows(roofline: Roofline) -> list[list[str]]:
    """Group, multiply-adds, bytes, limit, time, and the share of the limit that is reached."""
    rows = [
        [
            group.name,
            f"{group.macs / 1e6:.0f}",
            f"{group.bytes / 1e6:.1f}",
            f"{group.limit_ms:.2f}",
            f"{group.time_ms:.2f}",
            share(group.limit_ms, group.time_ms) if group.macs or group.bytes else NOT_MEASURED,
        ]
        for group in roofline.groups
    ]
    macs, moved = (sum(getattr(group, what) for group in roofline.groups) for what in ("macs", "bytes"))
    rows.append(
        ["the whole", f"{macs / 1e6:.0f}", f"{moved / 1e6:.1f}", f"{roofline.limit_ms:.2f}",
         f"{roofline.time_ms:.2f}", share(roofline.limit_ms, roofline.time_ms)]
    )  # fmt: skip
    return rows


ROOFLINE_HEADINGS = ("layers", "million multiply-adds", "MB moved", "limit ms", "takes ms", "of the limit")
STAGE_HEADINGS = ("model", "resize", "copy in", "network", "copy out", "decision")


def remarks(report: BenchReport) -> list[str]:
    """What a reader has to know before trusting the figures, a sentence each."""
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
            lines.append(
                f"{model.name}: its map is {model.parity.map_max_error:.2g} away from {model.parity.against}'s, "
                f"{model.parity.limit:.2g} is allowed."
            )
        for note in (*model.notes, *(model.accuracy.notes if model.accuracy else ())):
            notes.setdefault(note, []).append(model.name)
    if limited:
        lines.append(f"The time limit ended it, with each p50 known to: {', '.join(limited)}.")
    lines += [f"{', '.join(names)}: {note}." for note, names in notes.items()]
    return lines


def conditions(report: BenchReport) -> list[str]:
    """How it was measured, a line each."""
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
    for name, watts in end.power_w.items():
        lines.append(f"{name} {watts:.1f} W")
    if report.others_cpu_share is not None:
        lines.append(f"other programs used {report.others_cpu_share:.0%} of the processor meanwhile")
    return lines


def number(value: float | None, form: str) -> str:
    """A number, or the sign for none."""
    return NOT_MEASURED if value is None else format(value, form)


def megabytes(value: int | None) -> str:
    """Bytes as MB, with a digit behind the point for small ones."""
    if value is None:
        return NOT_MEASURED
    return f"{value / 1e6:.1f}" if value < 1e8 else f"{value / 1e6:.0f}"


def share(part: float, whole: float) -> str:
    """In percent."""
    return f"{part / whole:.0%}" if whole else NOT_MEASURED


def turned(columns: Sequence[Column], report: BenchReport) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of a table that has a column for each model: it stays narrow, and prints well."""
    rows = [[heading, *(text(model) for model in report.models)] for heading, text in columns]
    return ["", *rows[0][1:]], rows[1:]


def _used(columns: list[Column], report: BenchReport) -> list[Column]:
    return [
        column for column in columns
        if column[0] == "model" or any(column[1](model) != NOT_MEASURED for model in report.models)
    ]  # fmt: skip


def _latency(model: ModelResult, which: str) -> str:
    return f"{getattr(model.latency, f'{which}_ms'):.1f}" if model.latency else NOT_MEASURED


def _half_width(model: ModelResult) -> str:
    if model.latency is None:
        return NOT_MEASURED
    low, high = model.latency.p50_interval_ms
    return f"{(high - low) / 2:.2f}"


def _throughput(model: ModelResult) -> str:
    best = best_throughput(model)
    return f"{best.frames_per_s:.0f} ({best.batch})" if best else NOT_MEASURED


def _idle_times(report: BenchReport) -> list[float]:
    return sorted({idle.idle_s for model in report.models for idle in model.idle})


def _idle(idle_s: float) -> Callable[[ModelResult], str]:
    def text(model: ModelResult) -> str:
        return next((f"{idle.p50_ms:.1f}" for idle in model.idle if idle.idle_s == idle_s), NOT_MEASURED)

    return text


def _of(model: ModelResult, count: str, total: str) -> str:
    if model.accuracy is None or getattr(model.accuracy, count) is None:
        return NOT_MEASURED
    return f"{getattr(model.accuracy, count)} of {getattr(model.accuracy, total)}"
