"""The report of a study as one HTML page that needs nothing else, and that prints on A4; charts are inline SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib.metadata import version

import numpy as np

from stfpm_runtime.printed_page import Section, paragraphs, signature_lines, table, to_page

from .agreement import BOUNDS
from .report import Result, conclusions, conditions, notes, percent, presentations, proofs, sections
from .variation import GRR_BOUNDS

WIDTH, LEFT, RIGHT = 960, 210, 20
HEIGHT, TOP, BOTTOM = 300, 14, 24
COLOURS = {"good": "#0b6e99", "defect": "#d1495b", "": "#5b6b73"}
"""Of a part, by its reference. Defects are squares too, so that they are known in black and white."""
MIN_LETTER_SIZE = 5
"""The size of the smallest letters of part names; where they would be smaller, the names are left out."""
LOG_FROM = 20
"""Scores whose highest is more than so many times the lowest are drawn on a logarithmic axis."""

Row = tuple[str, float, float, float, Sequence[float]]
"""A label, a lower limit, a share, an upper limit, and bounds; all are 0 to 1."""


def to_html(result: Result, created: str) -> str:
    """Return the page; `created` is the date that it shows."""
    title = result.title or "Measurement system analysis"
    data = Section("All presentations", ["part", "reference", *result.study.appraisers], list(_all_rows(result)))
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(created)}; from {escape(", ".join(result.inputs))}; '
        f"stfpm-edge {version('stfpm-edge')}</p>",
        f"<p>{escape(conditions(result))}</p>",
        *paragraphs(conclusions(result), "conclusion"), *paragraphs(notes(result), "note"),
        *_charts(result), *map(table, sections(result)),
        *(["<h2>What the counts can prove</h2>", *paragraphs(proofs(result))] if result.agreement else []),
        table(data),
        signature_lines(["performed by, date", "reviewed by, date"]),
        "<footer><p>Method and bounds: AIAG, Measurement Systems Analysis, 4th edition. Intervals: 95%, Clopper and "
        "Pearson. Kappa: Cohen's of two, Fleiss' of several trials. Variation: analysis of variance, parts and "
        "appraisers random.</p></footer>",
    ]  # fmt: skip
    return to_page(title, parts)


def _charts(result: Result) -> Iterable[str]:
    rows: list[Row] = []
    for one in result.agreement.appraisers if result.agreement else ():
        rates = {"effectiveness": one.effectiveness, "miss rate": one.misses, "false-alarm rate": one.false_alarms}
        rows += [(f"{one.name}: {name}", rate.low, rate.share, rate.high, BOUNDS[name])
                 for name, rate in rates.items() if rate.share is not None]  # fmt: skip
    if rows:
        text = (
            "The point is the counted share, the line its 95% interval. The green mark is AIAG's bound of acceptable, "
        )
        yield _figure("Decisions against the reference", rate_chart(rows), text + "the orange one of marginal.")
    if np.isfinite(result.study.scores).any():
        text = "A column for each part, in the order of mean scores, and a mark for each presentation. "
        if any(result.study.references):
            text += "Blue circles are good parts, red squares are defects. "
        if result.variation and result.variation.threshold:
            text += "Dashed: the threshold. A part in the grey zone (3 GRR to each side) may be decided either way."
        yield _figure("Scores of each part", score_chart(result), text)
    if result.variation:
        bars: list[Row] = [(one.name, 0.0, one.of_total, one.of_total, GRR_BOUNDS if one.name == "GRR" else ())
                           for one in result.variation.shown if one.name != "TV"]  # fmt: skip
        text = (
            "Standard deviations as shares of the total variation; they add up as squares. The marks are AIAG's bounds."
        )
        yield _figure("Parts of the variation", rate_chart(bars), text)


def rate_chart(rows: Sequence[Row]) -> str:
    """Return an <svg> with a line for each row, from 0 to 100%."""
    height = TOP + 24 * len(rows) + BOTTOM

    def x(share: float) -> float:
        return LEFT + share * (WIDTH - LEFT - RIGHT - 60)

    parts = [f'<path d="M{x(tick / 5):.1f} {TOP}V{height - BOTTOM}" stroke="#d8e0e3"/>'
             f'<text x="{x(tick / 5):.1f}" y="{height - 8}" text-anchor="middle">{tick * 20}%</text>'
             for tick in range(6)]  # fmt: skip
    for index, (label, low, share, high, bounds) in enumerate(rows):
        y = TOP + 24 * index + 12
        for bound, colour in zip(bounds, ("#2e8b57", "#e08e45"), strict=False):
            parts.append(f'<path d="M{x(bound):.1f} {y - 10}v20" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<path d="M{x(low):.1f} {y}H{x(high):.1f}" stroke="#0b6e99" stroke-width="3"/>'
                     f'<circle cx="{x(share):.1f}" cy="{y}" r="4.5" fill="#0b6e99"/>'
                     f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(label)}</text>'
                     f'<text x="{x(1) + 12:.1f}" y="{y + 4}">{percent(share)}</text>')  # fmt: skip
    return _svg(height, parts)


def score_chart(result: Result) -> str:
    """Return an <svg> with the scores of each part, the parts in the order of their mean scores."""
    study, limit = result.study, result.variation.threshold if result.variation else None
    scores = study.scores.transpose(1, 0, 2).reshape(len(study.parts), -1)
    shown = [index for index in range(len(study.parts)) if np.isfinite(scores[index]).any()]
    shown.sort(key=lambda index: float(np.nanmean(scores[index])))
    values = scores[np.isfinite(scores)]
    lines = [] if limit is None else [(limit.low + limit.high) / 2]
    low, high = min(float(values.min()), *lines, math.inf), max(float(values.max()), *lines, -math.inf)
    logarithmic = low > 0 and high > LOG_FROM * low
    scale = math.log10 if logarithmic else float
    bottom, span = scale(low), (scale(high) - scale(low)) or 1.0

    def y(value: float) -> float:
        share = (scale(max(value, low)) - bottom) / span
        return HEIGHT - BOTTOM - min(share, 1.0) * (HEIGHT - BOTTOM - TOP)

    step = (WIDTH - 60 - RIGHT) / len(shown)
    letter = min(11.0, step / (0.7 * max(len(study.parts[index]) for index in shown)))
    parts = [f'<path d="M60 {y(tick):.1f}H{WIDTH - RIGHT}" stroke="#d8e0e3"/>'
             f'<text x="54" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
             for tick in ticks(low, high, logarithmic)]  # fmt: skip
    if limit:
        parts.insert(0, f'<rect x="60" y="{y(limit.high):.1f}" width="{WIDTH - RIGHT - 60}" '
                        f'height="{y(limit.low) - y(limit.high):.1f}" fill="#e9edef"/>')  # fmt: skip
        parts.append(f'<path d="M60 {y(lines[0]):.1f}H{WIDTH - RIGHT}" stroke="#1d2a30" stroke-dasharray="6 4"/>')
    for column, index in enumerate(shown):
        colour = COLOURS[study.references[index]]
        for number, value in enumerate(scores[index]):
            if math.isfinite(value):
                x = 60 + step * (column + 0.2 + 0.6 * (number + 0.5) / scores.shape[1])
                parts.append(f'<rect x="{x - 2.5:.1f}" y="{y(value) - 2.5:.1f}" width="5" height="5" fill="{colour}" '
                             f'rx="{0 if study.references[index] == "defect" else 2.5}"/>')  # fmt: skip
        if letter >= MIN_LETTER_SIZE:
            x = 60 + step * (column + 0.5)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle" font-size="{letter:.1f}">'
                         f"{escape(study.parts[index])}</text>")  # fmt: skip
    return _svg(HEIGHT, parts)


def ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Return round numbers between low and high: 1, 2 and 5 of each decade, or up to ten equal steps."""
    if logarithmic:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        return [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
    size = 10.0 ** math.floor(math.log10((high - low) or 1.0))
    step = next(size * m for m in (0.1, 0.2, 0.5, 1.0, 2.0) if (high - low) / (size * m) <= 8)
    return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _all_rows(result: Result) -> Iterable[list[str]]:
    for index, (part, reference, _, decisions) in enumerate(presentations(result)):
        scores = [" ".join(f"{one:.4g}" for one in row[index] if math.isfinite(one)) for row in result.study.scores]
        yield [part, reference, *(f"{d} {s}".strip() for d, s in zip(decisions, scores, strict=True))]


def _figure(title: str, svg: str, caption: str) -> str:
    return f"<figure><h2>{escape(title)}</h2>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _svg(height: int, parts: Iterable[str]) -> str:
    return f'<svg role="img" viewBox="0 0 {WIDTH} {height}" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
