"""Charts of a report as SVG, drawn by matplotlib: one for each question that the run can answer."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from stfpm_bench.results import BenchReport, ModelResult

COLOURS = ("#0b6e99", "#d1495b", "#66a182", "#8d6a9f", "#e08e45", "#4a5759", "#00798c", "#a23b72")
"""One for each model in turn; the colour-blind can tell them apart."""
DASHES = ("-", "--", ":", "-.")
"""They tell the models apart in black and white."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "stfpm-bench", "font.family": "DejaVu Sans", "font.size": 8,
    "axes.grid": True, "axes.spines.top": False, "axes.spines.right": False, "grid.color": "#d8e0e3",
    "axes.labelcolor": "#5b6b73", "xtick.color": "#5b6b73", "ytick.color": "#5b6b73", "text.parse_math": False,
    "axes.formatter.useoffset": False,
}  # fmt: skip
DRAWN_PERCENTILE = 99
"""The distribution ends here: the slowest frame of all would squeeze it flat."""

MIN_ACCURACY_RANGE = 0.01
"""Height of the accuracy axis at least: a smaller difference looks as small as it is."""


@dataclass(frozen=True)
class Chart:
    """A drawn chart."""

    title: str
    svg: str
    """One <svg> element that needs nothing else."""
    caption: str


def charts(report: BenchReport) -> list[Chart]:
    """Return all charts that the run's results allow, in order."""
    draw_all = (latency_distribution, accuracy_over_latency, latency_over_batch, parity_scatter)
    return [chart for chart in (draw(report) for draw in draw_all) if chart is not None]


def latency_distribution(report: BenchReport) -> Chart | None:
    """Draw the share of frames that take no longer than some time."""

    def draw(axes: Axes, number: int, model: ModelResult) -> None:
        assert model.latency is not None, "filtered"
        times = model.latency.quantiles_ms[: DRAWN_PERCENTILE + 1]
        axes.plot(times, range(len(times)), **_style(number, model), linestyle=DASHES[number % len(DASHES)])

    def finish(axes: Axes) -> None:
        low, high = axes.get_xlim()
        if low > 0 and high > 4 * low:
            axes.set_xscale("log")
            _plain_ticks(axes.xaxis)
        for percentile in (50, 90):
            axes.axhline(percentile, color="#999", linewidth=0.8, linestyle=":")
        axes.set(xlabel="latency, ms", ylabel="frames no slower, %", ylim=(0, 100))

    caption = f"Single frames back to back, up to the {DRAWN_PERCENTILE}th percentile; a steeper line is steadier."
    return _chart(report, "Latency: its distribution", caption, lambda model: model.latency is not None, draw, finish)


def accuracy_over_latency(report: BenchReport) -> Chart | None:
    """Draw what a faster model costs in detections: PRO where it is known, image AUROC elsewhere."""
    has_pro = any(model.accuracy and model.accuracy.pro is not None for model in report.models)

    def accuracy(model: ModelResult) -> Any:  # noqa: ANN401  float or None
        return getattr(model.accuracy, "pro" if has_pro else "image_auroc", None)

    def draw(axes: Axes, number: int, model: ModelResult) -> None:
        assert model.latency is not None, "filtered"
        p50, (low, high) = model.latency.p50_ms, model.latency.p50_interval_ms
        axes.plot([low, high], [accuracy(model)] * 2, color=COLOURS[number % len(COLOURS)], linewidth=1)
        axes.plot([p50], [accuracy(model)], **_style(number, model), marker="o", linestyle="")

    def finish(axes: Axes) -> None:
        axes.set(xlabel="latency p50, ms", ylabel="PRO" if has_pro else "image AUROC", xlim=(0, None))
        low, high = axes.get_ylim()
        air = max(MIN_ACCURACY_RANGE - (high - low), 0) / 2
        axes.set_ylim(low - air, high + air)

    caption = "Up and left is better. The bar is the p50's interval."
    return _chart(
        report, "Accuracy against latency", caption,
        lambda model: model.latency is not None and accuracy(model) is not None, draw, finish,
    )  # fmt: skip


def latency_over_batch(report: BenchReport) -> Chart | None:
    """Draw what waiting for a batch gains."""

    def draw(axes: Axes, number: int, model: ModelResult) -> None:
        sizes = [one.batch for one in model.throughput]
        times = [one.p50_ms / one.batch for one in model.throughput]
        axes.plot(sizes, times, **_style(number, model), linestyle=DASHES[number % len(DASHES)], marker="o")

    def finish(axes: Axes) -> None:
        sizes = sorted({one.batch for model in report.models for one in model.throughput})
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set(xlabel="frames at once", ylabel="ms a frame", ylim=(0, None))

    caption = "A batch's median, divided by its frames."
    return _chart(report, "Latency against batch", caption, lambda model: len(model.throughput) > 1, draw, finish)


def parity_scatter(report: BenchReport) -> Chart | None:
    """Draw the scores of each file over PyTorch's, as far as both are above 0."""

    def positive_scores(model: ModelResult) -> list[tuple[float, float]]:
        if model.parity is None:
            return []
        pairs = zip(model.parity.reference_scores, model.parity.scores, strict=True)
        return [pair for pair in pairs if min(pair) > 0]

    def draw(axes: Axes, number: int, model: ModelResult) -> None:
        size = 7 - 4 * number / len(report.models)  # equal points of different models stay visible as rings
        pairs = positive_scores(model)
        axes.loglog(*zip(*pairs, strict=True), **_style(number, model), marker="o", markersize=size, linestyle="")

    def finish(axes: Axes) -> None:
        _plain_ticks(axes.xaxis)
        _plain_ticks(axes.yaxis)
        ends = axes.get_xlim()
        axes.plot(ends, ends, color="#999", linewidth=0.8, linestyle=":")
        axes.set(xlabel="PyTorch's score", ylabel="the file's score")

    caption = "A file that computes what PyTorch computes lies on the line."
    return _chart(report, "Parity", caption, lambda model: bool(positive_scores(model)), draw, finish)


def _chart(
    report: BenchReport,
    title: str,
    caption: str,
    is_drawn: Callable[[ModelResult], bool],
    draw: Callable[[Axes, int, ModelResult], None],
    finish: Callable[[Axes], None],
) -> Chart | None:
    """Draw the models that can be drawn, with a legend; None where there is none."""
    drawn = [(number, model) for number, model in enumerate(report.models) if is_drawn(model)]
    if not drawn:
        return None
    with matplotlib.rc_context(STYLE):
        rows = math.ceil(len(drawn) / 2)
        figure = Figure((5, 2.8 + 0.17 * rows), layout="constrained")
        axes = figure.add_subplot()
        for number, model in drawn:
            draw(axes, number, model)
        finish(axes)
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=7)
        return Chart(title, _to_svg(figure, title), caption)


def _plain_ticks(axis: Axis) -> None:
    """Write plain numbers along a logarithmic axis, at 1, 2 and 5 of each decade, or at its decades alone."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _style(number: int, model: ModelResult) -> dict[str, Any]:
    return {"color": COLOURS[number % len(COLOURS)], "label": model.name, "gid": f"model-{number}"}


def _to_svg(figure: Figure, title: str) -> str:
    """Return the figure as one <svg> element, without a date or a version, so that equal figures give equal text."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    _, _, svg = text.getvalue().partition("<svg ")
    return f'<svg role="img" aria-label="{escape(title)}" {svg}'
