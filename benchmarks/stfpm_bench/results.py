"""What a run of `stfpm-bench` found, as data: dataclasses that are JSON and back."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stfpm_runtime.errors import ArtifactError
from stfpm_runtime.machine import Machine

from .roofline import Roofline
from .sensors import Reading

SCHEMA = 1
"""Version of the JSON. A reader refuses a higher one."""
KIND = "stfpm-bench"

T = TypeVar("T")


@dataclass(frozen=True)
class Latency:
    """Of single frames, back to back, from a frame in memory to its decision. Intervals hold with 95% confidence."""

    p50_ms: float
    p50_interval_ms: tuple[float, ...]
    p90_ms: float
    p90_interval_ms: tuple[float, ...]
    p99_ms: float
    p99_interval_ms: tuple[float, ...]
    max_ms: float
    jitter_ms: float
    """The mean difference between a frame's latency and the next one's."""
    frames: int
    stopped_by: str
    """`precision`: the p50 is known to 2%; `time limit`, or `interrupted`."""
    stages_ms: dict[str, float | None]
    """Medians of resize, copy_in, network, copy_out and decision; null where the engine cannot tell."""
    quantiles_ms: tuple[float, ...]
    """The 0th to the 100th percentile."""


@dataclass(frozen=True)
class Idle:
    """A single frame after nothing happened for a while."""

    idle_s: float
    p50_ms: float
    frames_ms: tuple[float, ...]


@dataclass(frozen=True)
class Throughput:
    """Several frames at once."""

    batch: int
    frames_per_s: float
    p50_ms: float
    """Of the whole batch."""


@dataclass(frozen=True)
class ColdStart:
    """From the start of a process to its first verdict; the files are in the system's cache already."""

    p50_ms: float
    starts_ms: tuple[float, ...]


@dataclass(frozen=True)
class ParityResult:
    """How far the file is from PyTorch."""

    against: str
    """`PyTorch` where a checkpoint was given, `golden file` otherwise."""
    images: int
    map_max_error: float
    score_max_error: float
    verdict_flips: int
    limit: float
    """What the map's error may be: the export's tolerance, or twice the error that the export found."""
    holds: bool
    scores: tuple[float, ...]
    reference_scores: tuple[float, ...]


@dataclass(frozen=True)
class Accuracy:
    """On labelled images; null figures are explained in `notes`."""

    data: str
    good: int
    defective: int
    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None
    missed: int | None
    false_alarms: int | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelResult:
    """One contender. What was not asked for, or not reached, is null."""

    name: str
    """What tells its file from the others: the stem, or an end of its path."""
    sha256: str
    model: str
    """The product's name."""
    precision: str
    target: str
    provider: str
    """What really executed it."""
    file_bytes: int
    installed_bytes: int | None = None
    """Of the packages that its process had loaded."""
    peak_bytes: int | None = None
    """The most resident memory of a process that judged 20 frames, one by one."""
    gpu_bytes: int | None = None
    """How much fuller the GPU's memory became when it was opened."""
    cold_start: ColdStart | None = None
    latency: Latency | None = None
    idle: tuple[Idle, ...] = ()
    throughput: tuple[Throughput, ...] = ()
    energy_mj_per_frame: float | None = None
    """Of the processor package or the board, while frames came back to back."""
    parity: ParityResult | None = None
    accuracy: Accuracy | None = None
    roofline: Roofline | None = None
    epochs: int | None = None
    """Passes over the training images."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BenchReport:
    """One run."""

    created: str
    """When, in UTC, ISO 8601."""
    machine: Machine
    frame: tuple[int, ...]
    """(width, height) of the frames."""
    threads: int | None
    models: tuple[ModelResult, ...]
    others_cpu_share: float | None
    """What other programs used of the processor meanwhile, 0 to 1."""
    sensors_start: Reading
    """In the first round of measuring, so under load."""
    sensors_end: Reading
    noise: tuple[str, ...] = ()
    """Why the figures cannot be trusted; empty where they can."""
    interrupted: bool = False
    """Whether it was stopped before its end: what is there was measured, the rest is missing."""

    def to_json(self) -> str:
        """All of it; unknown figures are null."""
        data = {"kind": KIND, "schema": SCHEMA, **dataclasses.asdict(self)}
        return json.dumps(_rounded(data), indent=1, allow_nan=False)


def load_report(path: Path) -> BenchReport:
    """Read what `to_json` wrote. Raises ArtifactError for a file that is something else, damaged, or from later."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error.strerror}); expected a file of stfpm-bench --json"
        ) from None
    except ValueError as error:
        raise ArtifactError(f"{path}: is not JSON ({error}); expected a file of stfpm-bench --json") from None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise ArtifactError(f"{path}: JSON, but not of stfpm-bench; expected a file of stfpm-bench --json")
    if not isinstance(schema := data.get("schema"), int) or schema > SCHEMA:
        raise ArtifactError(
            f"{path}: has schema {schema}, this stfpm-edge reads up to {SCHEMA}; "
            "upgrade it with: pip install -U stfpm-edge"
        )
    try:
        return decode(BenchReport, data)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path}: damaged ({error!r}); measure again") from None


def decode(kind: type[T], data: Any) -> T:  # noqa: ANN401  what JSON holds
    """A dataclass from what `dataclasses.asdict` and JSON made of it. Raises KeyError or TypeError where it differs."""
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise KeyError(name)
    return kind(**values)


def _value(hint: Any, value: Any) -> Any:  # noqa: ANN401
    """A value of the hinted type: tuples and dataclasses were lists and objects in JSON."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _value(next(one for one in arguments if one is not type(None)), value)
    if origin is tuple:
        return tuple(_value(arguments[0], one) for one in value)
    if origin is dict:
        return {key: _value(arguments[1], one) for key, one in value.items()}
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast("type[Any]", hint), value)
    if hint is float and isinstance(value, (int, float)):
        return float(value)
    if isinstance(hint, type) and not isinstance(value, hint):
        raise TypeError(f"expected {hint.__name__}, got {value!r}")
    return value


def _rounded(value: Any) -> Any:  # noqa: ANN401
    """Floats with six significant digits: the seventh of a latency is noise, and a file to be read stays short."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return value
