"""Where an engine's time goes: in convolutions, in the head, or between them."""

from __future__ import annotations

import collections
import json
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort

RUNS = 30
KINDS = ("convolution and pooling", "head", "quantise, dequantise, sums, layout")


def shares(engine: str, path: Path) -> dict[str, float]:
    """Milliseconds by kind of operator for one frame, the median of each operator, of a file of ours."""
    totals = dict.fromkeys(KINDS, 0.0)
    for (name, operator), own in node_times(engine, path).items():
        totals[_kind(name, operator)] += own
    return {kind: round(total, 3) for kind, total in totals.items()}


def node_times(engine: str, path: Path) -> dict[tuple[str, str], float]:
    """Milliseconds of each operator for one frame, the median of several, by its name and type in the engine's words.

    `engine` is `OpenVINO` or `ONNX Runtime`, on the CPU.
    """
    times = _openvino(path) if engine == "OpenVINO" else _onnxruntime(path)
    return {operator: float(np.median(own)) for operator, own in times.items()}


def _kind(name: str, operator: str) -> str:
    if "Conv" in operator or "MaxPool" in operator:
        return KINDS[0]
    return KINDS[1] if name.startswith(("head/", "anomaly_map", "score")) else KINDS[2]


def _openvino(path: Path) -> dict[tuple[str, str], list[float]]:
    import openvino

    from stfpm_runtime.engines.openvino import CONFIGURATION

    core = openvino.Core()
    model = core.read_model(path)
    shape = model.inputs[0].get_partial_shape()
    size = [1, *(side.get_length() for side in list(shape)[1:])]
    model.reshape({model.inputs[0]: size})
    request = core.compile_model(model, "CPU", CONFIGURATION | {"PERF_COUNT": "YES"}).create_infer_request()
    times = collections.defaultdict(list)
    frame = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    for _ in range(RUNS):
        request.infer([frame])
        for info in request.profiling_info:
            times[info.node_name, info.node_type].append(1e3 * info.real_time.total_seconds())
    return times


def _onnxruntime(path: Path) -> dict[tuple[str, str], list[float]]:
    times = collections.defaultdict(list)
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
            name = event["name"].removesuffix("_kernel_time")
            times[name, event["args"]["op_name"]].append(event["dur"] / 1e3)
    return times
