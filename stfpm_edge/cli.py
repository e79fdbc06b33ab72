"""`stfpm-train`: from a folder of good images to a checkpoint."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stfpm_runtime.cli import run
from stfpm_runtime.errors import OptionError

from .checkpoint import resume_path
from .networks import BACKBONES, default_blocks
from .options import SMALLEST_DEFECT, TrainOptions, parse_size
from .plot import write_plot
from .recipes import RECIPES
from .train import train_student
from .train_many import mean_and_deviation, products, train_each, with_seeds


def main(argv: Sequence[str] | None = None) -> int:
    """Run `stfpm-train` and return the exit code."""
    arguments = _parser().parse_args(argv)
    return run("stfpm-train", lambda: _train(arguments))


def _train(arguments: argparse.Namespace) -> int:
    seeds, is_all, ray = (arguments.__dict__.pop(name) for name in ("seeds", "all", "ray"))
    if ray and not (is_all or seeds > 1):
        raise OptionError(f"got --ray {ray} for one training; expected --all or --seeds with it")
    if is_all:
        return _train_all(arguments, seeds, ray)
    options = _options(arguments)
    if seeds != 1:
        with TerminalReporter() as reporter:
            reporter.say(mean_and_deviation(train_each(with_seeds(options, seeds), reporter, ray)))
        return 0
    with TerminalReporter() as reporter:
        try:
            checkpoint = train_student(options, reporter)
        except KeyboardInterrupt:
            if resume_path(options.output).exists():
                reporter.say("interrupted: continue with the same command and --resume")
            raise
    spec, plot = checkpoint.spec, options.output.with_suffix(".svg")
    write_plot(spec, plot)
    reporter.say(f"{plot}: the losses, and the scores of the held-out pictures beside the threshold")
    reporter.say(
        f"{options.output}: the student of epoch {spec.training['best_epoch']}, threshold {spec.threshold:.4g} "
        f"({spec.false_alarm_rate:.1%} of good parts at most); next: stfpm-export {options.output}"
    )
    return 0


def _train_all(arguments: argparse.Namespace, seeds: int, ray: str) -> int:
    """Train every product below DATA, into the folder OUTPUT."""
    folder, root = arguments.output, arguments.data
    if folder.suffix == ".safetensors":
        raise OptionError(f"got --all with the output {folder}; expected a folder, each product gets a file in it")
    if arguments.name:
        raise OptionError(f"got --name {arguments.name} with --all; expected no name, each product has its folder's")
    arguments.output = folder / "product.safetensors"
    options = _options(arguments)
    each = [replace(options, data=one, output=folder / f"{one.name}.safetensors") for one in products(root)]
    todo = [one for product in each for one in with_seeds(product, seeds)]
    folder.mkdir(parents=True, exist_ok=True)
    with TerminalReporter() as reporter:
        train_each(todo, reporter, ray)
    return 0


UNITS = {"student": "epoch", "folds": "fold", "pre-training": "step"}
"""The unit that is counted in each stage that a log shows line by line."""


class TerminalReporter:
    """Words and progress on stderr: a bar on a terminal, a line for each epoch in a log."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(), console=self.console, disable=not self.console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, tuple[int, float]] = {}
        """How many steps of each stage were done when it was first reported, and when, on `time.monotonic()`."""

    def __enter__(self) -> TerminalReporter:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line for a person."""
        self.console.print(text, markup=False)

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Move a stage's bar."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total, note=note)
        self._bar.update(self._tasks[stage], completed=done, note=note)
        if not self.console.is_terminal and stage in UNITS:
            first, begun_s = self._begun.setdefault(stage, (done, time.monotonic()))
            each_s = (time.monotonic() - begun_s) / (done - first) if done > first else 0.0
            left = f", {each_s * (total - done):.0f} s left" if 0 < done - first < total - first else ""
            self.say(f"{UNITS[stage]} {done}/{total}: {note}{left}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stfpm-train",
        description="Train a student on good images, choose its score and set its threshold.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="a folder of good images, or an MVTec-style category with train/good")
    add("-o", "--output", type=Path, required=True, metavar="FILE",
        help="write the checkpoint to this .safetensors file")  # fmt: skip
    add("--teacher", default="imagenet", metavar="imagenet|procedural|PATH",
        help="ImageNet weights (downloaded once), the built-in teacher, or a .safetensors or .pth file")  # fmt: skip
    add("--backbone", default="resnet18", choices=BACKBONES,
        help="the architecture of the teacher and the student (docs/networks.md)")  # fmt: skip
    add("--blocks", metavar="B,...", default=argparse.SUPPRESS,
        help="compare these blocks; 2 is conv2_x, 5 is conv5_x (default: 2,3,4, or 3,4 where 2 is shared)")  # fmt: skip
    add("--block-weights", metavar="W,...", help="the weight of each block in the loss (default: 1 for each)",
        default=argparse.SUPPRESS)  # fmt: skip
    add("--size", default="256", metavar="SIDE|WxH|auto",
        help="resize the images to this size in pixels; auto: choose it from the pictures")  # fmt: skip
    add("--smallest-defect", type=float, metavar="SHARE", default=argparse.SUPPRESS,
        help="with --size auto: the smallest defect that matters, as a share of the picture's long side "
        f"(default: {SMALLEST_DEFECT})")  # fmt: skip
    add("--budget-ms", type=float, metavar="MS", default=argparse.SUPPRESS,
        help="with --size auto: the longest time of the network in PyTorch on this machine (default: any)")  # fmt: skip
    add("--recipe", default="plus", choices=tuple(RECIPES),
        help="plus: a short schedule, a student that sees synthetic defects, and a score chosen for the product; "
        "paper: the paper's protocol; official: the same with 200 epochs")  # fmt: skip
    for option, kind, what in (
        ("--epochs", int, "the number of passes over the training images"),
        ("--batch-size", int, "the number of images in one step of the optimizer"),
        ("--lr", float, "the (highest) learning rate of SGD"),
    ):
        add(option, type=kind, default=argparse.SUPPRESS, help=f"{what} (default: the recipe's)")
    add("--init-from", type=Path, metavar="FILE", default=argparse.SUPPRESS,
        help="continue from the student of this checkpoint, made with the same teacher")  # fmt: skip
    add("--manifest", type=Path, metavar="FILE", default=argparse.SUPPRESS,
        help="check that the pictures are those of this manifest, and record it (stfpm-dataset writes it)")  # fmt: skip
    add("--by", default="", metavar="NAME", help="who trains, for the record that the model carries")
    add("--seed", type=int, default=0, help="the seed for the split, the student's first weights and the batches")
    add("--val-fraction", type=float, default=0.2, help="share of images for validation and threshold")
    add("--train-fraction", type=float, default=1.0, help="the share of all images that is used, for few-shot training")
    add("--folds", type=int, metavar="N", default=argparse.SUPPRESS,
        help="set the threshold by cross-conformal calibration in N parts, hold no image out; 0: hold images out "
        "(default: by the number of images)")  # fmt: skip
    add("--false-alarm-rate", type=float, default=0.01, help="the share of good parts that may be rejected")
    add("--min-area", type=int, default=1, metavar="PIXELS",
        help="reject only for a connected region of so many pixels of the anomaly map above the threshold")  # fmt: skip
    add("--device", default="auto", help="the device to train on: auto, cpu, cuda or cuda:N")
    add("--mixed-precision", action="store_true", help="compute in bfloat16; GPU or CPU must support it")
    add("--no-channels-last", dest="channels_last", action="store_false", help="use PyTorch's memory order (slower)")
    add("--seeds", type=int, default=1, metavar="N", help="train with N seeds, then print mean and standard deviation")
    add("--all", action="store_true", help="DATA is a folder of categories: train each; FILE is the output folder")
    add("--ray", default="", metavar="ADDRESS",
        help="with --all or --seeds: train on a Ray cluster, auto or HOST:PORT, with the same paths")  # fmt: skip
    add("--name", default="", help="the name of the product (if empty: the name of the data folder)")
    add("--resume", action="store_true", help="continue an interrupted training of the same output")
    add("--skip-unreadable", action="store_true", help="leave out pictures that cannot be read, do not stop at them")
    add("--bits", type=int, metavar="N", default=argparse.SUPPRESS,
        help="the number of bits that 16-bit pictures use, 9 to 16; for example 12 for a 12-bit camera")  # fmt: skip
    add("--accept-data", action="store_true", help="train even if the check of the pictures finds doubtful ones")
    return parser


def _options(arguments: argparse.Namespace) -> TrainOptions:
    values = vars(arguments)
    size = values.pop("size")
    if size == "auto":
        values.setdefault("smallest_defect", SMALLEST_DEFECT)
    elif "smallest_defect" in values or "budget_ms" in values:
        raise OptionError(f"got --smallest-defect or --budget-ms with --size {size}; expected --size auto with them")
    else:
        values["width"], values["height"] = parse_size(size)
    blocks = parse_blocks(values.pop("blocks")) if "blocks" in values else default_blocks(values["backbone"])
    weights = values.pop("block_weights", None)
    changed: dict[str, Any] = {name: values.pop(name) for name in ("epochs", "batch_size", "lr") if name in values}
    if "epochs" in changed:
        changed["least_steps"] = 0  # so many epochs were asked for, not more
    recipe = replace(RECIPES[values.pop("recipe")], **changed)
    return TrainOptions(
        **values,
        recipe=recipe,
        blocks=blocks,
        block_weights=None if weights is None else parse_numbers("--block-weights", weights),
    )


def parse_blocks(text: str) -> tuple[int, ...]:
    """Parse `2,3,4` as whole numbers. Raise OptionError for anything else."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise OptionError(f"got --blocks {text}; expected whole numbers with commas between them, say 2,3,4") from None


def parse_numbers(option: str, text: str) -> tuple[float, ...]:
    """Parse `2,3,4` as numbers. Raise OptionError, naming the option, for anything else."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise OptionError(f"got {option} {text}; expected numbers with commas between them, say 2,3,4") from None


if __name__ == "__main__":
    sys.exit(main())
