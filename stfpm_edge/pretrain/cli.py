"""`stfpm-pretrain`: a teacher from drawn pictures, from your own pictures, or a small one from a larger one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stfpm_edge.checkpoint import resume_path
from stfpm_edge.cli import TerminalReporter, parse_blocks
from stfpm_edge.networks import TEACHERS
from stfpm_runtime.cli import run

from .distil import SOURCES
from .labelled import SETS
from .train import PretrainOptions, pretrain

DEFAULTS = PretrainOptions(Path("teacher.safetensors"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run `stfpm-pretrain` and return the exit code."""
    arguments = _parser().parse_args(argv)
    return run("stfpm-pretrain", lambda: _pretrain(arguments))


def _pretrain(arguments: argparse.Namespace) -> int:
    values = vars(arguments)
    blocks = parse_blocks(values.pop("blocks"))
    options = PretrainOptions(
        blocks=blocks, side=values.pop("size"), start=values.pop("from"), parts=tuple(values.pop("parts")), **values
    )
    with TerminalReporter() as reporter:

        def report(step: int, note: str) -> None:
            reporter.step("pre-training", step, options.steps, note)

        try:
            pretrain(options, report)
        except KeyboardInterrupt:
            if resume_path(options.output).exists():
                reporter.say("interrupted: continue with the same command and --resume")
            raise
        backbone = "" if options.backbone == DEFAULTS.backbone else f"--backbone {options.backbone} "
        reporter.say(f"{options.output}: a teacher; next: stfpm-train DATA {backbone}--teacher {options.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stfpm-pretrain",
        description="Pre-train a teacher on pictures that are computed (no photographs), or on labelled pictures; "
        "or distil a small teacher from a larger one.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="write the teacher to this .safetensors file")
    add("--images", default=DEFAULTS.images, metavar="procedural|" + "|".join(SETS) + "|DIR",
        help="learn from computed scenes, a torchvision data set, or a folder of class folders")  # fmt: skip
    add("--root", type=Path, default=DEFAULTS.root, metavar="DIR", help="the folder of torchvision's data sets")
    add("--download", action="store_true", help="download the data set if it is not in that folder")
    add("--from", default="", metavar="PATH", help="start from these weights (.safetensors or .pth), not random ones")
    add("--distil-from", default="", metavar="imagenet|procedural|PATH",
        help="learn this teacher's features, not labels; with --backbone " + ", ".join(SOURCES))  # fmt: skip
    add("--parts", type=Path, action="append", default=[], metavar="DIR",
        help="with --distil-from: take half of the pictures from this folder of good parts (repeatable)")  # fmt: skip
    add("--backbone", default=DEFAULTS.backbone, choices=TEACHERS, help="the architecture of the teacher")
    add("--blocks", default="2,3,4", metavar="B,...",
        help="train up to the highest of these blocks; each block has its own loss")  # fmt: skip
    add("--steps", type=int, default=DEFAULTS.steps, metavar="N", help="the number of steps of the optimizer")
    add("--batch-size", type=int, default=DEFAULTS.batch_size, help="the number of pictures in each step")
    add("--size", type=int, default=DEFAULTS.side, metavar="SIDE", help="height and width of the pictures, in pixels")
    add("--lr", type=float, default=DEFAULTS.lr, help="the highest learning rate of AdamW")
    add("--seed", type=int, default=DEFAULTS.seed, help="the seed for the formulas, the pictures and the first weights")
    add("--device", default="auto", help="the device to train on: auto, cpu, cuda or cuda:N")
    add("--resume", action="store_true", help="continue an interrupted pre-training of the same output")
    return parser


if __name__ == "__main__":
    sys.exit(main())
