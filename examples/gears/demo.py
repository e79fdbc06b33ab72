"""`make demo`: from nothing to verdicts, by the commands that a user types. Nothing is downloaded.

    python -m examples.gears.demo --output demo

It draws pictures of a part, trains with the teacher that ships, exports, evaluates and inspects. Every step is a
command of its own, echoed as it can be copied; the first that fails ends the demo with its exit code.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stfpm_runtime.cli import run
from stfpm_runtime.errors import StfpmError

PART = "gear"


@dataclass(frozen=True)
class DemoOptions:
    """The size of the demo; the defaults take two to six minutes on two cores."""

    output: Path = Path("demo")
    """The folder for all of it; what an earlier demo left there is replaced."""
    seed: int = 0
    train_images: int = 100
    """Good pictures to draw for training, those held out for the threshold included."""
    test_images: int = 20
    """Good pictures to test on; of each kind of defect, half as many."""
    epochs: int = 24
    """The number of epochs of the student's training."""
    size: int = 256
    """The side that the pictures are resized to, in pixels."""


@dataclass(frozen=True)
class Step:
    """One command of the demo."""

    title: str
    program: str
    """A console script of ours, or a module `examples.gears.NAME` that is run with `python -m`."""
    arguments: tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit code, that of the step that failed if one did."""
    options = DemoOptions(**vars(_parser().parse_args(argv)))
    return run("demo", lambda: demo(options))


def plan(options: DemoOptions) -> list[Step]:
    """Return the demo's steps, in order."""
    output, seed = options.output, str(options.seed)
    data = str(output / PART)
    checkpoint, model = str(output / f"{PART}.safetensors"), str(output / f"{PART}.onnx")
    draw = (data, "--seed", seed, "--train", str(options.train_images), "--test", str(options.test_images))
    train = (data, "-o", checkpoint, "--teacher", "procedural", "--size", str(options.size), "--seed", seed)
    short = (
        "--epochs",
        str(options.epochs),
        "--batch-size",
        "2",
        "--val-fraction",
        "0.4",
        "--false-alarm-rate",
        "0.05",
    )
    overlays = ("--save", str(output / "overlays"), "--json", str(output / "verdicts.jsonl"))
    return [
        Step("draw pictures of a part", "examples.gears.parts", draw),
        Step("train a student on good parts", "stfpm-train", train + short),
        Step("export one ONNX file", "stfpm-export", (checkpoint, "-o", model)),
        Step("measure its accuracy", "stfpm-eval", (model, data, "--json", str(output / "accuracy.json"))),
        Step("inspect the test parts", "stfpm-inspect", (model, "--source", f"{data}/test", *overlays)),
    ]


def demo(options: DemoOptions) -> int:
    """Run all steps and print a summary. Return 0, or the exit code of the step that failed.

    Raise StfpmError where one of our commands is not installed.
    """
    _clear(options.output)
    steps = plan(options)
    commands = [_command(step) for step in steps]
    seconds = []
    for number, (step, command) in enumerate(zip(steps, commands, strict=True), start=1):
        print(f"\n[{number}/{len(steps)}] {step.title}\n$ {shlex.join(command)}", flush=True)
        started = time.monotonic()
        if code := subprocess.run(command, check=False).returncode:
            print(f"demo: step {number} of {len(steps)} failed with exit code {code}; see above", file=sys.stderr)
            return code
        seconds.append(time.monotonic() - started)
    print(_summary(options.output, steps, seconds), flush=True)
    return 0


def _clear(output: Path) -> None:
    """Remove what an earlier demo made, an interrupted one's unfinished training included, and nothing else."""
    for folder in (PART, "overlays"):
        shutil.rmtree(output / folder, ignore_errors=True)
    for pattern in (f"{PART}.*", "accuracy.json", "verdicts.jsonl"):
        for path in output.glob(pattern):
            path.unlink()


def _command(step: Step) -> list[str]:
    """Return the step as a command line that runs from here, with or without the virtual environment activated."""
    python = Path(sys.executable)
    if step.program.startswith("examples."):
        return [_short(python), "-m", step.program, *step.arguments]
    script = shutil.which(step.program, path=str(python.parent))
    if script is None:
        raise StfpmError(f"{step.program} is not next to {python}; install it there with: pip install -e '.[dev]'")
    return [_short(Path(script)), *step.arguments]


def _short(program: Path) -> str:
    """Return the program's path, relative where it lies below the current folder."""
    here = Path.cwd()
    return os.path.relpath(program, here) if program.is_relative_to(here) else str(program)


def _summary(output: Path, steps: Sequence[Step], seconds: Sequence[float]) -> str:
    """Describe the accuracy, the time of each step, and where the files are."""
    result = json.loads((output / "accuracy.json").read_text(encoding="utf-8"))["categories"][0]
    times = [f"  {step.title:<32}{spent:6.1f} s" for step, spent in zip(steps, seconds, strict=True)]
    return "\n".join([
        "",
        f"A model that has seen good {PART}s only, in {output / PART}.onnx:",
        f"  image AUROC {result['image_auroc']:.3f}, pixel AUROC {result['pixel_auroc']:.3f}, PRO {result['pro']:.3f}",
        f"  {result['missed']} of {result['defective_images']} defective parts missed, "
        f"{result['false_alarms']} of {result['normal_images']} good ones rejected",
        f"Pictures: {output / 'overlays'} (what it saw), {output / PART / 'test'} (the parts)",
        f"Verdicts: {output / 'verdicts.jsonl'}",
        "Time:",
        *times,
        f"  {'all':<32}{sum(seconds):6.1f} s",
    ])  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    defaults = DemoOptions()
    parser = argparse.ArgumentParser(
        prog="python -m examples.gears.demo",
        description="From nothing to verdicts: draw parts, train, export, evaluate, inspect.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--output", type=Path, default=defaults.output, metavar="DIR", help="the folder for all of it")
    add("--seed", type=int, default=defaults.seed, help="of the pictures and the training")
    add("--train-images", type=int, default=defaults.train_images, metavar="N", help="good pictures to train on")
    add("--test-images", type=int, default=defaults.test_images, metavar="N",
        help="good pictures to test on; of each kind of defect, half as many")  # fmt: skip
    add("--epochs", type=int, default=defaults.epochs, help="passes over the training images")
    add("--size", type=int, default=defaults.size, metavar="SIDE", help="what pictures are resized to, in pixels")
    return parser


if __name__ == "__main__":
    sys.exit(main())
