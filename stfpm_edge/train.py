"""Training a student by a recipe, resumable after every epoch; at the end its head is chosen and its threshold set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torchvision

from stfpm_runtime.artifact.spec import CROSS_CONFORMAL, Spec
from stfpm_runtime.errors import OptionError, OutputError, TrainingError
from stfpm_runtime.files import check_writable, sha256
from stfpm_runtime.imaging.preprocessing import RESIZE, Image

from .checkpoint import (
    Checkpoint,
    Progress,
    check_progress,
    differences,
    load_checkpoint,
    load_identity,
    resume_path,
    save_checkpoint,
)  # fmt: skip
from .data import Split, read_images, split_images
from .data_report import read_good_images
from .epochs import EVAL_BATCH, Reporter, fit
from .features import TeacherFeatures
from .folds import score_by_folds
from .head import LEAST_FOUND, FoundDefects, choose_head, find_synthetic_defects
from .input_size import choose_size
from .model import Head, Stfpm
from .networks import Pyramid, new_student
from .options import TrainOptions, check_mixed_precision, pick_device
from .teacher import fingerprint, load_teacher
from .threshold import KEPT_HELD_OUT_IMAGES, calibrated, score_images, subsample_evenly

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
    teacher.to(memory_format=memory_format(options))
    is_chosen = options.smallest_defect is not None
    size = load_identity(unfinished)[0].get("size") if is_chosen and unfinished.exists() else None
    options = _with_size(options, size)
    images, paths, found = read_good_images(
        options.data, options.height, options.width, reporter.say,
        bits=options.bits, paths=images_of,
        skip_unreadable=options.skip_unreadable, accept_doubtful=options.accept_data, checks_size=not is_chosen,
    )  # fmt: skip
    split = split_images(len(images), options.val_fraction, options.train_fraction, options.seed)
    folds = options.folds_for(sum(map(len, (split.train, split.validation, split.calibration))))
    if folds:
        split = Split(sorted(split.train + split.validation + split.calibration), [], [])
    if is_chosen and size is None:
        size = choose_size(teacher, [paths[i] for i in split.train], options, reporter)
        options = _with_size(options, size)
        images, _ = read_images(
            paths, options.height, options.width, bits=options.bits, skip_unreadable=False, report=reporter.say
        )
    student = _first_student(options, teacher).to(device)
    student.to(memory_format=memory_format(options))
    _check_unseen(options, images, split)
    size_record = {"size": size} if size else {}
    identity = _identity(options, images, teacher, split) | size_record
    if unfinished.exists():
        check_progress(unfinished, identity)
    choice = "epoch" if options.recipe.selects_epoch else "score"
    use = f"{len(split.validation)} to choose the {choice}, {len(split.calibration)} to set the threshold"
    if folds:
        use = f"which also choose the {choice} and, in {folds} folds, set the threshold"
    reporter.say(
        f"{options.data}: {len(split.train)} images to train on, {use}; recipe {options.recipe.name}, "
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
        head, chosen = _head(teacher, student, images, split, options, reporter)
        if folds:
            other = _first_student(options, teacher).to(device).to(memory_format=memory_format(options))
            scores = score_by_folds(teacher, other, features, images, split.train, folds, head, options, reporter)
            used, method = split.train, f"{CROSS_CONFORMAL} in {folds} folds"
        else:
            scores = score_images(Stfpm(teacher, student, head=head), images[split.calibration])
            used, method = split.calibration, "split conformal prediction"
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
        training=_provenance(options, paths, split, progress) | {"data": found.provenance()} | size_record | chosen,
    )
    names = [str(paths[i]) for i in used]
    spec = calibrated(spec, scores, options.false_alarm_rate, reporter.say, names, method)
    if folds:
        reporter.say(
            "the images were scored by students that saw fewer of them, so the threshold is rather too high and its "
            "false-alarm rate is expected, not guaranteed; more images are better"
        )
    checkpoint = Checkpoint(
        _with_synthetic_defects(spec, Stfpm(teacher, student, head=head), images[used], options, reporter),
        teacher.cpu(),
        student.cpu().eval(),
        train_images=[images[i] for i in subsample_evenly(split.train, KEPT_TRAIN_IMAGES)],
        held_out_images=[images[i] for i in subsample_evenly(split.calibration, KEPT_HELD_OUT_IMAGES)],
        place_scale=head.place_scale,
    )
    save_checkpoint(checkpoint, options.output)
    unfinished.unlink(missing_ok=True)
    if failed_epoch:
        raise TrainingError(
            f"the loss was not finite in epoch {failed_epoch}; the student of epoch {progress.best_epoch} "
            f"is in {options.output}, lower the learning rate (--lr) for a better one"
        )
    return checkpoint


def _with_size(options: TrainOptions, size: Mapping[str, Any] | None) -> TrainOptions:
    """Return the options with the size that `choose_size` returned, if any."""
    return replace(options, width=size["width"], height=size["height"]) if size else options


def _head(
    teacher: Pyramid, student: Pyramid, images: Image, split: Split, options: TrainOptions, reporter: Reporter
) -> tuple[Head, dict[str, object]]:
    """Return the head, chosen for the product where the recipe says so, and what the provenance keeps of it."""
    start = Head(min_area=options.min_area, blur=options.recipe.blur)
    if not options.recipe.selects_head:
        return start, {}
    head, measured = choose_head(
        Stfpm(teacher, student, head=start), images[split.train], images[split.validation or split.train], options.seed,
        lambda done, total: reporter.step("head", done, total, "images"), min_area=options.min_area,
    )  # fmt: skip
    reporter.say(f"score: {measured['chosen']}")
    return head, {"head": measured}


def _with_synthetic_defects(spec: Spec, model: Stfpm, good: Image, options: TrainOptions, reporter: Reporter) -> Spec:
    """Return the spec with what the model finds of synthetic defects in good images; report it."""
    assert spec.threshold is not None, "calibrated() sets it"
    found = find_synthetic_defects(
        model, good, spec.threshold, options.seed,
        lambda done, total: reporter.step("synthetic defects", done, total, "images"),
    )  # fmt: skip
    report_found(found, spec, reporter.say)
    return replace(spec, training=spec.training | {"synthetic_defects": found.to_dict()})


def _first_student(options: TrainOptions, teacher: Pyramid) -> Pyramid:
    """Return the student before its training: random, or that of `init_from`.

    Raises ArtifactError for a file that cannot be used, OptionError for one of another teacher or network.
    """
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
    if start.student.lower:
        start.student.lower = (teacher,)
    return start.student.requires_grad_(True)


def _check_unseen(options: TrainOptions, images: Image, split: Split) -> None:
    """Raise OptionError where the student of `init_from` was trained on images that are to set the threshold.

    It would score them too low. Compared are the training images that its checkpoint holds, where they have this size.
    """
    if options.init_from is None:
        return
    seen = {image.tobytes() for image in load_checkpoint(options.init_from).train_images}
    judges = split.calibration or split.train
    if known := sum(images[i].tobytes() in seen for i in judges):
        raise OptionError(
            f"{options.init_from}: its student was trained on {known} or more of the {len(judges)} images that are to "
            "set the threshold, which would be too low; give pictures that it has not seen, or the same pictures, "
            "--seed, fractions and --folds as in its training, or leave --init-from out"
        )


def memory_format(options: TrainOptions) -> torch.memory_format:
    """Return the memory order of the networks' tensors."""
    return torch.channels_last if options.channels_last else torch.contiguous_format


def report_found(found: FoundDefects, spec: Spec, say: Callable[[str], None]) -> None:
    """Report which synthetic defects are found, and a warning where the product is too hard for the model."""
    say(
        f"{found.found} of {found.drawn} synthetic defects would be found, at a threshold that "
        f"{spec.false_alarm_rate or 0:.1%} of good parts exceed at most:"
    )
    for line in found.lines():
        say(f"  {line}")
    if found.is_too_hard:
        say(
            f"warning: this product is TOO HARD for this model: it finds less than {LEAST_FOUND:.0%} of the largest "
            "synthetic defects. Do not use it. A larger input (--size), an input of the pictures' own aspect ratio, a "
            "tighter and steadier view of the part, or more good images may help"
        )


def product_name(options: TrainOptions) -> str:
    """Return the product's name: the one given, or the data folder's."""
    return options.name or options.data.resolve().name


def options_record(options: TrainOptions) -> dict[str, object]:
    """Return the options that a model's provenance keeps."""
    kept = {name: value for name, value in asdict(options).items() if name not in ("data", "output", "resume", "name")}
    kept["teacher"] = Path(options.teacher).name  # a path of the training machine means nothing elsewhere
    kept["init_from"] = options.init_from and options.init_from.name
    return kept


def _provenance(options: TrainOptions, paths: Sequence[Path], split: Split, progress: Progress) -> dict[str, object]:
    return {
        "options": options_record(options),
        "images": {
            "train": len(split.train),
            "validation": len(split.validation),
            "held_out": [paths[i].name for i in split.calibration or split.train],
        },
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "losses": progress.losses,
        "validation_errors": progress.errors,
        "seconds": round(progress.seconds, 1),
        "init_from_sha256": options.init_from and sha256(options.init_from),
        "versions": {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)},
    }


def _identity(options: TrainOptions, images: Image, teacher: Pyramid, split: Split) -> dict[str, object]:
    """Return what must be equal for a training to be continued; the number of epochs may grow."""
    names = ("backbone", "blocks", "height", "width", "seed", "mixed_precision", "channels_last", "bits",
             "val_fraction", "train_fraction", "smallest_defect", "budget_ms")  # fmt: skip
    identity: dict[str, object] = {name: getattr(options, name) for name in names}
    identity |= {name: value for name, value in asdict(options.recipe).items() if name not in MAY_CHANGE}
    if options.recipe.schedule != "constant":
        identity["epochs"] = options.recipe.epochs_for(len(split.train))
    identity["blocks"] = list(options.blocks)
    identity |= {"block_weights": list(options.weights), "resize": RESIZE}
    identity["training_images"] = len(split.train)  # with --folds the student sees those that are held out without it
    identity["images"] = hashlib.sha256(images.tobytes()).hexdigest()[:16]
    identity["teacher"] = fingerprint(teacher)[:16]
    identity["init_from"] = options.init_from and sha256(options.init_from)[:16]
    return identity


MAY_CHANGE = ("name", "epochs", "least_steps", "selects_head", "blur")
"""Parts of a recipe that may differ when a training is continued; `epochs` only at a constant learning rate."""
