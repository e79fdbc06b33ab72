"""`python -m benchmarks.experiments.paper TABLE --data ROOT`: one of the paper's tables or figures, and our results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stfpm_edge.teacher import IMAGENET, PROCEDURAL
from stfpm_eval.layouts import LAYOUTS, find_products
from stfpm_eval.layouts.base import Product
from stfpm_runtime.cli import run
from stfpm_runtime.errors import DataError, OptionError
from stfpm_runtime.files import check_writable, sha256

from .runs import Job, Runner, in_processes, in_turn, load_result, run_all, run_job
from .tables import Table, plan, render

TABLES = ("table1", "table2", "table3", "table4", "table5", "wrn50")
FIGURES = ("figure1", "figure3")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    action = _figure if arguments.what in FIGURES else _table
    return run("paper", lambda: action(arguments))


def _table(arguments: argparse.Namespace) -> int:
    for name in ("workers", "seeds"):
        if getattr(arguments, name) < 1:
            raise OptionError(f"got --{name} {getattr(arguments, name)}; expected 1 or more")
    products = _products(arguments)
    base = Job(
        "", str(arguments.data), arguments.layout, arguments.teacher,
        arguments.teacher_name or Path(arguments.teacher).stem,
        seed=arguments.seed, epochs=arguments.epochs, batch_size=arguments.batch_size, size=arguments.size,
        mixed_precision=arguments.mixed_precision, device=arguments.device,
    )  # fmt: skip
    names = [product.name for product in products]
    table = plan(arguments.what, base, names, arguments.seeds, _teachers(arguments.teachers))
    table = _with_digests(table, {product.name: product.digest() for product in products})
    try:
        if not arguments.show:
            check_writable(arguments.out / "results.json")
            run_all(table.jobs, arguments.out, _runner(arguments), lambda text: print(text, file=sys.stderr))
    finally:  # also where some trainings failed
        kept = {job: result for job in table.jobs if (result := load_result(arguments.out, job)) is not None}
        print(render(table, kept))
    return 0


def _with_digests(table: Table, data: dict[str, str]) -> Table:
    """Return the table with what its trainings learn from: a kept result is that of these data and this teacher."""
    teachers = {job.teacher: _teacher_sha256(job.teacher) for job in table.jobs}
    rows = [
        replace(
            row,
            jobs=tuple(
                replace(job, teacher_sha256=teachers[job.teacher], data_sha256=data[job.category]) for job in row.jobs
            ),
        )
        for row in table.rows
    ]
    return replace(table, rows=tuple(rows))


def _teacher_sha256(teacher: str) -> str:
    """Return the SHA-256 of a teacher's file; empty for one that is known by its name, or whose file is missing."""
    path = Path(teacher)
    return sha256(path) if teacher not in (IMAGENET, PROCEDURAL) and path.is_file() else ""


def _runner(arguments: argparse.Namespace) -> Runner:
    if arguments.ray:
        from stfpm_edge.cluster import map_on_ray

        return lambda jobs: map_on_ray(run_job, jobs, arguments.ray, lambda job: job.category, arguments.ray_gpus)
    return in_turn if arguments.workers == 1 else in_processes(arguments.workers)


def _figure(arguments: argparse.Namespace) -> int:
    from stfpm_edge.checkpoint import load_checkpoint

    from .figures import figure1, figure3, write_figure

    if arguments.checkpoint is None:
        raise OptionError(f"{arguments.what} shows a trained model: give --checkpoint FILE, one that stfpm-train wrote")
    checkpoint = load_checkpoint(arguments.checkpoint)
    defective = [s for product in _products(arguments) for s in product.category.samples if s.mask is not None]
    if not defective:
        raise DataError(f"{arguments.data}: no defective picture has a mask; the figures need some")
    output = arguments.output or Path(f"{arguments.what}.png")
    check_writable(output)
    if arguments.what == "figure1":
        picture = figure1(checkpoint, list({sample.kind: sample for sample in reversed(defective)}.values()))
    else:
        blocks = checkpoint.spec.blocks
        picture = figure3(checkpoint, defective[0], blocks[len(blocks) // 2])
    write_figure(picture, output)
    print(output)
    return 0


def _products(arguments: argparse.Namespace) -> list[Product]:
    if not arguments.categories:
        return find_products(arguments.data, arguments.layout)
    names = arguments.categories.split(",")
    return [product for name in names for product in find_products(arguments.data, arguments.layout, only=name)]


def _teachers(text: str) -> dict[str, str]:
    """Return `imagenet=imagenet,cifar10=c.safetensors` as names and paths."""
    pairs = [part.partition("=") for part in text.split(",")] if text else []
    if any(not name or not path for name, _, path in pairs):
        raise OptionError(f"got --teachers {text}; expected NAME=FILE,..., say imagenet=imagenet,svhn=svhn.safetensors")
    return {name: path for name, _, path in pairs}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.paper", description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("what", choices=(*TABLES, *FIGURES), help="which table or figure")
    add("--data", type=Path, required=True, metavar="ROOT", help="a data set's root; nothing is downloaded")
    add("--layout", default="auto", choices=("auto", *LAYOUTS), help="how it is laid out")
    add("--categories", default="", metavar="NAME,...", help="these alone (default: all)")
    add("--out", type=Path, default=Path("paper-runs"), metavar="FOLDER", help="where each training's result is kept")
    add("--show", action="store_true", help="print what is there, train nothing")
    add("--teacher", default="imagenet", metavar="imagenet|procedural|PATH", help="as for stfpm-train")
    add("--teacher-name", default="", metavar="NAME", help="what results are kept under (default: the file's name)")
    add("--teachers", default="", metavar="NAME=FILE,...", help="table4's")
    add("--epochs", type=int, default=100, help="of each training; fewer is another experiment")
    add("--batch-size", type=int, default=32, help="images in one step")
    add("--mixed-precision", action="store_true", help="students in bfloat16, where GPU or CPU have it")
    add("--size", type=int, default=256, help="side of the images, in pixels")
    add("--seed", type=int, default=0, help="the first seed")
    add("--seeds", type=int, default=1, help="trainings of each row, with mean and deviation")
    add("--workers", type=int, default=1, help="processes; with GPUs, each training goes to the next of them")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--ray", default="", metavar="ADDRESS", help="a Ray cluster: auto or HOST:PORT")
    add("--ray-gpus", type=float, default=0.0, help="GPUs that Ray gives each training")
    add("--checkpoint", type=Path, metavar="FILE", help="the figures' model")
    add("-o", "--output", type=Path, metavar="FILE", help="the figure to write (default: its name and .png)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
