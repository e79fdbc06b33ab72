"""Measure seconds of one training epoch: ours and anomalib's Stfpm, on the same images, in one process, by turns.

    python benchmarks/experiments/peers/training_speed.py GOOD --json FILE     (by anomalib's interpreter)

After each of anomalib's epochs (Lightning's, without validation) comes one of ours. Anomalib reads and resizes the
images and asks its teacher in every epoch; we do so once, before the first. What that alone brings is `features once`:
our epoch with the teacher's time added, over our epoch.
"""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import anomalib
import torch
from anomalib.engine import Engine
from lightning.pytorch.callbacks import Callback
from offline_stfpm import build_stfpm, image_folder

from stfpm_edge.epochs import EVAL_BATCH, make_optimizer, train_epoch
from stfpm_edge.features import TeacherFeatures
from stfpm_edge.networks import Pyramid, new_student
from stfpm_edge.options import TrainOptions, has_bfloat16
from stfpm_edge.pictures.data import find_good_images, read_images
from stfpm_edge.recipes import PAPER
from stfpm_runtime.files import atomic_path
from stfpm_runtime.imaging.preprocessing import Image

BLOCKS = (2, 3, 4)
BACKBONE = "resnet18"


class Ours:
    """Our training in one precision, an epoch at a time."""

    def __init__(self, options: TrainOptions, images: Image, features: TeacherFeatures) -> None:
        self._options, self._images, self._features = options, images, features
        self._student = new_student(BACKBONE, BLOCKS, 0).to(memory_format=torch.channels_last)
        self._optimizer = make_optimizer(self._student, options.recipe)
        self.seconds: list[float] = []

    def epoch(self) -> None:
        """Train on every image once, and record the seconds."""
        started, everything = time.perf_counter(), range(len(self._images))
        number = len(self.seconds) + 1
        train_epoch(self._student, self._optimizer, self._features, self._images, everything, self._options, number)
        self.seconds.append(time.perf_counter() - started)


class Turns(Callback):  # type: ignore[misc]
    """Times anomalib's epochs, and lets ours run between them."""

    def __init__(self, ours: Sequence[Ours]) -> None:
        self._ours, self._started = ours, 0.0
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        """Stop the clock, then run our turn."""
        self.seconds.append(time.perf_counter() - self._started)
        for one in self._ours:
            with torch.enable_grad():
                one.epoch()


def main() -> None:
    """Measure and write."""
    arguments = _parser().parse_args()
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "good"
        folder.mkdir()
        for path in find_good_images(arguments.good)[: arguments.images]:
            (folder / path.name).symlink_to(path.resolve())
        result = measure(folder, arguments, Path(scratch))
    result["command"] = (
        f"python benchmarks/experiments/peers/training_speed.py GOOD --json FILE --images {arguments.images} "
        f"--epochs {arguments.epochs} --batch-size {arguments.batch_size} --size {arguments.size}"
    )
    print(json.dumps(result, indent=1))
    with atomic_path(arguments.json) as unfinished:
        unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure(folder: Path, arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Run both by turns. The first epoch of each is a warm-up and not counted."""
    data = image_folder(folder, None, arguments.size)
    data.train_batch_size = arguments.batch_size
    data.setup("fit")  # it keeps a fifth for its own tests
    paths = [Path(path) for path in data.train_data.samples["image_path"]]
    images, _ = read_images(paths, arguments.size, arguments.size, skip_unreadable=False, report=print)
    options = TrainOptions(folder, scratch / "x.safetensors", recipe=replace(PAPER, batch_size=arguments.batch_size))
    teacher = Pyramid(BACKBONE, BLOCKS).eval().to(memory_format=torch.channels_last)
    device = torch.device("cpu")
    with TeacherFeatures(scratch) as features:
        started = time.perf_counter()
        features.compute(teacher, images, EVAL_BATCH, device, lambda done: None)
        teacher_s = time.perf_counter() - started
        ours = {"float32": Ours(options, images, features)}
        if has_bfloat16(device):
            ours["bfloat16"] = Ours(replace(options, mixed_precision=True), images, features)
        theirs = Turns(list(ours.values()))
        engine = Engine(
            max_epochs=arguments.epochs + 1, accelerator="cpu", devices=1, default_root_dir=scratch, logger=False,
            callbacks=[theirs], limit_val_batches=0,
        )  # fmt: skip
        engine.fit(build_stfpm(None, arguments.size), datamodule=data)
    anomalib_s = median(theirs.seconds[1:])
    mine = {name: median(one.seconds[1:]) for name, one in ours.items()}
    return {
        "schema": 1,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}, "
                   f"anomalib {anomalib.__version__}",
        "images": len(images), "batch_size": arguments.batch_size, "size": arguments.size, "epochs": arguments.epochs,
        "anomalib_epoch_s": anomalib_s,
        "our_epoch_s": mine,
        "teacher_once_s": teacher_s,
        "faster_than_anomalib": {name: anomalib_s / value for name, value in mine.items()},
        "features_once": {name: (value + teacher_s) / value for name, value in mine.items()},
        "runs_s": {"anomalib": theirs.seconds, **{name: one.seconds for name, one in ours.items()}},
    }  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("good", type=Path, metavar="GOOD", help="a folder of good images")
    add("--json", type=Path, required=True, metavar="FILE", help="where the result is written")
    add("--images", type=int, default=120, help="how many of them; anomalib trains on four fifths")
    add("--epochs", type=int, default=5, help="epochs of each that count")
    add("--batch-size", type=int, default=32)
    add("--size", type=int, default=256, help="side of the square input, in pixels")
    return parser


if __name__ == "__main__":
    main()
