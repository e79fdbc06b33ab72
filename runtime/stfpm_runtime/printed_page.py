"""The frame of a report: one HTML page that needs nothing else, and that prints on A4."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
* { box-sizing: border-box; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
body { margin: 0 auto; max-width: 1000px; padding: 24px; color: #1d2a30;
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 25px; margin: 0; }
h2 { font-size: 17px; margin: 26px 0 8px; border-bottom: 2px solid; break-after: avoid; }
p { margin: 6px 0; }
p.note { padding: 6px 12px; border-left: 4px solid #e08e45; background: #fdf7f0; }
p.conclusion { padding: 6px 12px; border-left: 4px solid #0b6e99; background: #f1f7fa; font-weight: 600; }
.soft, footer, figcaption { color: #5b6b73; font-size: 13px; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 14px 3px 0; text-align: left; border-bottom: 1px solid #d8e0e3; vertical-align: top; }
tr, figure { break-inside: avoid; }
figure { margin: 14px 0; }
svg { width: 100%; height: auto; font: 11px "DejaVu Sans", sans-serif; }
.sign { display: flex; gap: 30px; margin-top: 40px; break-inside: avoid; }
.sign div { flex: 1; border-top: 1px solid; }
@media print { @page { size: A4; margin: 14mm; } body { max-width: none; padding: 0; font-size: 10pt; }
  table { font-size: 8.5pt; } }
"""
LONG_WORD = re.compile(r"\S{16}(?=\S)")
"""A word may be broken behind it."""


@dataclass(frozen=True)
class Section:
    """One table."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def to_page(title: str, parts: Iterable[str], language: str = "en", style: str = "") -> str:
    """Return the page; the parts are HTML, and `style` is added to the style of all reports."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}{style}</style>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="{language}"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def paragraphs(lines: Iterable[str], kind: str = "") -> list[str]:
    """Return each line as a paragraph of that class."""
    return [f'<p class="{kind}">{escape(line)}</p>' for line in lines]


def table(section: Section) -> str:
    """Return a section as a heading and a table, whose head each printed page repeats."""
    head = "".join(f"<th>{escape(one)}</th>" for one in section.headings)
    rows = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>\n" for row in section.rows)
    return f"<h2>{escape(section.title)}</h2>\n<table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>"


def _cell(text: str) -> str:
    """Return the text of a cell, whose long words may be broken: a code or a SHA-256 may be wider than the page."""
    return "<wbr>".join(map(escape, LONG_WORD.sub("\\g<0>\0", text).split("\0")))


def signature_lines(texts: Iterable[str]) -> str:
    """Return a line to sign on for each text, which stands below it."""
    return f'<div class="sign">{"".join(f"<div>{escape(text)}</div>" for text in texts)}</div>'
