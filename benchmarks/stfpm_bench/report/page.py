"""The report of a run as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from pathlib import Path

import jinja2

from stfpm_bench.results import BenchReport

from .charts import charts
from .report_tables import conditions, reader_notes, sections

TEMPLATE = Path(__file__).with_name("page.html.j2")


def to_html(report: BenchReport) -> str:
    """Return the page."""
    template = jinja2.Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        report=report,
        conditions=conditions(report),
        warnings=reader_notes(report),
        sections=sections(report),
        charts=charts(report),
    )
