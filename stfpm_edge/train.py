"""Training a student by a recipe, resumable after every epoch; at the end its head is chosen and its threshold set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
import torchvision

from stfpm_runtime.artifact.calibration import calibrated
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.dataset.manifest import check_manifest, read_manifest
from stfpm_runtime.errors import OptionError, OutputError, TrainingError
from stfpm_runtime.files import check_writable, sha256
from stfpm_runtime.imaging.preprocessing import RESIZE, grey_level

from .calibration.detection import find_synthetic_defects, report_found
from .calibration.folds import score_by_folds
from .calibration.head import choose_head
from .calibration.threshold import KEPT_HELD_OUT_IMAGES, score_images, subsample_evenly
from .checkpoint import (
    Checkpoint,
    TrainingProgress,
    check_progress,
    differences,
    load_checkpoint,
    resume_path,
    save_checkpoint,
)  # fmt: skip
from .epochs import EVAL_BATCH, Reporter, fit
from .features import TeacherFeatures
from .inputs import Inputs, read_inputs
from .model import Head, Stfpm
from .networks import Pyramid, new_student
from .options import TrainOptions, check_mixed_precision, pick_device
from .teacher import fingerprint, load_teacher

KEPT_TRAIN_IMAGES = 32
"""Training images stored with the checkpoint, for parity and calibration."""


def train_student(options: TrainOptions, reporter: Reporter, good_paths: Sequence[Path] | None = None) -> Checkpoint:
    """Train, calibrate and write `options.output`; what it holds is returned.

    `good_paths` names the good pictures where `options.data` has a layout of its own; None looks for them there.

    Raise StfpmError for what the user can fix. Where the loss stops being finite that is a TrainingError, after the
    best student so far was written. KeyboardInterrupt loses at most the running epoch: see `TrainOptions.resume`.
    """
    check_writable(options.output)
    unfinished = resume_path(options.output)
    if unfinished.exists() and not options.resume:
        raise OutputError(f"{unfinished}: an unfinished training lies here; continue it with --resume, or delete it")
    if options.manifest:
        check_manifest(options.manifest, read_manifest(options.manifest))
    device = pick_device(options.device)
    check_mixed_precision(options, device)
    memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
    teacher = load_teacher(options.teacher, options.backbone, options.blocks).to(device)
    teacher.to(memory_format=memory_format)
    inputs = read_inputs(teacher, options, good_paths, unfinished, reporter)
    options, images, split = inputs.options, inputs.images, inputs.split
    student = _first_student(teacher, inputs).to(device)
    student.to(memory_format=memory_format)
    identity = _identity(inputs, teacher)
    if unfinished.exists():
        check_progress(unfinished, identity)
    reporter.say(inputs.describe(device))
    start = {name: tensor.detach().clone() for name, tensor in student.state_dict().items()}
    with TeacherFeatures(options.output.parent) as features:
        features.compute(
            teacher, images, EVAL_BATCH, device, lambda done: reporter.step("teacher", done, len(images), "images")
        )
        progress, failed_epoch = fit(student, features, images, split, options, identity, reporter)
        if not progress.best:
            raise TrainingError("the loss was not finite in epoch 1; lower the learning rate (--lr)")
        student.load_state_dict(progress.best)
        head, measured = _head(teacher, student, inputs, reporter)
        if inputs.folds:
            scores = score_by_folds(
                teacher, student, start, features, images, split.train, inputs.folds, head, options, reporter
            )
            student.load_state_dict(progress.best)
        else:
            scores = score_images(Stfpm(teacher, student, head=head), images[split.calibration])
    provenance = _provenance(inputs, progress) | inputs.records | measured
    checkpoint = _calibrated(teacher, student, head, scores, inputs, provenance, reporter)
    save_checkpoint(checkpoint, options.output)
    unfinished.unlink(missing_ok=True)
    if failed_epoch:
        raise TrainingError(
            f"the loss was not finite in epoch {failed_epoch}; the student of epoch {progress.best_epoch} "
            f"is in {options.output}, lower the learning rate (--lr) for a better one"
        )
    return checkpoint


def _first_student(teacher: Pyramid, inputs: Inputs) -> Pyramid:
    """Return the student before its training: random, or that of `init_from`.

    Raises ArtifactError for a file that cannot be used, OptionError for one of another teacher or network, or whose
    student was trained on images that are to set the threshold: it would score them too low. These are compared with
    the training images that the checkpoint holds, where they have this size.
    """
    options = inputs.options
    if options.init_from is None:
        return new_student(options.backbone, options.blocks, options.seed, teacher)
    start = load_checkpoint(options.init_from)
    was = {
        "backbone": start.spec.backbone,
        "blocks": list(start.spec.blocks),
        "teacher": start.spec.teacher_sha256[:12],
    }
    now = {"backbone": options.backbone, "blocks": list(options.blocks), "teacher": fingerprint(teacher)[:12]}
    if changes := differences(was, now):
        raise OptionError(
            f"{options.init_from}: its student cannot be trained on, it differs in {changes}; "
            "use the same teacher, backbone and blocks, or leave --init-from out"
        )
    seen = {image.tobytes() for image in start.train_images}
    if known := sum(i in inputs.learnt or inputs.images[i].tobytes() in seen for i in inputs.calibrating):
        raise OptionError(
            f"{options.init_from}: its student was trained on {known} or more of the {len(inputs.calibrating)} images "
            "that are to set the threshold, which would be too low; give pictures that it has not seen, or the same "
            "pictures, --seed, fractions and --folds as in its training, or leave --init-from out"
        )
    if start.student.lower:
        start.student.lower = (teacher,)
    return start.student.requires_grad_(True)


def _head(teacher: Pyramid, student: Pyramid, inputs: Inputs, reporter: Reporter) -> tuple[Head, dict[str, object]]:
    """Return the head, chosen for the product where the recipe says so, and what the provenance keeps of it."""
    options, split = inputs.options, inputs.split
    start = Head(min_area=options.min_area, blur=options.recipe.blur)
    if not options.recipe.selects_head:
        return start, {}
    train, validation = inputs.images[split.train], inputs.images[split.validation or split.train]
    head, measured = choose_head(
        Stfpm(teacher, student, head=start), train, validation, options.seed,
        lambda done, total: reporter.step("head", done, total, "images"),
    )  # fmt: skip
    reporter.say(f"score: {measured['chosen']}")
    return head, {"head": measured}


def _calibrated(
    teacher: Pyramid,
    student: Pyramid,
    head: Head,
    scores: Sequence[float],
    inputs: Inputs,
    provenance: dict[str, object],
    reporter: Reporter,
) -> Checkpoint:
    """Return the checkpoint: its threshold follows from the scores; what it finds of synthetic defects is reported."""
    options, images = inputs.options, inputs.images
    spec = Spec(
        name=product_name(options),
        height=options.height,
        width=options.width,
        backbone=options.backbone,
        blocks=options.blocks,
        bits=options.bits,
        teacher=Path(options.teacher).name,
        teacher_sha256=fingerprint(teacher),
        recipe=options.recipe.name,
        top_share=head.top_share,
        score_scale=head.score_scale,
        min_area=head.min_area,
        blur=head.blur,
        training=provenance,
    )
    names = [str(inputs.paths[i]) for i in inputs.calibrating]
    spec = calibrated(spec, scores, options.false_alarm_rate, reporter.say, names, inputs.folds)
    assert spec.threshold is not None, "calibrated() sets it"
    found = find_synthetic_defects(
        Stfpm(teacher, student, head=head), images[inputs.calibrating], spec.threshold, options.seed,
        lambda done, total: reporter.step("synthetic defects", done, total, "images"),
    )  # fmt: skip
    report_found(found, spec, reporter.say)
    return Checkpoint(
        replace(spec, training=spec.training | {"synthetic_defects": found.to_dict()}),
        teacher.cpu(),
        student.cpu().eval(),
        train_images=[images[i] for i in subsample_evenly(inputs.split.train, KEPT_TRAIN_IMAGES)],
        held_out_images=[images[i] for i in subsample_evenly(inputs.split.calibration, KEPT_HELD_OUT_IMAGES)],
        place_scale=head.place_scale,
    )


def product_name(options: TrainOptions) -> str:
    """Return the product's name: the one given, or the data folder's."""
    return options.name or options.data.resolve().name


def options_record(options: TrainOptions) -> dict[str, object]:
    """Return the options that a model's provenance keeps."""
    kept = {name: value for name, value in asdict(options).items() if name not in ("data", "output", "resume", "name")}
    kept["teacher"] = Path(options.teacher).name  # a path of the training machine means nothing elsewhere
    kept["init_from"] = options.init_from and options.init_from.name
    kept["manifest"] = options.manifest and options.manifest.name
    return kept


def _provenance(inputs: Inputs, progress: TrainingProgress) -> dict[str, object]:
    options, split = inputs.options, inputs.split
    levels = [grey_level(image) for image in inputs.images]
    return {
        "options": options_record(options),
        "images": {
            "train": len(split.train),
            "validation": len(split.validation),
            "held_out": [inputs.paths[i].name for i in inputs.calibrating],
        },
        "grey_levels": [round(float(value), 2) for value in (np.mean(levels), np.std(levels))],
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "losses": progress.losses,
        "validation_errors": progress.errors,
        "seconds": round(progress.seconds, 1),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "by": options.by,
        "init_from_sha256": options.init_from and sha256(options.init_from),
        "manifest_sha256": options.manifest and sha256(options.manifest),
        "versions": {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)},
    }


def _identity(inputs: Inputs, teacher: Pyramid) -> dict[str, object]:
    """Return what must be equal for a training to be continued; the number of epochs may grow."""
    options, split = inputs.options, inputs.split
    names = ("backbone", "blocks", "height", "width", "seed", "mixed_precision", "channels_last", "bits",
             "val_fraction", "train_fraction", "smallest_defect", "budget_ms")  # fmt: skip
    identity: dict[str, object] = {name: getattr(options, name) for name in names}
    identity |= {name: value for name, value in asdict(options.recipe).items() if name not in MAY_CHANGE}
    if options.recipe.schedule != "constant":
        identity["epochs"] = options.recipe.epochs_for(len(split.train))
    identity["blocks"] = list(options.blocks)
    identity |= {"block_weights": list(options.weights), "resize": RESIZE}
    identity["training_images"] = len(split.train)  # with --folds the student sees those that are held out without it
    identity["images"] = hashlib.sha256(inputs.images.tobytes()).hexdigest()[:16]
    identity["teacher"] = fingerprint(teacher)[:16]
    identity["init_from"] = options.init_from and sha256(options.init_from)[:16]
    if "size" in inputs.records:
        identity["size"] = inputs.records["size"]
    return identity


MAY_CHANGE = ("name", "epochs", "least_steps", "selects_head", "blur")
"""Parts of a recipe that may differ when a training is continued; `epochs` only at a constant learning rate."""
