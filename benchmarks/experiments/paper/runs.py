"""One training with its evaluation as a job: done once, kept as a JSON file, distributed to processes, GPUs or Ray."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from stfpm_edge.epochs import SilentReporter
from stfpm_edge.options import TrainOptions
from stfpm_edge.recipes import PAPER
from stfpm_edge.torch_engine import TorchEngine
from stfpm_edge.train import train_student
from stfpm_eval.evaluate import evaluate
from stfpm_eval.layouts import find_products
from stfpm_runtime.errors import ArtifactError, StfpmError, TrainingError
from stfpm_runtime.files import atomic_path

PLACES = ("data", "layout", "device")
"""What of a job does not change its figures."""


@dataclass(frozen=True)
class Job:
    """A category, a training and an evaluation; plain values, so that it travels to other processes and machines."""

    category: str
    data: str
    layout: str = "auto"
    teacher: str = "imagenet"
    teacher_name: str = "imagenet"
    """What the tables call it."""
    teacher_sha256: str = ""
    """The SHA-256 of its file, wherever that lies; empty for a teacher that has only a name."""
    data_sha256: str = ""
    """The category's `Product.digest`."""
    backbone: str = "resnet18"
    blocks: tuple[int, ...] = (2, 3, 4)
    train_fraction: float = 1.0
    seed: int = 0
    epochs: int = 100
    batch_size: int = 32
    size: int = 256
    mixed_precision: bool = False
    device: str = "auto"

    @property
    def identity(self) -> dict[str, object]:
        """Return what the result depends on."""
        return {name: value for name, value in asdict(self).items() if name not in (*PLACES, "teacher")}

    @property
    def file(self) -> str:
        """Return the name of its result's file: jobs that differ in what matters never share one."""
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.category.replace('/', '_')}-{digest}.json"


@dataclass(frozen=True)
class Result:
    """A job's figures, 0 to 1; None where there is no ground truth for pixels."""

    image_auroc: float
    pixel_auroc: float | None
    pro: float | None
    seconds: float
    """Of training and evaluation."""
    best_epoch: int


def run_job(job: Job) -> Result:
    """Train and evaluate. Raises StfpmError for data or a teacher that cannot be used."""
    started = time.perf_counter()
    (product,) = find_products(Path(job.data), job.layout, only=job.category)
    with tempfile.TemporaryDirectory(prefix="stfpm-paper-") as folder:
        options = TrainOptions(
            product.category.folder, Path(folder) / "model.safetensors", job.teacher, job.backbone, job.blocks,
            height=job.size, width=job.size, seed=job.seed,
            recipe=replace(PAPER, epochs=job.epochs, batch_size=job.batch_size),
            train_fraction=job.train_fraction, mixed_precision=job.mixed_precision,
            device=job.device, name=product.name, accept_data=True,  # public data sets, taken as they are
        )  # fmt: skip
        checkpoint = train_student(options, SilentReporter(), product.train)
    device = "cuda" if job.device == "auto" and torch.cuda.is_available() else job.device.replace("auto", "cpu")
    figures = evaluate(TorchEngine.of(checkpoint, device), product.category)
    best = checkpoint.spec.training["best_epoch"]
    assert isinstance(best, int), "train_student() writes it"
    seconds = round(time.perf_counter() - started, 1)
    return Result(figures.image_auroc, figures.pixel_auroc, figures.pro, seconds, best)


def load_result(folder: Path, job: Job) -> Result | None:
    """Return the kept result of a job, None where it is not done. Raises ArtifactError for a file that is damaged."""
    path = folder / job.file
    if not path.is_file():
        return None
    try:
        return Result(**json.loads(path.read_text(encoding="utf-8"))["result"])
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(f"{path}: not a result of ours; delete it, and its training is done again") from None


def save_result(folder: Path, job: Job, result: Result) -> None:
    """Keep a result, atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"job": job.identity, "result": asdict(result)}
    with atomic_path(folder / job.file) as unfinished:
        unfinished.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


Outcome = Result | Exception
"""What became of a job: its figures, or why there are none."""
Runner = Callable[[Sequence[Job]], Iterator[tuple[Job, Outcome]]]
"""Runs jobs and gives each with its outcome as it is done, in any order."""


def run_all(jobs: Sequence[Job], folder: Path, runner: Runner, report: Callable[[str], None]) -> dict[Job, Result]:
    """Return all results: kept ones are read, the others run and kept one by one.

    An interruption loses what is running. A job that fails does not end the others. Raises TrainingError, after all
    of them, for those that failed; an exception that is no StfpmError is a bug and is raised as it is.
    """
    results = {job: kept for job in jobs if (kept := load_result(folder, job)) is not None}
    todo = [job for job in dict.fromkeys(jobs) if job not in results]
    report(f"{len(results)} of {len(jobs)} trainings are done already, {len(todo)} to do")
    failed: list[tuple[Job, Exception]] = []
    for job, result in runner(todo):
        if isinstance(result, Exception):
            failed.append((job, result))
            report(f"{job.category}, seed {job.seed}: failed: {result}")
            continue
        save_result(folder, job, result)
        results[job] = result
        report(f"{job.category}: image AUROC {result.image_auroc:.4f} in {result.seconds:.0f} s ({folder / job.file})")
    for _, error in failed:
        if not isinstance(error, StfpmError):
            raise error
    if failed:
        job, error = failed[0]
        raise TrainingError(
            f"{len(failed)} of {len(todo)} trainings failed, first {job.category}: {error} (what is done is kept, the "
            "same command does the rest)"
        )
    return results


def outcome(job: Job) -> Outcome:
    """Run a job and return its figures, or the exception that it ended with."""
    try:
        return run_job(job)
    except Exception as error:  # whichever it is, the other jobs go on, and run_all raises it after them
        return error


def in_turn(jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
    """Run the jobs in this process, one after the other."""
    for job in jobs:
        yield job, outcome(job)


def in_processes(workers: int) -> Runner:
    """Return a runner over `workers` processes; with GPUs, job by job on the next of them."""

    def runner(jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
            futures = {
                pool.submit(run_job, placed): job for job, placed in assign_gpus(jobs, torch.cuda.device_count())
            }
            for future in concurrent.futures.as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BrokenProcessPool:
                    yield futures[future], TrainingError("a worker process died, perhaps for want of memory")
                except Exception as error:  # the job's own: the others go on, and run_all raises it after them
                    yield futures[future], error

    return runner


def assign_gpus(jobs: Sequence[Job], gpus: int) -> list[tuple[Job, Job]]:
    """Return the jobs placed on GPUs in turn; a job that names its device, and all without a GPU, are unchanged."""
    return [
        (job, replace(job, device=f"cuda:{number % gpus}") if gpus and job.device == "auto" else job)
        for number, job in enumerate(jobs)
    ]
