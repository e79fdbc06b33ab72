"""Many trainings by one command: several seeds of a product, or all products of a plant."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from stfpm_runtime.errors import DataError, OptionError, StfpmError, TrainingError
from stfpm_runtime.files import sha256

from .checkpoint import differences, load_checkpoint, resume_path
from .epochs import Reporter, SilentReporter
from .options import TrainOptions
from .pictures.data import find_good_images
from .pictures.data_report import files_sha256
from .teacher import fingerprint, load_teacher
from .train import options_record, product_name, train_student

WITHOUT_EFFECT = ("init_from", "manifest", "by", "device", "teacher", "skip_unreadable", "accept_data")
"""Options that change a result by rounding alone, or whose effect shows in the SHA-256s of teacher and pictures."""


def with_seeds(options: TrainOptions, count: int) -> list[TrainOptions]:
    """Return the same training with `count` seeds, from its own on; FILE becomes FILE.seedN for more than one.

    Raises OptionError for a count below 1.
    """
    if count < 1:
        raise OptionError(f"got --seeds {count}; expected 1 or more")
    if count == 1:
        return [options]
    seeds = range(options.seed, options.seed + count)
    return [
        replace(options, seed=seed, output=options.output.with_name(f"{options.output.stem}.seed{seed}.safetensors"))
        for seed in seeds
    ]


def products(root: Path) -> list[Path]:
    """Find the folders in `root` that hold a product: those with train/good. Raise DataError where there is none."""
    found = sorted(folder for folder in root.iterdir() if (folder / "train" / "good").is_dir()) if root.is_dir() else []
    if not found:
        raise DataError(f"{root}: no folder in it has train/good; expected a folder of MVTec-style categories")
    return found


def train_each(todo: Sequence[TrainOptions], reporter: Reporter, ray: str = "") -> list[TrainOptions]:
    """Train one after the other, or all on the Ray cluster at `ray`. Returns those that were trained or done already.

    If one fails, the failure is reported and the others continue; an unfinished one is resumed. An output from other
    options, another teacher or other pictures is a failure, and is kept. Raises TrainingError at the end if any failed.
    """
    outcomes: Iterable[tuple[TrainOptions, str | Exception]]
    if ray:
        from .cluster import map_on_ray

        outcomes = map_on_ray(train_unless_done, todo, ray, _name)
    else:
        outcomes = ((options, _attempt(options, reporter)) for options in todo)
    done: list[TrainOptions] = []
    failed: list[TrainOptions] = []
    for number, (options, outcome) in enumerate(outcomes, start=1):
        if isinstance(outcome, Exception) and not isinstance(outcome, StfpmError):
            raise outcome
        is_failure = isinstance(outcome, Exception)
        reporter.say(f"{number} of {len(todo)}: {_name(options)}: {'failed: ' if is_failure else ''}{outcome}")
        (failed if is_failure else done).append(options)
    if failed:
        names = ", ".join(_name(options) for options in failed)
        raise TrainingError(f"{len(failed)} of {len(todo)} trainings failed, see above: {names}; the others are done")
    return done


def train_unless_done(options: TrainOptions, reporter: Reporter | None = None) -> str:
    """Train, continuing an unfinished training, and return the result in words. Raises StfpmError."""
    if options.output.exists() and not resume_path(options.output).exists():
        check_done(options)
        return f"{options.output} is done already: delete the file to train it again"
    resumed = replace(options, resume=resume_path(options.output).exists())
    return f"{options.output}, threshold {train_student(resumed, reporter or SilentReporter()).spec.threshold:.4g}"


def _attempt(options: TrainOptions, reporter: Reporter) -> str | StfpmError:
    reporter.say(f"{_name(options)} -> {options.output}")
    try:
        return train_unless_done(options, reporter)
    except StfpmError as error:
        return error


def _name(options: TrainOptions) -> str:
    return f"{options.data.name} (seed {options.seed})"


def check_done(options: TrainOptions) -> None:
    """Raise OptionError, naming what differs, unless these options, teacher and pictures made `options.output`.

    One whose loss stopped being finite before the last epoch is not done either.
    """
    spec = load_checkpoint(options.output).spec
    teacher = load_teacher(options.teacher, options.backbone, options.blocks)
    now = _record(options_record(options)) | {
        "name": product_name(options),
        "init_from_sha256": options.init_from and sha256(options.init_from),
        "teacher_sha256": fingerprint(teacher)[:16],
        "pictures_sha256": files_sha256(find_good_images(options.data))[:16],
    }
    if options.smallest_defect is not None:  # the training chose the size itself
        del now["height"], now["width"]
    pictures = spec.training.get("data", {}).get("files_sha256", "unknown")
    was = _record(spec.training.get("options", {})) | {
        "name": spec.name,
        "init_from_sha256": spec.training.get("init_from_sha256"),
        "teacher_sha256": spec.teacher_sha256[:16],
        "pictures_sha256": pictures[:16],
    }
    if changes := differences(was, now):
        raise OptionError(
            f"{options.output}: was made by a training that differs in {changes}; "
            "delete it to train again, or choose another output"
        )
    epochs, asked = spec.training["epochs"], options.recipe.epochs_for(spec.training["images"]["train"])
    if epochs < asked:
        raise OptionError(
            f"{options.output}: its training stopped after epoch {epochs} of {asked}, since the loss was not finite; "
            "delete it and lower the learning rate (--lr)"
        )


def _record(options: Mapping[str, object]) -> dict[str, object]:
    """Return the options that change a result, those of the recipe among them, as JSON values."""
    kept: dict[str, Any] = json.loads(json.dumps(options))
    recipe = {"defect_share": 0.0} | kept.pop("recipe", {})  # earlier versions drew no defects
    kept |= {"recipe" if name == "name" else name: value for name, value in recipe.items()}
    return {name: value for name, value in kept.items() if name not in WITHOUT_EFFECT}


def mean_and_deviation(done: Sequence[TrainOptions]) -> str:
    """Describe the mean and deviation of the trainings' errors, from their checkpoints.

    The error is the lowest validation error, or, where the recipe keeps the last epoch, the loss of that epoch.
    """
    records = [load_checkpoint(options.output).spec.training for options in done]
    errors = [min(record["validation_errors"] or record["losses"][-1:]) for record in records]
    name = "validation error" if records[0]["validation_errors"] else "training loss"
    return f"{name} {fmean(errors):.4f} ± {pstdev(errors):.4f} over {len(errors)} seeds"
