"""Charts as inline SVG: a frame with axes, into which lines and points are drawn. No library, no script, no font."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 42
COLOURS = ("#0b6e99", "#d1495b", "#66a182", "#8d6a9f", "#e08e45", "#4a5759", "#00798c", "#a23b72")
"""Told apart by the colour-blind too, and by their dashes in black and white."""
DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 2", "1 2", "12 3", "3 1")
TICKS = 5
LINE, LETTER = 13, 6.5
"""Height of a line of text, and about the width of a letter."""


@dataclass(frozen=True)
class Axis:
    """A range of values, and what they are."""

    label: str
    low: float
    high: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        low, high, value = (math.log(max(v, 1e-12)) if self.is_log else v for v in (self.low, self.high, value))
        return (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values within it."""
        if self.is_log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            fine = [m * 10.0**d for d in decades for m in (1, 2, 5)]
            inside = [value for value in fine if self.low <= value <= self.high]
            return inside if len(inside) <= TICKS + 3 else [v for v in inside if f"{v:e}"[0] == "1"]
        step = _round_step((self.high - self.low) / TICKS)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def linear_axis(label: str, values: Sequence[float], *, from_zero: bool = False, pad: float = 0.06) -> Axis:
    """An axis that holds all values with some air around them."""
    low, high = min(values), max(values)
    air = (high - low) * pad or abs(high) * 0.1 or 1.0
    return Axis(label, 0.0 if from_zero else low - air, high + air)


def log_axis(label: str, values: Sequence[float]) -> Axis:
    """A logarithmic axis for values above 0."""
    return Axis(label, min(values) / 1.25, max(values) * 1.25, is_log=True)


@dataclass
class Chart:
    """A chart under construction."""

    x: Axis
    y: Axis
    ticks_x: Sequence[tuple[float, str]] = ()
    """Places and texts, instead of the axis' own."""
    _marks: list[str] = field(default_factory=list)
    _labels: list[tuple[float, float, float]] = field(default_factory=list)
    """Where labels begin and end, and their height."""

    def line(self, points: Sequence[tuple[float, float]], series: int, *, dots: bool = False) -> None:
        """A line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self._at, points))
        dash = DASHES[series % len(DASHES)]
        self._marks.append(
            f'<polyline points="{path}" fill="none" stroke="{_colour(series)}" stroke-width="2" '
            f'stroke-linejoin="round"{f" stroke-dasharray={chr(34)}{dash}{chr(34)}" if dash else ""}/>'
        )
        if dots:
            self.points(points, series)

    def points(self, points: Sequence[tuple[float, float]], series: int, radius: float = 3.5) -> None:
        """Points without a line."""
        for x, y in map(self._at, points):
            self._marks.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{_colour(series)}" fill-opacity="0.75"/>'
            )

    def interval(self, low: float, high: float, y: float, series: int) -> None:
        """A horizontal bar from low to high."""
        (left, height), (right, _) = self._at((low, y)), self._at((high, y))
        self._marks.append(
            f'<path d="M{left:.1f} {height:.1f}H{right:.1f}" stroke="{_colour(series)}" stroke-width="1.5"/>'
        )

    def label(self, point: tuple[float, float], text: str, series: int) -> None:
        """A text above and beside a point, on the side that has room."""
        x, y = self._at(point)
        y -= 9  # off the interval's bar
        is_right = x > LEFT + 0.6 * (WIDTH - LEFT - RIGHT)
        anchor, shift = ("end", -9) if is_right else ("start", 9)
        left, right = sorted((x, x + (-1 if is_right else 1) * (9 + LETTER * len(text))))
        step = LINE if y < HEIGHT / 2 else -LINE
        while any(abs(y - height) < LINE and left < end and start < right for start, end, height in self._labels):
            y += step
        self._labels.append((left, right, y))
        self._marks.append(
            f'<text x="{x + shift:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}" class="mark" '
            f'style="fill:{_colour(series)}">{escape(text)}</text>'
        )

    def diagonal(self) -> None:
        """The line of equal values."""
        low, high = max(self.x.low, self.y.low), min(self.x.high, self.y.high)
        (a, b), (c, d) = self._at((low, low)), self._at((high, high))
        self._marks.insert(0, f'<path d="M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" stroke="#999" stroke-dasharray="4 4"/>')

    def level(self, value: float, text: str, *, vertical: bool = False) -> None:
        """A line at one value, right across."""
        if vertical:
            x, _ = self._at((value, self.y.low))
            path, place = f"M{x:.1f} {TOP}V{HEIGHT - BOTTOM}", f'x="{x + 3:.1f}" y="{TOP + 10}"'
        else:
            _, y = self._at((self.x.low, value))
            path, place = f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}", f'x="{LEFT + 4}" y="{y - 4:.1f}"'
        self._marks.insert(0, f'<path d="{path}" stroke="#999" stroke-dasharray="2 3"/><text {place}>{text}</text>')

    def svg(self, title: str) -> str:
        """The finished picture."""
        ticks_x = self.ticks_x or [(value, _short(value)) for value in self.x.ticks()]
        parts = [
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
            'xmlns="http://www.w3.org/2000/svg">'
        ]
        for value in self.y.ticks():
            _, y = self._at((self.x.low, value))
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>')
        for value, text in ticks_x:
            x, _ = self._at((value, self.y.low))
            parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{text}</text>')
        parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(self.x.label)}</text>')
        height = (TOP + HEIGHT - BOTTOM) / 2
        parts.append(
            f'<text x="12" y="{height}" text-anchor="middle" transform="rotate(-90 12 {height})">'
            f"{escape(self.y.label)}</text>"
        )
        return "".join([*parts, *self._marks, "</svg>"])

    def _at(self, point: tuple[float, float]) -> tuple[float, float]:
        x, y = self.x.place(point[0]), self.y.place(point[1])
        return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)


def standalone(svg: str) -> str:
    """A chart as a file of its own, which has no page's style to go by: on white, for it may be shown on black."""
    style = (
        "<style>text{font:11px system-ui,'DejaVu Sans',sans-serif;fill:#5b6b73}.mark{font-weight:600}"
        ".grid{stroke:#d8e0e3;stroke-width:.7}.axis{stroke:#1d2a30;fill:none}</style>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    )
    head, tag, rest = svg.partition(">")
    return f"{head}{tag}{style}{rest}\n"


def legend(names: Sequence[str]) -> str:
    """The series' names with their colours and dashes, as HTML."""
    entries = []
    for series, name in enumerate(names):
        dash = DASHES[series % len(DASHES)]
        entries.append(
            '<span class="key"><svg viewBox="0 0 26 8" width="26" height="8" xmlns="http://www.w3.org/2000/svg">'
            f'<path d="M0 4H26" stroke="{_colour(series)}" stroke-width="2.5" stroke-dasharray="{dash or "none"}"/>'
            f"</svg>{escape(name)}</span>"
        )
    return f'<p class="legend">{"".join(entries)}</p>'


def _colour(series: int) -> str:
    return COLOURS[series % len(COLOURS)]


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * 0.999)


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.0e}".replace("e-0", "e-")
