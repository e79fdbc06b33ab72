"""Training a student: the paper's protocol, resumable after every epoch, with a calibrated threshold at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import torchvision

from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.errors import OutputError, TrainingError
from stfpm_runtime.files import check_writable
from stfpm_runtime.imaging.preprocessing import RESIZE, Image

from .checkpoint import Checkpoint, Progress, check_progress, resume_path, save_checkpoint
from .data import Split, split_images
from .data_report import read_good_images
from .epochs import EVAL_BATCH, Reporter, fit
from .features import TeacherFeatures
from .model import Pyramid, Stfpm, new_student
from .options import TrainOptions, check_mixed_precision, pick_device
from .teacher import fingerprint, load_teacher
from .threshold import KEPT_HELD_OUT_IMAGES, calibrated, subsample_evenly

KEPT_TRAIN_IMAGES = 32
"""Training images stored with the checkpoint, for parity and calibration."""


def train_student(options: TrainOptions, reporter: Reporter, images_of: Sequence[Path] | None = None) -> Checkpoint:
    """Train, calibrate and write `options.output`; what it holds is returned.

    `images_of` names the good pictures where `options.data` has a layout of its own; None looks for them there.

    Raise StfpmError for what a user can mend. Where the loss stops being finite that is a TrainingError, after the
    best student so far was written. KeyboardInterrupt loses at most the running epoch: see `TrainOptions.resume`.
    """
    check_writable(options.output)
    unfinished = resume_path(options.output)
    if unfinished.exists() and not options.resume:
        raise OutputError(f"{unfinished}: an unfinished training lies here; continue it with --resume, or delete it")
    device = pick_device(options.device)
    check_mixed_precision(options, device)
    teacher = load_teacher(options.teacher, options.backbone, options.blocks).to(device)
    images, paths, found = read_good_images(
        options.data, options.height, options.width, reporter.say,
        bits=options.bits, paths=images_of,
        skip_unreadable=options.skip_unreadable, accept_doubtful=options.accept_data,
    )  # fmt: skip
    split = split_images(len(images), options.val_fraction, options.train_fraction, options.seed)
    student = new_student(options.backbone, options.blocks, options.seed, teacher).to(device)
    if options.channels_last:
        for network in (teacher, student):
            network.to(memory_format=torch.channels_last)
    identity = _identity(options, images, teacher)
    if unfinished.exists():
        check_progress(unfinished, identity)
    reporter.say(
        f"{options.data}: {len(split.train)} images to train on, {len(split.held_out)} held out; "
        f"teacher {Path(options.teacher).name}, {options.backbone}, on {device}"
    )
    with TeacherFeatures(options.output.parent) as features:
        features.compute(
            teacher, images, EVAL_BATCH, device, lambda done: reporter.step("teacher", done, len(images), "images")
        )
        progress, failed_epoch = fit(student, features, images, split, options, identity, reporter)
    if not progress.best:
        raise TrainingError("the loss was not finite in epoch 1; lower the learning rate (--lr)")
    student.load_state_dict(progress.best)
    provenance = _provenance(options, paths, split, progress) | {"data": found.provenance()}
    checkpoint = _calibrated(teacher, student, images, paths, split, options, provenance, reporter)
    save_checkpoint(checkpoint, options.output)
    unfinished.unlink(missing_ok=True)
    if failed_epoch:
        raise TrainingError(
            f"the loss was not finite in epoch {failed_epoch}; the student of epoch {progress.best_epoch} "
            f"is in {options.output}, lower the learning rate (--lr) for a better one"
        )
    return checkpoint


def _calibrated(
    teacher: Pyramid,
    student: Pyramid,
    images: Image,
    paths: Sequence[Path],
    split: Split,
    options: TrainOptions,
    provenance: dict[str, object],
    reporter: Reporter,
) -> Checkpoint:
    """Return the checkpoint, its threshold set from the held-out images' scores."""
    spec = Spec(
        name=product_name(options),
        height=options.height,
        width=options.width,
        backbone=options.backbone,
        blocks=options.blocks,
        bits=options.bits,
        teacher=Path(options.teacher).name,
        teacher_sha256=fingerprint(teacher),
        training=provenance,
    )
    model = Stfpm(teacher, student)
    names = [str(paths[i]) for i in split.held_out]
    spec = calibrated(spec, model, images[split.held_out], options.false_alarm_rate, reporter.say, names)
    return Checkpoint(
        spec,
        teacher.cpu(),
        student.cpu().eval(),
        train_images=[images[i] for i in subsample_evenly(split.train, KEPT_TRAIN_IMAGES)],
        held_out_images=[images[i] for i in subsample_evenly(split.held_out, KEPT_HELD_OUT_IMAGES)],
    )


def product_name(options: TrainOptions) -> str:
    """Return the product's name: the one given, or the data folder's."""
    return options.name or options.data.resolve().name


def options_record(options: TrainOptions) -> dict[str, object]:
    """Return the options that a model's provenance keeps."""
    kept = {name: value for name, value in asdict(options).items() if name not in ("data", "output", "resume", "name")}
    kept["teacher"] = Path(options.teacher).name  # a path of the training machine means nothing elsewhere
    return kept


def _provenance(options: TrainOptions, paths: Sequence[Path], split: Split, progress: Progress) -> dict[str, object]:
    return {
        "options": options_record(options),
        "images": {"train": len(split.train), "held_out": [paths[i].name for i in split.held_out]},
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "losses": progress.losses,
        "validation_errors": progress.errors,
        "seconds": round(progress.seconds, 1),
        "versions": {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)},
    }


def _identity(options: TrainOptions, images: Image, teacher: Pyramid) -> dict[str, object]:
    """Return what must be equal for a training to be continued; the number of epochs may grow."""
    names = ("backbone", "blocks", "height", "width", "batch_size", "lr", "momentum", "weight_decay", "seed",
             "mixed_precision", "channels_last", "bits")  # fmt: skip
    identity: dict[str, object] = {name: getattr(options, name) for name in names}
    identity["blocks"] = list(options.blocks)
    identity |= {"val_fraction": options.val_fraction, "train_fraction": options.train_fraction}
    identity |= {"block_weights": list(options.weights), "resize": RESIZE}
    identity["images"] = hashlib.sha256(images.tobytes()).hexdigest()[:16]
    identity["teacher"] = fingerprint(teacher)[:16]
    return identity
