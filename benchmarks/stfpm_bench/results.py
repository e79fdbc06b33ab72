"""The results of a run of `stfpm-bench`: dataclasses, and their JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stfpm_runtime.errors import ArtifactError
from stfpm_runtime.machine import Machine

from .roofline import Roofline
from .sensors import Reading

SCHEMA = 1
"""Version of the JSON. A reader refuses a higher one."""
KIND = "stfpm-bench"


@dataclass(frozen=True)
class Latency:
    """Latency of single frames, back to back, from a frame in memory to its decision.

    Each interval, (low, high), holds the true percentile with 95% confidence.
    """

    p50_ms: float
    p50_interval_ms: tuple[float, ...]
    p90_ms: float
    p90_interval_ms: tuple[float, ...]
    p99_ms: float
    p99_interval_ms: tuple[float, ...]
    max_ms: float
    jitter_ms: float
    """Mean difference between a frame's latency and the next one's."""
    frames: int
    stopped_by: str
    """`precision`: the p50 is known to 2%; `time limit`, or `interrupted`."""
    stages_ms: dict[str, float | None]
    """Medians of resize, network and decision; null where it is not known."""
    quantiles_ms: tuple[float, ...]
    """The 0th to the 100th percentile."""

    @property
    def p50_half_width_ms(self) -> float:
        """Return half the width of the p50's interval."""
        low, high = self.p50_interval_ms
        return (high - low) / 2


@dataclass(frozen=True)
class Idle:
    """Latency of single frames, each after `idle_s` seconds without one."""

    idle_s: float
    p50_ms: float
    frames_ms: tuple[float, ...]


@dataclass(frozen=True)
class Throughput:
    """Speed with `batch` frames at once."""

    batch: int
    frames_per_s: float
    p50_ms: float
    """Median time of a whole batch."""


@dataclass(frozen=True)
class ColdStart:
    """Time from the start of a process to its first verdict; the files are in the system's cache already."""

    p50_ms: float
    starts_ms: tuple[float, ...]


@dataclass(frozen=True)
class ParityResult:
    """Distance of a file's results from PyTorch's."""

    against: str
    """`PyTorch` where a checkpoint was given, `golden file` otherwise."""
    images: int
    map_max_error: float
    score_max_error: float
    verdict_flips: int
    limit: float
    """The largest error of the map that is allowed."""
    holds: bool
    scores: tuple[float, ...]
    reference_scores: tuple[float, ...]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on labelled images; `notes` explains what is null."""

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
    """All results of one contender. What was not asked for, or not reached, is null."""

    name: str
    """A name that differs from the other contenders': the file's stem, or an end of its path."""
    sha256: str
    model: str
    """The product's name."""
    precision: str
    target: str
    provider: str
    """What really executed the model."""
    file_bytes: int
    installed_bytes: int | None = None
    """Size of the packages that its process had loaded."""
    peak_bytes: int | None = None
    """Largest resident memory of a process that inspected 20 frames, one by one."""
    gpu_bytes: int | None = None
    """Growth of the GPU's used memory when the model was opened."""
    cold_start: ColdStart | None = None
    latency: Latency | None = None
    idle: tuple[Idle, ...] = ()
    throughput: tuple[Throughput, ...] = ()
    energy_mj_per_frame: float | None = None
    """Energy of the processor package or the board, while frames came back to back."""
    parity: ParityResult | None = None
    accuracy: Accuracy | None = None
    roofline: Roofline | None = None
    epochs: int | None = None
    """Passes over the training images."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BenchReport:
    """All results of one run."""

    created: str
    """Time of the run, in UTC, ISO 8601."""
    machine: Machine
    frame: tuple[int, ...]
    """(width, height) of the frames."""
    threads: int | None
    models: tuple[ModelResult, ...]
    others_cpu_share: float | None
    """Share of the processor that other programs used meanwhile, 0 to 1."""
    sensors_start: Reading
    """Reading after the first round, so under load."""
    sensors_end: Reading
    noise: tuple[str, ...] = ()
    """Reasons why the latencies cannot be trusted; empty where they can."""
    interrupted: bool = False
    """True for a run that Ctrl-C ended early: the report then holds only what was measured until then."""

    def to_json(self) -> str:
        """Return the report as JSON, floats with six significant digits: the seventh of a latency is noise."""
        text = json.dumps({"kind": KIND, "schema": SCHEMA, **dataclasses.asdict(self)}, allow_nan=False)
        return json.dumps(json.loads(text, parse_float=lambda digits: float(f"{float(digits):.6g}")), indent=1)


def load_report(path: Path) -> BenchReport:
    """Read what `to_json` wrote. Raises ArtifactError for a file of another kind, damaged, or of a later schema."""
    expected = "expected a file of stfpm-bench --json"
    try:
        data = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); {expected}") from None
    except msgspec.DecodeError as error:
        raise ArtifactError(f"{path}: is not JSON ({error}); {expected}") from None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise ArtifactError(f"{path}: JSON, but not of stfpm-bench; {expected}")
    if not isinstance(schema := data.get("schema"), int) or schema > SCHEMA:
        raise ArtifactError(
            f"{path}: has schema {schema}, this stfpm-edge reads up to {SCHEMA}; "
            "upgrade it with: pip install -U stfpm-edge"
        )
    try:
        return msgspec.convert(data, BenchReport)
    except msgspec.ValidationError as error:
        raise ArtifactError(f"{path}: damaged ({error}); measure again") from None
