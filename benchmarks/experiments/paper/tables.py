"""The tables: which trainings each takes, and how they compare with the paper's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev

from stfpm_edge.options import TrainOptions
from stfpm_runtime.errors import OptionError

from .published import CATEGORIES, MEAN, OFFICIAL, PAPER, TABLE4, UNKNOWN, WRN50, Figures
from .runs import Job, Result

METRICS = ("image_auroc", "pixel_auroc", "pro")
NAMES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pro": "PRO"}
BLOCK_SETS = ((2,), (3,), (4,), (5,), (2, 3), (2, 3, 4), (2, 3, 4, 5))
"""Table 3's."""
FRACTIONS = (0.05, 0.1)
"""Table 5's shares of the training images that a training learns from."""
TEACHERS = ("imagenet", "mnist", "cifar10", "cifar100", "svhn")
"""Table 4's."""


@dataclass(frozen=True)
class Row:
    """One row: its trainings are averaged over their categories and seeds."""

    label: str
    jobs: tuple[Job, ...]
    """It has none where its images or its teacher are not at hand."""
    paper: Figures = UNKNOWN
    official: Figures = UNKNOWN
    """The official repository's image AUROC, pixel AUROC and PRO."""


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    name: str
    title: str
    rows: tuple[Row, ...]
    metrics: tuple[str, ...] = METRICS

    @property
    def jobs(self) -> list[Job]:
        """Return every training that the table needs, once."""
        return list(dict.fromkeys(job for row in self.rows for job in row.jobs))


def plan(name: str, base: Job, categories: Sequence[str], seeds: int, teachers: Mapping[str, str]) -> Table:
    """Return a table's rows. `base` holds the schedule; `teachers` the paths of Table 4's, by name.

    Raises OptionError for table4 without any teacher of ours.
    """

    def jobs(chosen: Sequence[str] = categories, **changes: object) -> tuple[Job, ...]:
        return tuple(
            replace(base, category=category, seed=base.seed + number, **changes)  # type: ignore[arg-type]
            for category in chosen
            for number in range(seeds)
        )

    if name in ("table1", "table2", "wrn50"):
        return _per_category(name, categories, jobs)
    if name == "table3":
        rows = tuple(Row(",".join(map(str, blocks)), jobs(blocks=blocks)) for blocks in BLOCK_SETS)
        return Table(name, "blocks of the pyramid, means of the categories", rows)
    if name == "table5":  # a training holds a share of its images out: it gets so many more
        rows = tuple(
            Row(f"{share:.0%} of the images", jobs(train_fraction=share / (1 - TrainOptions.val_fraction)))
            for share in FRACTIONS
        )
        return Table(name, "few training images, means of the categories", rows)
    if not teachers:
        raise OptionError(
            f"table4 compares teachers: give them as --teachers NAME=FILE,...; of {', '.join(TEACHERS)}, "
            "each but ImageNet's made by stfpm-pretrain --images DATA"
        )
    rows = tuple(
        Row(
            f"teacher {key}",
            jobs(teacher=teachers[key], teacher_name=key) if key in teachers else (),
            TABLE4.get(key, UNKNOWN),
        )
        for key in dict.fromkeys((*teachers, *TABLE4))
    )
    return Table(name, "what the teacher was pre-trained on, means of the categories", rows)


def _per_category(name: str, categories: Sequence[str], jobs: Callable[..., tuple[Job, ...]]) -> Table:
    """Return a table with a row for each category and their mean; of MVTec AD, also the categories not at hand."""
    title, metrics, changes = {
        "table1": ("pixel AUROC and PRO", METRICS[1:], {}),
        "table2": ("image AUROC", METRICS[:1], {}),
        "wrn50": ("WideResNet-50 as teacher", METRICS[1:], {"backbone": "wide_resnet50_2"}),
    }[name]
    known = CATEGORIES if set(categories) & set(CATEGORIES) else ()
    listed = (*known, *(category for category in categories if category not in known))
    rows = {category: jobs([category] if category in categories else [], **changes) for category in listed}
    if len(averaged := known or listed) > 1:
        rows[MEAN] = jobs(averaged, **changes) if all(rows[category] for category in averaged) else ()
    paper, official = ({MEAN: WRN50}, {}) if name == "wrn50" else (PAPER, OFFICIAL)
    if not known:
        paper, official = {}, {}
    return Table(
        name,
        title,
        tuple(Row(key, row, paper.get(key, UNKNOWN), official.get(key, UNKNOWN)) for key, row in rows.items()),
        metrics,
    )


def render(table: Table, results: Mapping[Job, Result]) -> str:
    """Return the table as text: for each metric ours, the paper's, the difference, and the official repository's.

    With several seeds, ours is followed by the standard deviation over them, of the mean of the row's categories.
    A row whose trainings are not all done says how many are; `-` stands for what is not known.
    """
    seeds = {job.seed for job in table.jobs}
    deviation = f"; ± is the standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else ""
    lines = [f"{table.name}: {table.title}{deviation}"]
    official = any(row.official != UNKNOWN for row in table.rows)
    last = f" {'official':>8}" if official else ""
    lines.append(
        f"{'':22}" + "".join(f"{NAMES[metric]:>14} {'paper':>7} {'diff':>8}{last}" for metric in table.metrics)
    )
    for row in table.rows:
        done = [results[job] for job in row.jobs if job in results]
        missing = f"  {len(done)} of {len(row.jobs)} trainings done" if len(done) < len(row.jobs) else ""
        lines.append(_line(row, table.metrics, results, official) + missing)
    return "\n".join(lines)


def _line(row: Row, metrics: Sequence[str], results: Mapping[Job, Result], official: bool) -> str:
    text = f"{row.label:22}"
    for metric in metrics:
        place = METRICS.index(metric)
        paper = row.paper[place]
        values = _values(row, metric, results)
        ours = fmean(values) if values else None
        deviation = f" ±{pstdev(values):.3f}" if len(values) > 1 else ""
        text += f"{_shown(ours) + deviation:>14} {_shown(paper, '.3f'):>7}"
        text += f" {_shown(None if ours is None or paper is None else ours - paper, '+.4f'):>8}"
        text += f" {_shown(row.official[place]):>8}" if official else ""
    return text


def _values(row: Row, metric: str, results: Mapping[Job, Result]) -> list[float]:
    """Return the mean of a row's categories for each seed; nothing where one of its figures is missing."""
    of_seed: dict[int, list[float]] = {}
    for job in row.jobs:
        value = getattr(results[job], metric) if job in results else None
        if value is None:
            return []
        of_seed.setdefault(job.seed, []).append(value)
    return [fmean(categories) for categories in of_seed.values()]


def _shown(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else f"{value:{form}}"
