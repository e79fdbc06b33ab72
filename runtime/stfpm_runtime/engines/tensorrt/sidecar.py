"""A TensorRT plan's sidecar: `model.engine.json` beside `model.engine`.

A plan is code for one machine. It is loaded only when its bytes are those that the sidecar names, and on the kind of
machine that it was built on: TensorRT itself checks neither in every version, and a plan from elsewhere is slow or
wrong where it is not refused.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.errors import ArtifactError
from stfpm_runtime.files import atomic_path, sha256

SCHEMA = 1
AMPERE = 8
"""The compute capability's major number from which a hardware-compatible plan runs."""


@dataclass(frozen=True)
class Machine:
    """What a plan depends on."""

    tensorrt: str
    """TensorRT's version, say `10.3.0`; of the lean runtime too."""
    cuda: str
    """The CUDA runtime's version, say `12.6`."""
    gpu: str
    """The GPU's name."""
    compute_capability: str
    """Say `8.7` on Orin."""

    def __str__(self) -> str:
        return f"TensorRT {self.tensorrt} on {self.gpu} (compute capability {self.compute_capability})"


@dataclass(frozen=True)
class Plan:
    """What a plan says of itself."""

    spec: Spec
    built_on: Machine
    plan_sha256: str
    onnx_sha256: str
    """Of the ONNX file that it was built from."""
    typing: str = "strong"
    """`strong`: every tensor has the graph's type. `weak`: TensorRT was too old for that, see `build_plan`."""
    batches: tuple[int, int, int] = (1, 1, 1)
    """The fewest frames that it takes at a time, those it is fastest for, the most."""
    version_compatible: bool = False
    """Whether it runs on newer versions of the same major, and on the lean runtime."""
    hardware_compatible: bool = False
    """Whether it runs on every GPU from Ampere on."""
    options: dict[str, Any] = field(default_factory=dict)
    """How it was built."""
    layers: dict[str, int] = field(default_factory=dict)
    """How many convolutions run in which type, as TensorRT's inspector tells; empty where it does not."""
    parity: dict[str, Any] = field(default_factory=dict)
    """How far it is from PyTorch on the golden images."""


def sidecar_path(plan: Path) -> Path:
    """Where a plan's sidecar lies: model.engine.json for model.engine."""
    return plan.with_name(plan.name + ".json")


def save_sidecar(plan: Plan, path: Path) -> None:
    """Write the sidecar of the plan file `path`, atomically. Raises OutputError where that fails."""
    data = {"schema": SCHEMA, **dataclasses.asdict(plan), "spec": json.loads(plan.spec.to_json())}
    with atomic_path(sidecar_path(path)) as unfinished:
        unfinished.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load_sidecar(path: Path) -> Plan:
    """The sidecar of the plan file `path`, held against the file's bytes.

    Raises ArtifactError where either is missing or damaged, and where they do not belong together.
    """
    sidecar = sidecar_path(path)
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; build it on this device with: {rebuild_command(path)}")
    if not sidecar.is_file():
        raise ArtifactError(
            f"{sidecar}: no such file; a plan is code, and is loaded only with the sidecar that stfpm-export "
            f"wrote beside it. Bring it along, or build again with: {rebuild_command(path)}"
        )
    plan = _parse(sidecar, path)
    found = sha256(path)
    if found != plan.plan_sha256:
        raise ArtifactError(
            f"{path}: its SHA-256 is {found[:12]}…, its sidecar promises {plan.plan_sha256[:12]}…: cut off, or another "
            f"plan. It is not loaded; build it again with: {rebuild_command(path)}"
        )
    return plan


def check_machine(plan: Plan, here: Machine, path: Path) -> None:
    """Raise ArtifactError unless a plan that was built there can run here, with both named and the command to run."""
    if not (_fits_version(plan, here) and _fits_gpu(plan, here)):
        raise ArtifactError(
            f"{path}: built with {plan.built_on}, this is {here}; build it again here with: {rebuild_command(path)}"
        )


def rebuild_command(path: Path) -> str:
    """What builds a plan again, from the ONNX file beside it."""
    return f"stfpm-export {onnx_path(path)} --engine"


def onnx_path(plan: Path) -> Path:
    """Where the ONNX file lies that a plan was built from."""
    return plan.with_suffix(".onnx")


def _fits_version(plan: Plan, here: Machine) -> bool:
    built, found = _numbers(plan.built_on.tensorrt), _numbers(here.tensorrt)
    if plan.version_compatible:
        return built[:1] == found[:1] and found >= built
    return built == found


def _fits_gpu(plan: Plan, here: Machine) -> bool:
    built = plan.built_on
    if plan.hardware_compatible:
        return _numbers(here.compute_capability)[0] >= AMPERE
    return (built.gpu, built.compute_capability) == (here.gpu, here.compute_capability)


def _numbers(version: str) -> tuple[int, ...]:
    """The first three numbers of a version: 10.3.0.26 is the same TensorRT as 10.3.0."""
    return tuple(int(part) for part in version.split(".")[:3])


def _parse(sidecar: Path, path: Path) -> Plan:
    again = f"build it again with: {rebuild_command(path)}"
    try:
        data = json.loads(sidecar.read_text(encoding="utf-8"))
        schema = data.pop("schema")
        if schema > SCHEMA:
            raise ArtifactError(
                f"{sidecar}: has schema {schema}, this stfpm-edge reads up to {SCHEMA}; upgrade it, or {again}"
            )
        spec = Spec.from_json(json.dumps(data.pop("spec")), str(sidecar))
        machine = Machine(**data.pop("built_on"))
        plan = Plan(spec=spec, built_on=machine, **data | {"batches": tuple(data["batches"])})
        _numbers(machine.tensorrt), _numbers(machine.compute_capability)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{sidecar}: damaged, or not one of ours ({error}); {again}") from None
    return plan
