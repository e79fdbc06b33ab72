"""An evaluation for a person's eyes: a bar while it runs, a table at its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from stfpm_runtime.errors import MissingExtraError

from .evaluate import CategoryResult
from .report import Report

try:
    from rich import box
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table
    from rich.text import Text
except ImportError:
    raise MissingExtraError("rich", "bench") from None


@contextlib.contextmanager
def image_bar(total: int) -> Iterator[Callable[[str], None]]:
    """A bar of `total` images on stderr, where that is a terminal.

    It gives a function to call after each image, with the category's name.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda category: progress.update(task, advance=1, description=category)


def print_table(report: Report) -> None:
    """The figures on stdout: a line for each category, its defects below, and the mean of several."""
    model, console = report.model, Console(highlight=False, soft_wrap=True)
    threshold = "no threshold" if model.threshold is None else f"threshold {model.threshold:.4g}"
    console.print(f"{model.path} ({model.precision}, {model.provider}, {threshold}) on {report.data}", markup=False)
    console.print(_table(report))
    for result in report.categories:
        if result.note:
            console.print(f"{result.name}: {result.note}", markup=False)


def _table(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("category", overflow="fold")
    for heading in ("good", "defective", "image\nAUROC", "pixel\nAUROC", "PRO", "missed", "false\nalarms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in report.categories:
        _add_rows(table, result)
    if len(report.categories) > 1:
        mean = report.mean
        table.add_section()
        table.add_row("mean", "", "", *map(_share, (mean.image_auroc, mean.pixel_auroc, mean.pro)))
    return table


def _add_rows(table: Table, result: CategoryResult) -> None:
    table.add_row(
        Text(result.name), str(result.normal_images), str(result.defective_images),
        *map(_share, (result.image_auroc, result.pixel_auroc, result.pro)),
        _count(result.missed), _count(result.false_alarms),
    )  # fmt: skip
    for defect in result.defects:
        table.add_row(
            Text(f"  {defect.name}"), "", str(defect.images),
            _share(defect.image_auroc), "", "",
            _count(defect.missed),
            style="dim",
        )  # fmt: skip


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)
