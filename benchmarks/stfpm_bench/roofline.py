"""Can it be faster here? How far each group of layers is from what the machine can do at its best.

The roofline model of Williams, Waterman and Patterson (2009): no layer is faster than its multiply-adds at the
processor's peak, nor than its bytes at the memory's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ENGINES = {"CPUExecutionProvider": "ONNX Runtime", "OpenVINO CPU": "OpenVINO"}
"""Providers with a profile, and whose limit is known."""


@dataclass(frozen=True)
class Group:
    """Layers that belong together, for one frame."""

    name: str
    macs: int
    bytes: int
    limit_ms: float
    """The longer of what its multiply-adds and what its bytes take at this machine's best."""
    time_ms: float
    """Measured, by the engine's own profile."""


@dataclass(frozen=True)
class Roofline:
    """A graph beside its machine's limit. A share above 1 means that caches or cleverer algorithms beat the model."""

    peak_gops: float
    """A large matrix product in the graph's precision, 1e9 operations a second; a multiply-add is two."""
    copy_gb_s: float
    groups: tuple[Group, ...]
    limit_ms: float
    """Of the whole graph: the sum over its groups."""
    time_ms: float


def measure_roofline(path: Path, provider: str, precision: str) -> Roofline | str:
    """The roofline of an ONNX file of ours on this machine; or a sentence that says why there is none.

    Raises ArtifactError for a file that cannot be read, MissingExtraError where a package is missing.
    """
    from .graph_cost import Cost, count_costs, group_of, ordered
    from .peaks import copy_gb_s, peak_gops

    if path.suffix.lower() != ".onnx":
        return "no roofline: multiply-adds are counted from an ONNX file"
    if provider not in ENGINES:
        return f"no roofline: the peak of {provider} is not measured, only a CPU's"
    from .graph_profile import node_times

    costs = count_costs(path)
    peak, speed = peak_gops("int8" if precision == "int8" else "fp32"), copy_gb_s()
    times: dict[str, float] = {}
    for (name, _), time_ms in node_times(ENGINES[provider], path).items():
        times[group_of(name)] = times.get(group_of(name), 0.0) + time_ms
    groups = []
    for name in ordered(iter({*costs, *times})):
        cost = costs.get(name, Cost())
        limit = max(2 * cost.macs / peak, cost.bytes / speed) / 1e6
        groups.append(Group(name, cost.macs, cost.bytes, limit, times.get(name, 0.0)))
    return Roofline(
        peak, speed, tuple(groups), sum(group.limit_ms for group in groups), sum(group.time_ms for group in groups)
    )
