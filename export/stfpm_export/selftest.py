"""Trials of every engine of this machine on a model: its agreement with PyTorch and its latency.

Each trial is one engine on one file. A trial that fails is a line of the report; the other trials go on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stfpm_runtime.artifact.golden import Golden, golden_path, load_golden
from stfpm_runtime.artifact.onnx_metadata import read_spec
from stfpm_runtime.artifact.parity import require_parity
from stfpm_runtime.engines import Engine, open_engine
from stfpm_runtime.engines.tensorrt.cuda import find_tensorrt
from stfpm_runtime.engines.tensorrt.sidecar import PlanOptions
from stfpm_runtime.errors import StfpmError
from stfpm_runtime.machine import describe_machine

DRIVER_FILES = {
    "l4t": "/etc/nv_tegra_release",
    "driver": "/proc/driver/nvidia/version",
}
Report = Callable[[str], None]


@dataclass(frozen=True)
class SelftestOptions:
    """Options of the selftest."""

    models: tuple[Path, ...]
    """ONNX files, their golden files next to them."""
    work: Path
    """A folder for the plans."""
    runs: int = 200
    """Timed frames of each trial."""
    idle_s: tuple[float, ...] = (1.0, 10.0)
    """Pauses before a single frame: a GPU's clocks fall when nothing comes (TensorRT's issue 2042)."""


def run_selftest(options: SelftestOptions, report: Report) -> dict[str, Any]:
    """Try every engine on every model; returns everything that was found, as JSON keeps it.

    Raises ArtifactError for a model that cannot be read, before the first trial.
    """
    known = [(model, read_spec(model).precision, load_golden(golden_path(model))) for model in options.models]
    absent = absent_engines()
    results: dict[str, Any] = {"schema": 1, "machine": _machine(), "absent": absent, "trials": []}
    for name, reason in absent.items():
        report(f"{name}: not tried, {reason}")
    for model, precision, golden in known:
        for name, open_it in _trials(model, options, report):
            if any(name.startswith(other) for other in absent):
                continue
            trial: dict[str, Any] = {"model": model.name, "precision": precision, "engine": name}
            try:
                with contextlib.closing(open_it()) as engine:
                    trial |= _measure(engine, golden, options)
            except StfpmError as error:
                trial |= {"error": " ".join(str(error).split())}
            results["trials"].append(trial)
            report(describe_trial(trial))
    return results


def _machine() -> dict[str, Any]:
    """Return the description of the machine, with the GPU and the drivers as far as they can be read."""
    found: dict[str, Any] = dataclasses.asdict(describe_machine())
    for name, file in DRIVER_FILES.items():
        with contextlib.suppress(OSError):
            found[name] = Path(file).read_text(errors="replace").strip("\0\n").splitlines()[0]
    try:
        from stfpm_runtime.engines.tensorrt.cuda import open_cuda

        cuda = open_cuda()
        found["cuda"] = {**cuda.device()._asdict(), "free_mb": cuda.free_bytes() >> 20, "graphs": cuda.has_graphs}
        cuda.close()
    except StfpmError as error:
        found["cuda"] = {"error": str(error)}
    return found


def describe_trial(trial: dict[str, Any]) -> str:
    """Describe a trial in one line."""
    head = f"{trial['model']} in {trial['engine']}: "
    if "error" in trial:
        return f"{head}{trial['error']}"
    idle = ", ".join(f"{ms:.2f} ms after {pause}" for pause, ms in trial["after_idle_ms"].items())
    return (
        f"{head}{trial['provider']}; p50 {trial['p50_ms']:.2f} ms, p99 {trial['p99_ms']:.2f} ms, {idle}; "
        f"map within {trial['parity']['map_max_error']:.1e} of PyTorch, {trial['parity']['verdict_flips']} flips"
    )


def absent_engines() -> dict[str, str]:
    """Return the reason for each engine that this machine lacks, by the first words of the trials' names."""
    absent = {}
    try:
        providers = importlib.import_module("stfpm_runtime.engines.onnx_runtime").providers()
    except StfpmError as error:
        absent["ONNX Runtime"], providers = str(error), []
    for name, provider in (("CUDA", "CUDAExecutionProvider"), ("TensorRT", "TensorrtExecutionProvider")):
        if provider not in providers:
            absent[f"ONNX Runtime, {name}"] = f"this ONNX Runtime has no {provider}: pip install 'stfpm-edge[gpu]'"
    try:
        find_tensorrt()
    except StfpmError as error:
        absent["TensorRT plan"] = str(error)
    return absent


def _trials(model: Path, options: SelftestOptions, report: Report) -> Iterator[tuple[str, Callable[[], Engine]]]:
    """Yield every way to run a file, by name, the CPU first."""
    yield "ONNX Runtime, CPU", partial(open_engine, model, "onnxruntime")
    yield "ONNX Runtime, CUDA", partial(_gpu_engine, model, "CUDA", True)
    yield "ONNX Runtime, CUDA, without graphs", partial(_gpu_engine, model, "CUDA", False)
    yield "ONNX Runtime, TensorRT", partial(_gpu_engine, model, "TensorRT", True)
    plan = options.work / f"{model.stem}.engine"
    yield "TensorRT plan", partial(_built, model, plan, report)
    yield "TensorRT plan, without graphs", partial(_plan_engine, plan, False)


def _gpu_engine(model: Path, provider: Literal["CUDA", "TensorRT"], graphs: bool) -> Engine:
    from stfpm_runtime.engines.onnx_runtime_gpu import OnnxRuntimeGpuEngine

    return OnnxRuntimeGpuEngine(model, provider, graphs)


def _built(model: Path, plan: Path, report: Report) -> Engine:
    from stfpm_runtime.engines.tensorrt.build import build_plan

    build_plan(model, plan, PlanOptions(), report)
    return _plan_engine(plan, True)


def _plan_engine(plan: Path, graphs: bool) -> Engine:
    from stfpm_runtime.engines.tensorrt.engine import TensorRtEngine

    return TensorRtEngine(plan, graphs)


def _measure(engine: Engine, golden: Golden, options: SelftestOptions) -> dict[str, Any]:
    image = golden.images[:1]
    for _ in range(20):
        engine.infer(image)
    times = [_time(engine, image) for _ in range(options.runs)]
    idle = {}
    for pause in options.idle_s:
        time.sleep(pause)
        idle[f"{pause:g} s"] = round(_time(engine, image), 3)
    parity = require_parity(engine.infer, golden, engine.spec, engine.spec.name, "report it with this report")
    return {
        "provider": engine.provider,
        "p50_ms": round(float(np.percentile(times, 50)), 3),
        "p99_ms": round(float(np.percentile(times, 99)), 3),
        "max_ms": round(max(times), 3),
        "after_idle_ms": idle,
        "parity": {**parity.to_dict(), "engine": engine.provider},
        "parity_limit": parity.limit,
    }


def _time(engine: Engine, image: npt.NDArray[np.uint8]) -> float:
    started = time.perf_counter()
    engine.infer(image)
    return 1e3 * (time.perf_counter() - started)
