"""The tables: which trainings each takes, and how they compare with the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev

from stfpm_edge.options import TrainOptions
from stfpm_runtime.errors import OptionError

from . import published
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
    published: tuple[float | None, float | None, float | None] = (None, None, None)
    """The paper's image AUROC, pixel AUROC and PRO; None where we do not know it."""


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    name: str
    title: str
    rows: tuple[Row, ...]
    metrics: tuple[str, ...] = METRICS
    mean: tuple[float | None, float | None, float | None] | None = None
    """The paper's means; None where the rows are no categories of one experiment, so that a mean says nothing."""

    @property
    def jobs(self) -> list[Job]:
        """Return every training that the table needs."""
        return [job for row in self.rows for job in row.jobs]


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
        backbone = "wide_resnet50_2" if name == "wrn50" else base.backbone
        rows = tuple(
            Row(c, jobs([c], backbone=backbone), (None, None, None) if name == "wrn50" else _known(c))
            for c in categories
        )
        whole = set(published.CATEGORIES) <= set(categories)  # the paper's mean is that of its 15
        if name == "wrn50":
            mean = (None, *published.WRN50)
            return Table(name, "WideResNet-50 as teacher", rows, METRICS[1:], mean if whole else (None,) * 3)
        mean2 = (published.MEAN_IMAGE_AUROC, published.MEAN_PIXEL_AUROC, None)
        title, metrics = ("pixel AUROC and PRO", METRICS[1:]) if name == "table1" else ("image AUROC", METRICS[:1])
        return Table(name, title, rows, metrics, mean2 if whole else (None,) * 3)
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
        Row(f"teacher {key}", jobs(teacher=path, teacher_name=key),
            published.CIFAR10_TEACHER if key == "cifar10" else (None, None, None))
        for key, path in teachers.items()
    )  # fmt: skip
    return Table(name, "what the teacher was pre-trained on, means of the categories", rows)


def render(table: Table, results: Mapping[Job, Result]) -> str:
    """Return the table as text: for each metric ours, the paper's and the difference.

    With several seeds, ours is followed by the standard deviation over them, of the mean of the row's categories.
    A row whose trainings are not all done says how many are.
    """
    seeds = {job.seed for job in table.jobs}
    deviation = f"; ± is the standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else ""
    lines = [f"{table.name}: {table.title}{deviation}"]
    lines.append(f"{'':22}" + "".join(f"{NAMES[metric]:>14} {'paper':>7} {'diff':>8}" for metric in table.metrics))
    complete = []
    for row in table.rows:
        done = {job: results[job] for job in row.jobs if job in results}
        if len(done) < len(row.jobs):
            lines.append(f"{row.label:22}  {len(done)} of {len(row.jobs)} trainings done")
            continue
        complete.append(done)
        lines.append(_line(row.label, table.metrics, done, row.published))
    if table.mean is not None and len(complete) == len(table.rows) > 1:
        every = {job: result for done in complete for job, result in done.items()}
        lines.append(_line("mean", table.metrics, every, table.mean))
    return "\n".join(lines)


def _line(
    label: str,
    metrics: Sequence[str],
    done: Mapping[Job, Result],
    known: tuple[float | None, float | None, float | None],
) -> str:
    text = f"{label:22}"
    for metric in metrics:
        of_seed: dict[int, list[float]] = {}
        for job, result in done.items():
            if (value := getattr(result, metric)) is not None:
                of_seed.setdefault(job.seed, []).append(value)
        if sum(map(len, of_seed.values())) < len(done):
            text += f"{'-':>14} {'-':>7} {'-':>8}"
            continue
        values = [fmean(categories) for categories in of_seed.values()]
        ours, paper = fmean(values), known[METRICS.index(metric)]
        shown = f"{ours:.4f}" + (f" ±{pstdev(values):.3f}" if len(values) > 1 else "")
        text += f"{shown:>14} " + (f"{'-':>7} {'-':>8}" if paper is None else f"{paper:7.3f} {ours - paper:+8.4f}")
    return text


def _known(category: str) -> tuple[float | None, float | None, float | None]:
    return None, published.PIXEL_AUROC.get(category), published.PRO.get(category)
