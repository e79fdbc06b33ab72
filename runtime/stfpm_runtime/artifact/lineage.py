"""The lineage of a model file: what it was made from, by whom, when, and from which data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stfpm_runtime.errors import ArtifactError
from stfpm_runtime.files import sha256

from .onnx_metadata import read_spec
from .spec import METADATA_KEY, Spec

SUFFIXES = (".onnx", ".safetensors")
LONGEST_HEADER = 100 << 20
"""Bytes of the header of a .safetensors file, at most, as its format demands."""


@dataclass(frozen=True)
class ModelFile:
    """A checkpoint or an exported model, and what its spec says."""

    path: Path
    sha256: str
    spec: Spec

    @property
    def parents(self) -> dict[str, str]:
        """Return the SHA-256s of the files that it was made from, by how."""
        training = self.spec.training
        found = {
            "exported from": training.get("checkpoint_sha256"),
            "calibrated again from": training.get("calibrated_from", {}).get("sha256"),
        }
        if not any(found.values()):
            found["trained on from"] = training.get("init_from_sha256")
        return {how: digest for how, digest in found.items() if digest}

    def facts(self) -> dict[str, Any]:
        """Return what a person asks of a model, by name in words."""
        spec = self.spec
        training, parity = spec.training, spec.parity
        images = training.get("images", {})
        found = training.get("synthetic_defects", {})
        return {
            "product": spec.name,
            "SHA-256": self.sha256,
            "network": f"{spec.backbone}, {spec.width}x{spec.height}, {spec.precision}",
            "recipe": spec.recipe,
            "trained": training.get("time"),
            "trained by": training.get("by"),
            "seconds of training": training.get("seconds"),
            "good pictures": f"{images.get('train', '?')} to train on, {len(spec.held_out_scores)} for the threshold",
            "data (SHA-256)": training.get("data", {}).get("files_sha256", "")[:12],
            "manifest (SHA-256)": (training.get("manifest_sha256") or "")[:12],
            "threshold": spec.threshold,
            "threshold set by": spec.threshold_set_by,
            "promised false alarms": spec.false_alarm_rate,
            "synthetic defects found": f"{found['found']} of {found['drawn']}" if "found" in found else "",
            "parity": "" if not parity else "; ".join(parity.get("failures", ())) or "holds",
        } | self.parents


def read_model_file(path: Path) -> ModelFile:
    """Read the spec of a .onnx or .safetensors file. Raises ArtifactError for one that is missing or not ours."""
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; expected a model.onnx or a checkpoint.safetensors")
    spec = read_spec(path) if path.suffix == ".onnx" else _checkpoint_spec(path)
    return ModelFile(path, sha256(path), spec)


def _checkpoint_spec(path: Path) -> Spec:
    """Read the header alone: 8 bytes with its length, then JSON; a device has no package that reads it."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LONGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            text = json.loads(file.read(length))["__metadata__"][METADATA_KEY]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path}: is not a checkpoint of stfpm-train ({error!r}); expected what stfpm-train wrote"
        ) from None
    return Spec.from_json(text, str(path))
