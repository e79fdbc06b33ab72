"""Compare each group of layers with the best that this machine can do, to see whether the model can be faster.

The roofline model of Williams, Waterman and Patterson (2009): no layer is faster than its multiply-adds at the
processor's peak, nor than its bytes at the memory's.
"""

from __future__ import annotations

import collections
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RUNS = 30
"""Frames of a profile."""

Node = tuple[str, str]
"""Name and type of a node, as the engine calls them."""


@dataclass(frozen=True)
class Group:
    """Layers that belong together, for one frame."""

    name: str
    macs: int
    bytes: int
    limit_ms: float
    """The longer of what its multiply-adds and what its bytes take at this machine's best."""
    time_ms: float
    """Time measured by the engine's own profile."""


@dataclass(frozen=True)
class Roofline:
    """A graph and its machine's limit. A share above 1 means that caches or other algorithms beat the model."""

    peak_gops: float
    """Speed of a large matrix product in the graph's precision, 1e9 operations a second; a multiply-add is two."""
    copy_gb_s: float
    groups: tuple[Group, ...]
    limit_ms: float
    """Limit of the whole graph: the sum over its groups."""
    time_ms: float


def measure_roofline(path: Path, provider: str, precision: str) -> Roofline | str:
    """Return the roofline of an ONNX file of ours on this machine, or a sentence that says why there is none.

    Raises ArtifactError for a file that cannot be read, MissingExtraError where a package is missing.
    """
    if path.suffix.lower() != ".onnx":
        return "no roofline: multiply-adds are counted from an ONNX file"
    profiles = {"CPUExecutionProvider": _profile_onnxruntime, "OpenVINO CPU": _profile_openvino}
    if provider not in profiles:
        return f"no roofline: the peak of {provider} is not measured, only a CPU's"
    from .graph_cost import Cost, count_costs, group_of, in_graph_order
    from .peaks import copy_gb_s, peak_gops

    costs = count_costs(path)
    peak, speed = peak_gops("int8" if precision == "int8" else "fp32"), copy_gb_s()
    nodes = collections.defaultdict(list)
    for node, time_ms in profiles[provider](path):
        nodes[node].append(time_ms)
    times: dict[str, float] = collections.defaultdict(float)
    for (name, _), times_ms in nodes.items():
        times[group_of(name)] += float(np.median(times_ms))
    groups = []
    for name in in_graph_order({*costs, *times}):
        cost = costs.get(name, Cost())
        limit_ms = max(2 * cost.macs / peak, cost.bytes / speed) / 1e6
        groups.append(Group(name, cost.macs, cost.bytes, limit_ms, times[name]))
    limit_ms, time_ms = sum(group.limit_ms for group in groups), sum(group.time_ms for group in groups)
    return Roofline(peak, speed, tuple(groups), limit_ms, time_ms)


def _profile_openvino(path: Path) -> Iterator[tuple[Node, float]]:
    """Yield each node and its milliseconds, `RUNS` times."""
    import openvino

    from stfpm_runtime.engines.openvino import CONFIGURATION

    core = openvino.Core()
    model = core.read_model(path)
    size = [1, *(side.get_length() for side in list(model.inputs[0].get_partial_shape())[1:])]
    model.reshape({model.inputs[0]: size})
    request = core.compile_model(model, "CPU", CONFIGURATION | {"PERF_COUNT": "YES"}).create_infer_request()
    frame = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    for _ in range(RUNS):
        request.infer([frame])
        for info in request.profiling_info:
            yield (info.node_name, info.node_type), 1e3 * info.real_time.total_seconds()


def _profile_onnxruntime(path: Path) -> Iterator[tuple[Node, float]]:
    """Yield each node and its milliseconds, `RUNS` times."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        shape = [1, *session.get_inputs()[0].shape[1:]]
        frame = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        for _ in range(RUNS):
            session.run(None, {"image": frame})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            yield (event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]), event["dur"] / 1e3
