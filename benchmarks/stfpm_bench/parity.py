"""Measure a file's parity with PyTorch, on the machine that runs it: by its golden results, or by its checkpoint."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from stfpm_eval.models import requires_extra
from stfpm_runtime.artifact import parity
from stfpm_runtime.artifact.golden import Golden, golden_path, load_golden
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.engines import Engine
from stfpm_runtime.errors import ArtifactError
from stfpm_runtime.files import sha256

from .results import ParityResult

GOLDEN, PYTORCH = "golden file", "PyTorch"
WORST = float(np.finfo(np.float32).max)
"""The recorded error of results that are not finite: JSON has no NaN."""
MAX_IMAGES = 16


def read_golden(model: Path) -> Golden:
    """Return the golden results that lie with a model file.

    A TensorRT plan's belong to the ONNX file that it was built from, which `<plan>.json` names by its SHA-256. Raises
    ArtifactError for golden results that are missing, damaged, or another model's.
    """
    path = golden_path(model)
    golden = load_golden(path)
    sidecar = model.with_name(f"{model.name}.json")
    is_built_from = golden.sha256 and sidecar.is_file() and golden.sha256 in sidecar.read_text(encoding="utf-8")
    if golden.sha256 != sha256(model) and not is_built_from:
        raise ArtifactError(
            f"{path}: belongs to a model of SHA-256 {golden.sha256[:12]}..., {model.name} has {sha256(model)[:12]}...; "
            "copy the one that was exported with it"
        )
    return golden


def run_pytorch(checkpoint: Path, spec: Spec) -> Golden:
    """Return PyTorch's results on the images stored in a checkpoint, as they are and with synthetic defects.

    Raises ArtifactError for a checkpoint that is not the one that the file of `spec` was exported from,
    MissingExtraError where PyTorch is not installed.
    """
    with requires_extra("export"):
        from stfpm_edge.checkpoint import load_checkpoint
        from stfpm_export.reference import make_reference

    loaded = load_checkpoint(checkpoint)
    for what in ("name", "teacher_sha256", "height", "width", "channel_order"):
        ours, theirs = getattr(spec, what), getattr(loaded.spec, what)
        if ours != theirs:
            raise ArtifactError(
                f"{checkpoint}: its {what} is {theirs}, the exported file's is {ours}; "
                "give the checkpoint that it was exported from"
            )
    images = [*loaded.held_out_images, *loaded.train_images][:MAX_IMAGES]
    if not images:
        raise ArtifactError(f"{checkpoint}: holds no images to compare on; compare with the golden file instead")
    reference = make_reference(loaded, images)
    return Golden(np.stack(reference.images), reference.maps, reference.scores)


def measure_parity(engine: Engine, golden: Golden, against: str) -> ParityResult:
    """Run the golden images one by one, as a line does. Raises EngineError where they do not fit, or it fails."""
    found = parity.measure_parity(engine.infer, golden, engine.spec)
    errors = found.map_max_error, found.score_max_error
    map_error, score_error = (error if math.isfinite(error) else WORST for error in errors)
    return ParityResult(
        against=against,
        images=found.images,
        map_max_error=map_error,
        score_max_error=score_error,
        verdict_flips=found.verdict_flips,
        limit=found.limit,
        holds=found.holds,
        scores=tuple(map(float, np.nan_to_num(found.scores))),
        reference_scores=tuple(map(float, golden.scores)),
    )
