"""The good pictures of a training: read, checked, and split into those that train, that choose, and that calibrate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from stfpm_runtime.files import sha256
from stfpm_runtime.imaging.preprocessing import Image

from .checkpoint import load_checkpoint, load_identity
from .epochs import Reporter
from .input_size import choose_size
from .networks import Pyramid
from .options import TrainOptions
from .pictures.data import Split, read_images, split_images
from .pictures.data_report import read_good_images

DIGEST_LENGTH = 12
"""Hexadecimal digits of a picture's SHA-256 in the provenance."""
USES = ("trained_on", "chosen_on")
"""Keys of the provenance: pictures that this student and those before it have learnt from, that chose their scores."""


@dataclass(frozen=True)
class Inputs:
    """The pictures of a training and their use, with the options as they are once the input size is known."""

    options: TrainOptions
    images: Image
    """uint8 [N, H, W, 3], BGR, of the options' size."""
    paths: Sequence[Path]
    split: Split
    folds: int
    """The number of folds that set the threshold; 0: the split's calibration images do."""
    learnt: frozenset[int]
    """The indices of the images that an earlier student, which is trained on, has learnt from."""
    records: dict[str, object]
    """Provenance: what the check of the pictures found, and how the size was chosen."""

    @property
    def calibrating(self) -> list[int]:
        """Return the indices of the images that set the threshold."""
        return self.split.train if self.folds else self.split.calibration

    def describe(self, device: torch.device) -> str:
        """Return a line that says what is trained, on what, and what the images are used for."""
        options, split = self.options, self.split
        choice = "epoch" if options.recipe.selects_epoch else "score"
        use = f"{len(split.validation)} to choose the {choice}, {len(split.calibration)} to set the threshold"
        if self.folds:
            use = f"which also choose the {choice} and, in {self.folds} folds, set the threshold"
        return (
            f"{options.data}: {len(split.train)} images to train on, {use}; recipe {options.recipe.name}, "
            f"teacher {Path(options.teacher).name}, {options.backbone}, on {device}"
        )


def read_inputs(
    teacher: Pyramid,
    options: TrainOptions,
    good_paths: Sequence[Path] | None,
    unfinished: Path,
    reporter: Reporter,
) -> Inputs:
    """Read, check and split the pictures; choose the input size where that was asked for.

    A training that is continued keeps its size.
    """
    is_chosen = options.smallest_defect is not None
    size = load_identity(unfinished)[0].get("size") if is_chosen and unfinished.exists() else None
    options = _with_size(options, size)
    images, paths, found = read_good_images(
        options.data, options.height, options.width, reporter.say,
        bits=options.bits, paths=good_paths,
        skip_unreadable=options.skip_unreadable, accept_doubtful=options.accept_data, checks_size=not is_chosen,
    )  # fmt: skip
    digests = [sha256(path)[:DIGEST_LENGTH] for path in paths]
    earlier = load_checkpoint(options.init_from).spec.training if options.init_from else {}
    seen = [{i for i, digest in enumerate(digests) if digest in earlier.get(key, ())} for key in USES]
    split = split_images(len(images), options.val_fraction, options.train_fraction, options.seed, *seen)
    kept = sorted(split.train + split.validation + split.calibration)
    folds = options.folds_for(len(kept))
    if folds:
        split = Split(kept, [], [])
    if is_chosen and size is None:
        size = choose_size(teacher, [paths[i] for i in split.train], options, reporter)
        options = _with_size(options, size)
        images, _ = read_images(
            paths, options.height, options.width, bits=options.bits, skip_unreadable=False, report=reporter.say
        )
    records: dict[str, object] = {"data": found.provenance()} | ({"size": size} if size else {})
    for key, used in zip(USES, (split.train, split.validation), strict=True):
        records[key] = sorted({*earlier.get(key, ()), *(digests[i] for i in used)})
    return Inputs(options, images, paths, split, folds, frozenset(seen[0]), records)


def _with_size(options: TrainOptions, size: Mapping[str, Any] | None) -> TrainOptions:
    """Return the options with the size that `choose_size` returned, if any."""
    return replace(options, width=size["width"], height=size["height"]) if size else options
