"""The report as one HTML page that needs nothing else, and that prints on A4."""

from __future__ import annotations

from html import escape

from stfpm_runtime.printed_page import paragraphs, signature_lines, table, to_page

from .report import Report

STYLE = """
h1, figcaption, footer { overflow-wrap: anywhere; }
.sign { margin-top: 72px; }
.pictures { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 12px; }
.pictures figure { margin: 0; }
.pictures img { width: 100%; max-height: 260px; object-fit: contain; object-position: left; border: 1px solid #d8e0e3; }
@media print { .further { break-before: page; } }
"""


def to_html(report: Report) -> str:
    """Return the page."""
    pictures = [
        f'<figure><img alt="" src="data:image/jpeg;base64,{picture.small}"><figcaption>{escape(caption)}</figcaption>'
        "</figure>" for picture, caption in report.pictures
    ]  # fmt: skip
    parts = [
        f"<h1>{escape(report.title)}</h1>",
        *paragraphs([report.conclusion], "conclusion" if report.is_sound else "note"),
        *map(table, report.first), signature_lines(report.signatures),
        f"<footer>{''.join(paragraphs([report.footer]))}</footer>",
        '<div class="further">', *map(table, report.further), "</div>",
    ]  # fmt: skip
    if pictures:
        parts += [f"<h2>{escape(report.pictures_title)}</h2>", '<div class="pictures">', *pictures, "</div>"]
    return to_page(report.title, parts, report.language, STYLE)
