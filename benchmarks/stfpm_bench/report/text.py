"""The report of a run for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stfpm_bench.compare import BETTER, SAME, WORSE, Comparison
from stfpm_bench.results import BenchReport

from .report_tables import conditions, reader_notes, sections

FILE_WIDTH = 200
"""Columns of a report that goes to a file or a pipe."""

Rows = Sequence[Sequence[str]]


def print_report(report: BenchReport) -> None:
    """Print tables and notes on stdout, in full width where stdout is no terminal."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    for line in conditions(report):
        console.print(line, style="dim", markup=False)
    for section in sections(report):
        console.print(_table(section.title, section.headings, section.rows))
    for line in reader_notes(report):
        console.print(line, markup=False)


def print_comparison(comparison: Comparison) -> None:
    """Print what changed on stdout; what is the same within noise is counted."""
    console = Console(highlight=False, soft_wrap=True)
    changed = [change for change in comparison.changes if change.verdict != SAME]
    if changed:
        table = _table("", ["model", "figure", "before", "after", ""], [])
        for change in changed:
            style = {WORSE: "red", BETTER: "green"}.get(change.verdict, "dim")
            table.add_row(Text(change.model), change.figure, change.before, change.after, change.verdict, style=style)
        console.print(table)
    total = len(comparison.changes)
    console.print(f"{total - len(changed)} of {total} figures are the same within noise")
    for note in comparison.notes:
        console.print(note, markup=False)


def to_markdown(report: BenchReport) -> str:
    """Return the whole report, for a wiki or a pull request."""
    parts = [f"# stfpm-bench, {report.created[:10]}", ""]
    parts += [f"- {line}" for line in conditions(report)]
    if lines := reader_notes(report):
        parts += ["", *(f"- **{line}**" for line in lines)]
    for section in sections(report):
        parts += ["", f"## {section.title}", "", markdown_table(section.headings, section.rows)]
    return "\n".join(parts) + "\n"


def markdown_table(headings: Sequence[str], rows: Rows) -> str:
    """Return a table, its first column for names, the others for numbers."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)]]
    lines += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _table(title: str, headings: Sequence[str], rows: Rows) -> Table:
    table = Table(
        title=Text(title, style="bold") if title else None,
        title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True,
    )  # fmt: skip
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
