"""Parity: how far a file is from PyTorch, on the machine that runs it, where PyTorch need not be installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stfpm_runtime.artifact.golden import Golden, golden_path, load_golden
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.engines import Engine
from stfpm_runtime.errors import ArtifactError, MissingExtraError
from stfpm_runtime.files import sha256

from .results import ParityResult

TOLERANCE = 1e-4
"""Of an fp32 file's map: the export's own; a stricter one for small thresholds."""
THRESHOLD_SHARE = 0.01
SLACK = 2.0
"""Another machine's arithmetic may double the error that the export found, or there is something wrong."""
GOLDEN, PYTORCH = "golden file", "PyTorch"
WORST = float(np.finfo(np.float32).max)
"""The error of what is not a number."""
MOST_IMAGES = 16


def read_golden(model: Path) -> Golden:
    """The golden results beside a model file.

    A TensorRT plan's belong to the ONNX file that it was built from, which `<plan>.json` names by its SHA-256. Raises
    ArtifactError for golden results that are missing, damaged, or another model's.
    """
    path = golden_path(model)
    golden = load_golden(path)
    beside = model.with_name(f"{model.name}.json")
    is_built_from = golden.sha256 and beside.is_file() and golden.sha256 in beside.read_text(encoding="utf-8")
    if golden.sha256 != sha256(model) and not is_built_from:
        raise ArtifactError(
            f"{path}: belongs to a model of SHA-256 {golden.sha256[:12]}..., {model.name} has {sha256(model)[:12]}...; "
            "copy the one that was exported with it"
        )
    return golden


def run_pytorch(checkpoint: Path, spec: Spec) -> Golden:
    """What PyTorch says of the images stored in a checkpoint, each as it is and with a patch pasted in.

    Raises ArtifactError for a checkpoint that is not the one that the file of `spec` was exported from,
    MissingExtraError where PyTorch is not installed.
    """
    try:
        from stfpm_edge.checkpoint import load_checkpoint
        from stfpm_export.reference import make_reference
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("stfpm_"):
            raise
        raise MissingExtraError(error.name, "export") from None

    loaded = load_checkpoint(checkpoint)
    for what in ("name", "teacher_sha256", "height", "width", "channel_order"):
        ours, theirs = getattr(spec, what), getattr(loaded.spec, what)
        if ours != theirs:
            raise ArtifactError(
                f"{checkpoint}: its {what} is {theirs}, the exported file's is {ours}; "
                "give the checkpoint that it was exported from"
            )
    images = [*loaded.held_out_images, *loaded.train_images][:MOST_IMAGES]
    if not images:
        raise ArtifactError(f"{checkpoint}: holds no images to compare on; compare with the golden file instead")
    reference = make_reference(loaded, images)
    return Golden(np.stack(reference.images), reference.maps, reference.scores)


def measure_parity(engine: Engine, golden: Golden, against: str) -> ParityResult:
    """Run the golden images one by one, as a line does. Raises EngineError where they do not fit, or it fails."""
    spec = engine.spec
    results = [engine.infer(image[np.newaxis]) for image in golden.images]
    maps, scores = (np.concatenate([result[k] for result in results]) for k in (0, 1))
    errors = np.abs(maps - golden.maps)
    is_finite = bool(np.isfinite(maps).all() and np.isfinite(scores).all())
    error = float(errors.max()) if is_finite else WORST
    before = spec.parity.get("pytorch_threshold", spec.threshold)
    flips = 0
    if spec.threshold is not None and before is not None:
        flips = int(((scores > spec.threshold) != (golden.scores > before)).sum())
    limit = error_limit(spec)
    return ParityResult(
        against=against,
        images=len(scores),
        map_max_error=error,
        score_max_error=float(np.abs(scores - golden.scores).max()) if is_finite else WORST,
        verdict_flips=flips,
        limit=limit,
        holds=error <= limit,
        scores=tuple(map(float, np.nan_to_num(scores))),
        reference_scores=tuple(map(float, golden.scores)),
    )


def error_limit(spec: Spec) -> float:
    """What the map's error may be: the export's tolerance, or twice what the export itself found, if that is more."""
    tolerance = min(TOLERANCE, THRESHOLD_SHARE * spec.threshold) if spec.threshold else TOLERANCE
    return max(tolerance, SLACK * float(spec.parity.get("map_max_error", 0.0)))
