"""A trained anomalib `Stfpm`, a Lightning checkpoint, as a Checkpoint of ours; nothing in the file is ever executed.

Anomalib's raw anomaly map is equation 4 as well: on the same input the imported networks give the same one. Around it
the two differ, and what is imported goes our way:

- Anomalib trains on images that torchvision resized with antialiasing, and its exports resize without. Here there is
  one resize (`stfpm_runtime.preprocess`). Scores move with it: anomalib's own threshold is recorded, not taken over.
- Anomalib scales and clamps its scores to 0 to 1 after validation. Here a score stays the map's maximum.

Weights are `model.teacher_model.feature_extractor.NAME` and `model.student_model.feature_extractor.NAME`, in timm's
names, which for these ResNets are torchvision's. Read are checkpoints of anomalib 1 and 2: what 2.7 keeps as plain data
of the pre-processing, older versions pickled as objects.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stfpm_edge.calibration.threshold import KEPT_HELD_OUT_IMAGES, score_images, subsample_evenly
from stfpm_edge.checkpoint import Checkpoint, strip_prefix
from stfpm_edge.model import IMAGENET_MEAN, IMAGENET_STD
from stfpm_edge.networks import RESNETS, Pyramid
from stfpm_edge.pictures.data_report import read_good_images
from stfpm_edge.teacher import fingerprint, load_weights
from stfpm_runtime.artifact.calibration import calibrated
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.errors import ArtifactError, DataError, OptionError

from .inert_pickle import Inert, as_dict, read_inert

PREFIX = "model.{}_model.feature_extractor."
BLOCKS = {"layer1": 2, "layer2": 3, "layer3": 4, "layer4": 5}
"""The paper's blocks by timm's layers."""
THRESHOLD = "post_processor._image_threshold"
"""Anomalib's threshold of a raw score: the best F1 on its validation images; NaN where there were none."""


def read_anomalib(
    path: Path,
    name: str,
    *,
    size: tuple[int, int] | None = None,
    calibration: Path | None = None,
    false_alarm_rate: float = 0.01,
    accept_data: bool = False,
    report: Callable[[str], None],
) -> Checkpoint:
    """Read teacher, student and Spec of anomalib's `model.ckpt`, for a product called `name`.

    `size` is the input's (height, width) in pixels. None takes the checkpoint's own, which needs one whose images were
    resized and normalised and nothing else; a caller who gives a size answers for other steps, such as a crop.
    `calibration` is a folder of good images that the student was not trained on: they set the threshold by split
    conformal prediction and are stored as the held-out images. Without it there is no threshold, and no images.
    Doubtful pictures in it are refused unless `accept_data`.
    `report` gets lines for a person.

    Raises ArtifactError for a file that is missing, damaged or no Stfpm of a backbone that we have, OptionError for a
    size or rate that makes no sense, DataError for a calibration folder without usable images.
    """
    content = read_inert(path)
    state = {str(key): value for key, value in as_dict(content.get("state_dict")).items() if isinstance(value, Tensor)}
    if not any(key.startswith(PREFIX.format("student")) for key in state):
        raise ArtifactError(
            f"{path}: holds {', '.join(list(state)[:2]) or 'no tensors of a model'}, but no "
            f"{PREFIX.format('student')}*; expected the checkpoint (.ckpt) of anomalib's Stfpm"
        )
    backbone, blocks = _architecture(path, as_dict(content.get("hyper_parameters")))
    height, width = _input_size(path, content, size)
    teacher, student = (_pyramid(path, state, whose, backbone, blocks) for whose in ("teacher", "student"))
    spec = Spec(
        name=name,
        height=height,
        width=width,
        backbone=backbone,
        blocks=blocks,
        teacher=path.name,
        teacher_sha256=fingerprint(teacher),
        training=_provenance(path, content, state),
    )
    if calibration is None:
        report(f"{path}: no threshold is set; calibrate with good images that the student was not trained on")
        return Checkpoint(spec, teacher, student)
    return _calibrated(Checkpoint(spec, teacher, student), calibration, false_alarm_rate, accept_data, report)


def _architecture(path: Path, hyper_parameters: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    """Return backbone and blocks. The tensors alone do not tell: timm has antialiased ResNets with the same ones."""
    backbone, layers = hyper_parameters.get("backbone"), hyper_parameters.get("layers")
    architecture = backbone.partition(".")[0] if isinstance(backbone, str) else None  # resnet18.a1_in1k: its weights
    if architecture not in RESNETS:
        raise ArtifactError(
            f"{path}: got a model with backbone {backbone!r}; expected one of {', '.join(RESNETS)}: train another"
        )
    if not isinstance(layers, (list, tuple)) or not layers or not all(layer in BLOCKS for layer in layers):
        raise ArtifactError(f"{path}: got a model with layers {layers!r}; expected some of {', '.join(BLOCKS)}")
    return architecture, tuple(sorted({BLOCKS[layer] for layer in layers}))


def _pyramid(path: Path, state: dict[str, Tensor], whose: str, backbone: str, blocks: tuple[int, ...]) -> Pyramid:
    pyramid = Pyramid(backbone, blocks)
    weights = strip_prefix(state, PREFIX.format(whose))
    if unknown := sorted(weights.keys() - pyramid.state_dict().keys()):
        raise ArtifactError(
            f"{path}: its {whose} has tensors that a {backbone} of blocks {blocks} has not, first {unknown[0]}; "
            "expected a checkpoint as anomalib wrote it"
        )
    load_weights(pyramid, weights, f"{path} ({whose})")
    return pyramid.eval().requires_grad_(False)


def _input_size(path: Path, content: Mapping[str, Any], size: tuple[int, int] | None) -> tuple[int, int]:
    """Return (height, width): the given one, else that of the checkpoint's pre-processing, which must be like ours."""
    if size is not None:
        if min(size) < 32:
            raise OptionError(f"got a size of {size[0]}x{size[1]} (height x width); expected 32 pixels or more a side")
        return size
    match dict(_steps(_transform(content))):
        case {"Resize": {"size": [int(height), int(width)]}, "Normalize": {"mean": mean, "std": std}, **rest} if (
            not rest and _equal(mean, IMAGENET_MEAN) and _equal(std, IMAGENET_STD)
        ):
            return height, width
        case steps:
            raise ArtifactError(
                f"{path}: its pre-processing is {', '.join(steps) or 'not recorded'}; expected Resize to a height and "
                "width and Normalize with ImageNet's mean, as is anomalib's default: give the input size yourself "
                "(--size) if that is what it was trained with"
            )


def _transform(content: Mapping[str, Any]) -> object:
    """Return the pre-processing of anomalib 2.7, of 2.0 to 2.6 where it was not the default, or of 1.x."""
    if plain := as_dict(content.get("anomalib_pre_processor_config")).get("transform"):
        return plain
    pre_processor = as_dict(content.get("hyper_parameters")).get("pre_processor")
    if isinstance(pre_processor, Inert):
        return as_dict(vars(pre_processor).get("_modules")).get("transform")
    return content.get("transform")


def _steps(transform: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (class, arguments) of each step of a torchvision transform, given as plain data or as pickled objects."""
    if isinstance(transform, Inert):
        kind, arguments = type(transform).__name__, vars(transform)
    else:
        plain = as_dict(transform)
        kind, arguments = str(plain.get("class_path", "")).rpartition(".")[2], as_dict(plain.get("init_args"))
    if kind == "Compose":
        for step in arguments.get("transforms") or ():
            yield from _steps(step)
    elif kind:
        yield kind, arguments


def _equal(values: object, expected: tuple[float, ...]) -> bool:
    return isinstance(values, (list, tuple)) and tuple(values) == expected


def _provenance(path: Path, content: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    threshold = float(state.get(THRESHOLD, torch.tensor(math.nan)))
    return {
        "imported_from": f"anomalib, {path.name}",
        "trained_with_resize": "torchvision's, bilinear",
        "anomalib_threshold": threshold if math.isfinite(threshold) else None,
    } | {key: value for key in ("epoch", "global_step") if isinstance(value := content.get(key), int)}


def _calibrated(
    checkpoint: Checkpoint, folder: Path, false_alarm_rate: float, accept_data: bool, report: Callable[[str], None]
) -> Checkpoint:
    """Return the checkpoint with a threshold, and with the scores and images that it was computed from."""
    spec = checkpoint.spec
    _refuse_training_images(folder)
    images, paths, found = read_good_images(
        folder, spec.height, spec.width, report, accept_doubtful=accept_data, least=1
    )
    spec = dataclasses.replace(spec, training=spec.training | {"data": found.provenance()})
    spec = calibrated(
        spec, score_images(checkpoint.model(), images), false_alarm_rate, report, [str(path) for path in paths]
    )
    kept = subsample_evenly(range(len(images)), KEPT_HELD_OUT_IMAGES)
    return dataclasses.replace(checkpoint, spec=spec, held_out_images=[images[i] for i in kept])


def _refuse_training_images(folder: Path) -> None:
    if (folder / "train" / "good").is_dir():
        raise DataError(
            f"{folder}: is a category with train/good, on which the student was trained; "
            "expected good images that it never saw, say its test/good"
        )
