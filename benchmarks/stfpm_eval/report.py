"""The report of an evaluation: its data, its JSON, its table for the terminal, and the progress bar before it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from stfpm_runtime.errors import MissingExtraError

from .evaluate import CategoryResult

try:
    from rich import box
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table
    from rich.text import Text
except ImportError:
    raise MissingExtraError("rich", "bench") from None

SCHEMA = 1
"""Version of the JSON."""


@dataclass(frozen=True)
class Model:
    """The model file that was evaluated."""

    path: str
    """The path as it was given."""
    sha256: str
    name: str
    precision: str
    provider: str
    """What executed it, in the engine's words."""
    threshold: float | None


@dataclass(frozen=True)
class Mean:
    """Metrics averaged over categories; None where a category has none."""

    image_auroc: float
    pixel_auroc: float | None
    pro: float | None


@dataclass(frozen=True)
class Report:
    """A model's accuracy on a data set."""

    model: Model
    data: str
    """The data set's name."""
    categories: tuple[CategoryResult, ...]
    """At least one."""

    @property
    def mean(self) -> Mean:
        """Return the mean of the categories, each with the same weight."""
        return Mean(
            image_auroc=fmean(result.image_auroc for result in self.categories),
            pixel_auroc=_mean([result.pixel_auroc for result in self.categories]),
            pro=_mean([result.pro for result in self.categories]),
        )

    def to_json(self) -> str:
        """Return the report as JSON, with a schema version and the mean; unknown metrics are null."""
        data = {"schema": SCHEMA, **dataclasses.asdict(self), "mean": dataclasses.asdict(self.mean)}
        return json.dumps(data, indent=2, allow_nan=False)


@contextlib.contextmanager
def image_bar(total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar of `total` images on stderr, where that is a terminal.

    The context gives a function to call after each image, with the category's name.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda category: progress.update(task, advance=1, description=category)


def print_table(report: Report) -> None:
    """Print a line for each category, its defects, and the mean where there is more than one category."""
    model, console = report.model, Console(highlight=False, soft_wrap=True)
    threshold = "no threshold" if model.threshold is None else f"threshold {model.threshold:.4g}"
    console.print(f"{model.path} ({model.precision}, {model.provider}, {threshold}) on {report.data}", markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("category", overflow="fold")
    for heading in ("good", "defective", "image\nAUROC", "pixel\nAUROC", "PRO", "missed", "false\nalarms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in report.categories:
        table.add_row(
            Text(result.name), str(result.normal_images), str(result.defective_images),
            *map(_metric, (result.image_auroc, result.pixel_auroc, result.pro)),
            _count(result.missed), _count(result.false_alarms),
        )  # fmt: skip
        for defect in result.defects:
            cells = "", str(defect.images), _metric(defect.image_auroc), "", "", _count(defect.missed)
            table.add_row(Text(f"  {defect.name}"), *cells, style="dim")
    if len(report.categories) > 1:
        mean = report.mean
        table.add_section()
        table.add_row("mean", "", "", *map(_metric, (mean.image_auroc, mean.pixel_auroc, mean.pro)))
    console.print(table)
    for result in report.categories:
        if result.note:
            console.print(f"{result.name}: {result.note}", markup=False)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _metric(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)
