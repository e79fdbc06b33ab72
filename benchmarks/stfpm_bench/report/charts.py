"""The charts of a report: each a figure of HTML, or nothing where the run has no such figures."""

from __future__ import annotations

from html import escape

from stfpm_bench.results import BenchReport, ModelResult

from .report_tables import ROOFLINE_HEADINGS, roofline_rows
from .svg import Axis, Chart, linear_axis, log_axis

Figure = tuple[str, str, str]
"""A title, the SVG, and a caption."""
MOST_NAMES = 4
"""Points that have room for their names; more have numbers, which the caption explains."""
FASTEST_TAIL = 99
"""The distribution is drawn up to this percentile: the last frame of all would squeeze it flat."""


def charts(report: BenchReport) -> list[Figure]:
    """All charts that the run's figures allow, in order."""
    makers = (distribution, accuracy_over_latency, latency_over_batch, parity_scatter)
    return [figure for figure in (maker(report) for maker in makers) if figure is not None]


def distribution(report: BenchReport) -> Figure | None:
    """The share of frames that take no longer than some time."""
    measured = _measured(report)
    if not measured:
        return None
    values = [one for _, model in measured for one in _quantiles(model)[: FASTEST_TAIL + 1]]
    spread = max(values) / max(min(values), 1e-9)
    x = log_axis("latency, ms", values) if spread > 4 else linear_axis("latency, ms", values)
    chart = Chart(x, Axis("frames no slower, %", 0, 100))
    for which in (50, 90):
        chart.level(which, f"p{which}")
    for series, model in measured:
        chart.line([(value, which) for which, value in enumerate(_quantiles(model)[: FASTEST_TAIL + 1])], series)
    caption = f"Single frames back to back. Drawn up to the {FASTEST_TAIL}th percentile; steeper is steadier."
    return "Latency: its distribution", chart.svg("latency distribution"), caption


def accuracy_over_latency(report: BenchReport) -> Figure | None:
    """What a precision's speed costs in detections."""
    found = [
        (series, model.latency.p50_ms, model.latency.p50_interval_ms, _best_known(model), model.name)
        for series, model in _measured(report)
        if model.latency and _best_known(model) is not None
    ]
    if not found:
        return None
    kind = _accuracy_kind(report)
    x = linear_axis("latency p50, ms", [high for _, _, (_, high), _, _ in found], from_zero=True, pad=0.2)
    y = linear_axis(kind, [value for _, _, _, value, _ in found if value is not None], pad=0.3)
    chart = Chart(x, y)
    for series, latency, (low, high), accuracy, name in found:
        assert accuracy is not None, "left out above"
        chart.interval(low, high, accuracy, series)
        chart.points([(latency, accuracy)], series, radius=5)
        chart.label((latency, accuracy), name if len(found) <= MOST_NAMES else str(series + 1), series)
    caption = "Up and left is better. The bar is the p50's interval."
    if len(found) > MOST_NAMES:
        caption += f" {'; '.join(f'{series + 1}: {name}' for series, _, _, _, name in found)}."
    return "Accuracy against latency", chart.svg("accuracy against latency"), caption


def latency_over_batch(report: BenchReport) -> Figure | None:
    """What waiting for a batch brings."""
    found = [(series, model) for series, model in enumerate(report.models) if len(model.throughput) > 1]
    if not found:
        return None
    batches = sorted({one.batch for _, model in found for one in model.throughput})
    per_frame = [one.p50_ms / one.batch for _, model in found for one in model.throughput]
    chart = Chart(
        Axis("frames at once", batches[0] / 1.15, batches[-1] * 1.15, is_log=True),
        linear_axis("ms a frame", per_frame, from_zero=True, pad=0.12),
        ticks_x=[(batch, str(batch)) for batch in batches],
    )
    for series, model in found:
        chart.line([(one.batch, one.p50_ms / one.batch) for one in model.throughput], series, dots=True)
    return "Latency against batch", chart.svg("latency against batch"), "A batch's median, divided by its frames."


def parity_scatter(report: BenchReport) -> Figure | None:
    """Scores of the file beside PyTorch's."""
    found = [
        (series, list(zip(model.parity.reference_scores, model.parity.scores, strict=True)))
        for series, model in enumerate(report.models)
        if model.parity
    ]
    if not found:
        return None
    values = [value for _, points in found for point in points for value in point if value > 0]
    if not values:
        return None
    chart = Chart(log_axis("PyTorch's score", values), log_axis("the file's score", values))
    chart.diagonal()
    for series, points in found:
        inner = 6.0 - 4 * series / len(report.models)  # equal points of several models stay visible, ring by ring
        chart.points([point for point in points if min(point) > 0], series, radius=inner)
    return "Parity", chart.svg("parity of scores"), "A file that computes what PyTorch does lies on the line."


def roofline_table(model: ModelResult) -> str:
    """The roofline's table in HTML, with each group's time and limit as two bars."""
    assert model.roofline is not None, "asked for"
    groups = model.roofline.groups
    longest = max((max(group.time_ms, group.limit_ms) for group in groups), default=0.0) or 1.0
    rows = []
    for cells, group in zip(roofline_rows(model.roofline), [*groups, None], strict=True):
        bars = ""
        if group is not None:
            time, limit = (100 * value / longest for value in (group.time_ms, group.limit_ms))
            bars = f'<i style="width:{time:.1f}%"></i><b style="width:{limit:.1f}%"></b>'
        texts = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr>{texts}<td class="bars">{bars}</td></tr>')
    head = "".join(f"<th>{heading}</th>" for heading in (*ROOFLINE_HEADINGS, ""))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _measured(report: BenchReport) -> list[tuple[int, ModelResult]]:
    return [(series, model) for series, model in enumerate(report.models) if model.latency]


def _quantiles(model: ModelResult) -> tuple[float, ...]:
    assert model.latency is not None, "measured"
    return model.latency.quantiles_ms


def _accuracy_kind(report: BenchReport) -> str:
    """PRO tells precisions apart where image AUROC is 1 for all; without masks there is only the latter."""
    has_pro = any(model.accuracy and model.accuracy.pro is not None for model in report.models)
    return "PRO" if has_pro else "image AUROC"


def _best_known(model: ModelResult) -> float | None:
    if model.accuracy is None:
        return None
    return model.accuracy.pro if model.accuracy.pro is not None else model.accuracy.image_auroc
