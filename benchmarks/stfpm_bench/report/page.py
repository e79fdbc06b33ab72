"""A run's report as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from stfpm_bench.results import BenchReport

from .charts import charts, roofline_table
from .report_tables import conditions, remarks
from .svg import legend
from .text import sections

STYLE = """
:root { --ink: #1d2a30; --soft: #5b6b73; --line: #d8e0e3; --paper: #fff; --shade: #f4f7f8; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1040px; padding: 28px 24px 48px; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 34px 0 10px; padding-bottom: 4px; border-bottom: 2px solid var(--ink); }
ul.conditions { list-style: none; margin: 0; padding: 0; color: var(--soft); font-size: 13px; }
p.warning { margin: 8px 0; padding: 8px 12px; border-left: 4px solid #d1495b; background: #fdf1f2; }
p.remark { margin: 6px 0; padding: 6px 12px; border-left: 4px solid #e08e45; background: #fdf7f0; font-size: 14px; }
.tables { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; min-width: 50%; }
th, td { padding: 4px 12px; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; font-weight: 500; color: var(--soft); padding-left: 0; }
thead th { border-bottom: 1px solid var(--ink); vertical-align: bottom; overflow-wrap: anywhere; }
tbody tr:hover { background: var(--shade); }
tr.head td { font-weight: 700; color: var(--ink); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(400px, 1fr)); gap: 20px; margin-top: 24px; }
figure { margin: 0; padding: 12px 14px; border: 1px solid var(--line); border-radius: 6px; break-inside: avoid; }
figure h3 { margin: 0 0 4px; font-size: 15px; }
figcaption { color: var(--soft); font-size: 12.5px; }
svg { width: 100%; height: auto; }
svg text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: var(--soft); }
svg text.mark { font-weight: 600; }
.grid { stroke: var(--line); stroke-width: 0.7; }
.axis { stroke: var(--ink); fill: none; }
.legend { margin: 22px 0 0; font-size: 13px; }
.key { display: inline-flex; align-items: center; gap: 7px; margin-right: 22px; }
.key svg { width: 26px; }
td.bars { width: 36%; min-width: 160px; text-align: left; padding: 3px 0 3px 18px; }
td.bars i, td.bars b { display: block; height: 7px; }
td.bars i { background: #0b6e99; }
td.bars b { background: #b9c8ce; }
footer { margin-top: 36px; color: var(--soft); font-size: 12.5px; }
@media print {
  @page { size: A4; margin: 14mm; }
  body { max-width: none; padding: 0; font-size: 11pt; }
  h2 { break-after: avoid; margin-top: 20px; }
  table, figure, p { break-inside: avoid; }
  table { font-size: 9pt; width: 100%; }
  .tables { overflow: visible; }
  th, td { padding: 2px 6px; }
  .charts { grid-template-columns: 1fr 1fr; gap: 10px; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def to_html(report: BenchReport) -> str:
    """The page."""
    parts = [
        "<h1>stfpm-bench</h1>",
        f'<ul class="conditions">{"".join(f"<li>{escape(line)}</li>" for line in conditions(report))}</ul>',
    ]
    for line in remarks(report):
        kind = "warning" if line.startswith(("Too noisy", "Interrupted")) else "remark"
        parts.append(f'<p class="{kind}">{escape(line)}</p>')
    found = charts(report)
    tables = [(title, _table(headings, rows)) for title, headings, rows in sections(report)]
    parts += [_section(*tables[0]), legend([model.name for model in report.models])]
    figures = "".join(
        f"<figure><h3>{escape(title)}</h3>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
        for title, svg, caption in found
    )
    parts.append(f'<div class="charts">{figures}</div>')
    with_bars = iter([roofline_table(model) for model in report.models if model.roofline])
    parts += [_section(title, next(with_bars) if "limit: " in title else table) for title, table in tables[1:]]
    parts.append(
        "<footer>p50, p90, p99: percentiles of single frames, back to back. ±: half the 95% bootstrap interval of the "
        "p50, over rounds. Jitter: mean difference between neighbouring frames. Memory: the most that a process of its "
        "own held resident. Installed: the packages that it had loaded.</footer>"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>stfpm-bench {escape(report.created[:10])}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _section(title: str, table: str) -> str:
    return f'<h2>{escape(title)}</h2><div class="tables">{table}</div>'


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
