"""A TensorRT plan's sidecar: `model.engine.json` next to `model.engine`.

A plan is code for one machine. It is loaded only when its bytes are those that the sidecar names, and on the kind of
machine that it was built on: TensorRT itself checks neither in every version, and a plan from elsewhere is slow or
wrong where it is not refused. A builder that was asked for float16 has been seen to build float32 without a word; such
a plan is a failed build, see `audit`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.errors import ArtifactError, OptionError
from stfpm_runtime.files import atomic_path, sha256

SCHEMA = 1
AMPERE = 8
"""The compute capability's major number from which a hardware-compatible plan runs."""

TYPES = {"fp32": r"FP32|TF32|Float(?!\d)", "fp16": r"FP16|Half", "bf16": r"BF16|BFloat16", "int8": r"INT8"}
"""Names of the types in the inspector of TensorRT 8 to 11, in formats such as `Row major linear FP16 format`."""
WANTED = {"fp32": ("fp32",), "fp16": ("fp16",), "int8": ("int8",)}
MIN_CONVOLUTION_SHARE = {"fp32": 1.0, "fp16": 0.9, "int8": 0.75}
"""Share of the convolutions: an int8 graph leaves the first one, and shortcuts at the builder's choice, in float."""


@dataclass(frozen=True)
class PlanOptions:
    """Options of a build. Raises OptionError for values that make no sense."""

    batches: tuple[int, int, int] = (1, 1, 8)
    """Frames at a time: the fewest, those to be fastest for, the most. A file of a fixed batch has its own."""
    workspace_mb: int | None = None
    """Memory that a layer may use while it works; None: all there is."""
    optimization_level: int = 3
    """0 (builds fast) to 5 (runs fast, tries everything)."""
    timing_cache: Path | None = None
    """A file, or a folder with one for each kind of device; None: in the user's cache folder."""
    version_compatible: bool = False
    """Runs on newer versions of the same major too, and on the lean runtime."""
    hardware_compatible: bool = False
    """Runs on every GPU from Ampere on."""
    dla: int | None = None
    """Orin's deep-learning accelerator to use; what it cannot do, the GPU does."""

    def __post_init__(self) -> None:
        least, best, most = self.batches
        if not 1 <= least <= best <= most:
            raise OptionError(f"got batches of {self.batches}; expected three rising numbers, the first at least 1")
        if not 0 <= self.optimization_level <= 5:
            raise OptionError(f"got optimization level {self.optimization_level}; expected 0 to 5")
        if self.workspace_mb is not None and self.workspace_mb < 1:
            raise OptionError(f"got a workspace of {self.workspace_mb} MB; expected 1 or more")
        if self.dla is not None and self.dla < 0:
            raise OptionError(f"got DLA core {self.dla}; expected 0 or more")


@dataclass(frozen=True)
class PlanPlatform:
    """The machine that a plan depends on."""

    tensorrt: str
    """TensorRT's version, say `10.3.0`; of the lean runtime too."""
    cuda: str
    """The CUDA runtime's version, say `12.6`."""
    gpu: str
    """The GPU's name."""
    compute_capability: str
    """Compute capability, say `8.7` on Orin."""

    def __str__(self) -> str:
        return f"TensorRT {self.tensorrt} on {self.gpu} (compute capability {self.compute_capability})"


@dataclass(frozen=True)
class Plan:
    """The description of a plan."""

    spec: Spec
    built_on: PlanPlatform
    plan_sha256: str
    onnx_sha256: str
    """SHA-256 of the ONNX file that it was built from."""
    typing: str = "strong"
    """`strong`: every tensor has the graph's type. `weak`: TensorRT was too old for that, see `build_plan`."""
    batches: tuple[int, int, int] = (1, 1, 1)
    """The fewest frames that it takes at a time, those it is fastest for, the most."""
    version_compatible: bool = False
    """True for a plan that newer TensorRT versions of the same major version, and the lean runtime, can run, too."""
    hardware_compatible: bool = False
    """True for a plan that runs on every NVIDIA GPU of the Ampere generation or newer, not only on the kind of its
    build."""
    options: dict[str, Any] = field(default_factory=dict)
    """The options of the build."""
    layers: dict[str, int] = field(default_factory=dict)
    """Number of convolutions of each type, from TensorRT's inspector; empty where it does not say."""
    parity: dict[str, Any] = field(default_factory=dict)
    """The parity with PyTorch on the golden images."""


def sidecar_path(plan: Path) -> Path:
    """Return where a plan's sidecar lies: model.engine.json for model.engine."""
    return plan.with_name(plan.name + ".json")


def save_sidecar(plan: Plan, path: Path) -> None:
    """Write the sidecar of the plan file `path`, atomically. Raises OutputError where that fails."""
    data = {"schema": SCHEMA, **dataclasses.asdict(plan), "spec": json.loads(plan.spec.to_json())}
    with atomic_path(sidecar_path(path)) as unfinished:
        unfinished.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load_sidecar(path: Path) -> Plan:
    """Read the sidecar of the plan file `path`, and check it against the file's bytes.

    Raises ArtifactError where either is missing or damaged, and where they do not belong together.
    """
    sidecar = sidecar_path(path)
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; build it on this device with: {rebuild_command(path)}")
    if not sidecar.is_file():
        raise ArtifactError(
            f"{sidecar}: no such file; a plan is code, and is loaded only with the sidecar that stfpm-export "
            f"wrote next to it. Bring it along, or build again with: {rebuild_command(path)}"
        )
    plan = _parse(sidecar, path)
    found = sha256(path)
    if found != plan.plan_sha256:
        raise ArtifactError(
            f"{path}: its SHA-256 is {found[:12]}…, its sidecar promises {plan.plan_sha256[:12]}…: cut off, or another "
            f"plan. It is not loaded; build it again with: {rebuild_command(path)}"
        )
    return plan


def check_machine(plan: Plan, here: PlanPlatform, path: Path) -> None:
    """Raise ArtifactError unless a plan that was built there can run here, with both named and the command to run."""
    if not (_fits_version(plan, here) and _fits_gpu(plan, here)):
        raise ArtifactError(
            f"{path}: built with {plan.built_on}, this is {here}; build it again here with: {rebuild_command(path)}"
        )


def rebuild_command(path: Path) -> str:
    """Return the command that builds a plan again, from the ONNX file next to it."""
    return f"stfpm-export {onnx_path(path)} --engine"


def onnx_path(plan: Path) -> Path:
    """Return where the ONNX file lies that a plan was built from."""
    return plan.with_suffix(".onnx")


def convolution_types(inspection: str) -> dict[str, int]:
    """Return how many convolutions read their input in which type, from the inspector's JSON.

    Empty where it does not say: a plan that was not built with detailed profiling lists names only.
    """
    try:
        layers = json.loads(inspection)["Layers"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return {}
    counts = Counter(kind for layer in layers if _is_convolution(layer) for kind in _input_type(layer))
    return dict(sorted(counts.items()))


def audit(types: dict[str, int], precision: str) -> str:
    """Return why a plan is not of the precision that was asked for; empty where it is, or where nothing is known."""
    total = sum(types.values())
    if not total:
        return ""
    right = sum(types.get(name, 0) for name in WANTED[precision])
    if right >= MIN_CONVOLUTION_SHARE[precision] * total:
        return ""
    found = ", ".join(f"{count} in {name}" for name, count in types.items())
    return f"{precision} was asked for, but of {total} convolutions it runs {found}"


def _fits_version(plan: Plan, here: PlanPlatform) -> bool:
    built, found = _numbers(plan.built_on.tensorrt), _numbers(here.tensorrt)
    if plan.version_compatible:
        return built[:1] == found[:1] and found >= built
    return built == found


def _fits_gpu(plan: Plan, here: PlanPlatform) -> bool:
    built = plan.built_on
    if plan.hardware_compatible:
        return _numbers(here.compute_capability)[0] >= AMPERE
    return (built.gpu, built.compute_capability) == (here.gpu, here.compute_capability)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first three numbers of a version: 10.3.0.26 is the same TensorRT as 10.3.0."""
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
        machine = PlanPlatform(**data.pop("built_on"))
        plan = Plan(spec=spec, built_on=machine, **data | {"batches": tuple(data["batches"])})
        _numbers(machine.tensorrt), _numbers(machine.compute_capability)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{sidecar}: damaged, or written by another program ({error}); {again}") from None
    return plan


def _is_convolution(layer: object) -> bool:
    if not isinstance(layer, dict):
        return False
    kinds = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}"
    return "conv" in kinds.lower() and "reformat" not in kinds.lower()


def _input_type(layer: dict[str, Any]) -> Iterator[str]:
    """Yield the type of the first input, if it is one that we know."""
    for tensor in layer.get("Inputs", [])[:1]:
        text = " ".join(str(tensor.get(key, "")) for key in ("Format/Datatype", "Datatype", "Format"))
        for name, pattern in TYPES.items():
            if re.search(rf"\b(?:{pattern})\b", text, re.IGNORECASE):
                yield name
                return
