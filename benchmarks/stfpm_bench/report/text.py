"""A run's report for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from stfpm_bench.compare import BETTER, SAME, WORSE, Comparison
from stfpm_bench.results import BenchReport
from stfpm_runtime.errors import MissingExtraError

from .report_tables import (
    ROOFLINE_HEADINGS,
    STAGE_HEADINGS,
    conditions,
    main_columns,
    quality_columns,
    remarks,
    roofline_rows,
    stage_rows,
    turned,
)

try:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
except ImportError:
    raise MissingExtraError("rich", "bench") from None

FILE_WIDTH = 200
"""Columns of a report that goes to a file or a pipe."""

Rows = Sequence[Sequence[str]]
Section = tuple[str, list[str], list[list[str]]]
"""A title, headings, and rows."""


def sections(report: BenchReport) -> list[Section]:
    """All tables of a report, in order."""
    found: list[Section] = []
    main, quality = main_columns(report), quality_columns(report)
    found.append(("From frame to decision", *turned(main, report)))
    if quality:
        found.append(("Parity and accuracy", *turned(quality, report)))
    if stages := stage_rows(report):
        found.append(("Where a frame's time goes, medians in ms", list(STAGE_HEADINGS), stages))
    for model in report.models:
        if model.roofline:
            title = (
                f"{model.name} beside this machine's limit: {model.roofline.peak_gops:.0f} Gop/s in {model.precision}, "
                f"{model.roofline.copy_gb_s:.0f} GB/s"
            )
            found.append((title, list(ROOFLINE_HEADINGS), roofline_rows(model.roofline)))
    return found


def print_report(report: BenchReport) -> None:
    """Tables and remarks on stdout; as wide as they need to be where that is a file."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    for line in conditions(report):
        console.print(line, style="dim", markup=False)
    for title, headings, rows in sections(report):
        console.print(_table(title, headings, rows))
    for line in remarks(report):
        console.print(line, markup=False)


def print_comparison(comparison: Comparison) -> None:
    """What changed, on stdout; what is the same within noise is counted."""
    console = Console(highlight=False, soft_wrap=True)
    told = [change for change in comparison.changes if change.verdict != SAME]
    if told:
        table = _table("", ["model", "figure", "before", "after", ""], [])
        for change in told:
            style = {WORSE: "red", BETTER: "green"}.get(change.verdict, "dim")
            table.add_row(Text(change.model), change.figure, change.before, change.after, change.verdict, style=style)
        console.print(table)
    console.print(
        f"{len(comparison.changes) - len(told)} of {len(comparison.changes)} figures are the same within noise"
    )
    for note in comparison.notes:
        console.print(note, markup=False)


def to_markdown(report: BenchReport) -> str:
    """The whole report, for a wiki or a pull request."""
    parts = [f"# stfpm-bench, {report.created[:10]}", ""]
    parts += [f"- {line}" for line in conditions(report)]
    if lines := remarks(report):
        parts += ["", *(f"- **{line}**" for line in lines)]
    for title, headings, rows in sections(report):
        parts += ["", f"## {title}", "", markdown_table(headings, rows)]
    return "\n".join(parts) + "\n"


def markdown_table(headings: Sequence[str], rows: Rows) -> str:
    """A table, its first column for names, the others for figures."""
    lines = [_line(headings), _line(["---", *["---:"] * (len(headings) - 1)])]
    return "\n".join([*lines, *(_line([cell.replace("|", "\\|") for cell in row]) for row in rows)])


def _line(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


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
