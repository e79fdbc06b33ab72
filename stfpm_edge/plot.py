"""The plot at the end of a training: its losses, and the scores of the pictures that set the threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.files import atomic_path

WIDTH, HEIGHT, MARGIN = 480, 240, 48
COLOURS = ("#1f5fa8", "#c05a00")


def write_plot(spec: Spec, path: Path) -> None:
    """Write an SVG file of two charts, from a trained model's Spec. Raises OutputError."""
    losses = {"loss": spec.training["losses"], "validation error": spec.training["validation_errors"]}
    relative = sorted(score / spec.threshold for score in spec.held_out_scores) if spec.threshold else []
    charts = [
        *_chart(0, "Loss, logarithmic", {name: np.log10(values) for name, values in losses.items() if values}),
        *_chart(WIDTH, "Held-out good pictures: score / threshold", {"score": relative}, limit=1.0),
    ]
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        f"<title>{escape(spec.name)}</title>{''.join(charts)}</svg>\n"
    )
    with atomic_path(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _chart(left: int, title: str, rows: dict[str, Sequence[float]], limit: float | None = None) -> Iterator[str]:
    """Yield a chart of rows of values, by their names; a logarithm to base 10 where there is no `limit` line."""
    yield f'<text x="{left + MARGIN}" y="20" font-weight="bold">{escape(title)}</text>'
    values = np.concatenate([np.zeros(0), *rows.values(), [] if limit is None else [0.0, limit]])
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    right, bottom, top = left + WIDTH - MARGIN / 2, HEIGHT - MARGIN / 1.5, 40.0

    def height(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / ((high - low) or 1.0)

    for value in np.linspace(low, high, 5):
        label = f"{value:.2f}" if limit is not None else f"{10**value:.3g}"
        yield f'<path d="M{left + MARGIN} {height(value):.1f}H{right:.1f}" stroke="#ddd"/>'
        yield f'<text x="{left + MARGIN - 6}" y="{height(value) + 4:.1f}" text-anchor="end">{label}</text>'
    for number, ((name, row), colour) in enumerate(zip(rows.items(), COLOURS, strict=False)):
        step = (right - left - MARGIN) / max(len(row) - 1, 1)
        points = [(left + MARGIN + step * place, height(float(value))) for place, value in enumerate(row)]
        if limit is None:
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            yield f'<polyline fill="none" stroke="{colour}" points="{line}"/>'
        else:
            yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
        yield f'<text x="{right:.1f}" y="{36 + 14 * number}" text-anchor="end" fill="{colour}">{escape(name)}</text>'
    if limit is not None:
        yield f'<path d="M{left + MARGIN} {height(limit):.1f}H{right:.1f}" stroke="#b00020" stroke-dasharray="6 3"/>'
        yield f'<text x="{left + MARGIN + 4}" y="{height(limit) - 4:.1f}" fill="#b00020">threshold</text>'
    unit = f"{'epochs' if limit is None else 'pictures'} 1 to {max(map(len, rows.values()))}"
    yield f'<text x="{(left + MARGIN + right) / 2:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{unit}</text>'
