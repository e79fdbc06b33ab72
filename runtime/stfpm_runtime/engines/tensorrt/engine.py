"""TensorRT: runs a plan that was built on this device.

Two lanes take turns, each with a stream, an execution context and buffers of its own, bound once: while one computes,
the other's frame is copied. A lane's copies and its work are recorded as one CUDA graph for each number of frames, and
replayed: one launch instead of some eighty.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.engines.base import BaseEngine, Maps, Scores, check_graph
from stfpm_runtime.errors import ArtifactError, EngineError

from .cuda import NO_DEVICE, Cuda, Graph, find_tensorrt, is_lean, open_cuda, version_of
from .sidecar import Plan, PlanPlatform, check_machine, load_sidecar, onnx_path, rebuild_command

try:
    import tensorrt as trt
except (ImportError, OSError, RuntimeError):
    trt = find_tensorrt()  # the lean runtime, or an error that says what to install

VERSION = version_of(trt)
T = TypeVar("T")
LANES = 2
TENSOR_TYPES = {"DataType.UINT8": "tensor(uint8)", "DataType.FLOAT": "tensor(float)"}


class Log(trt.ILogger):  # type: ignore[misc, unused-ignore]  # without TensorRT, mypy sees no class
    """Keeps TensorRT's errors for the exception that follows."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Keep an error. TensorRT calls it."""
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            self.errors.append(" ".join(msg.split()))

    def reasons(self) -> str:
        """Return the errors since the last call in one line: the first three, as the others are their consequences."""
        errors, self.errors = self.errors, []
        return "; ".join(errors[:3]) or "it gives no reason"


def this_machine(cuda: Cuda) -> PlanPlatform:
    """Return what a plan would depend on here."""
    device = cuda.device()
    return PlanPlatform(VERSION, device.cuda, device.name, device.compute_capability)


class TensorRtEngine(BaseEngine):
    """Runs a plan. Its sidecar is checked against the plan's bytes and this machine before TensorRT sees either.

    `graphs` turns CUDA graphs off, for measuring what they bring.
    """

    def __init__(self, path: Path, graphs: bool = True) -> None:
        self.plan = load_sidecar(path)
        super().__init__(self.plan.spec, f"TensorRT {VERSION}" + (" lean" if is_lean(trt) else ""))
        self._lanes: list[Lane] = []
        self._cuda: Cuda | None = open_cuda()
        try:
            check_machine(self.plan, this_machine(self._cuda), path)
            self._log = Log()  # TensorRT calls it for as long as it lives
            engine = deserialise(path, self.plan, self._log)
            _check_contract(engine, self.plan.spec, path)
            use_graphs = graphs and self._cuda.has_graphs
            for _ in range(LANES):
                self._lanes.append(Lane(engine, self._cuda, self.plan, use_graphs, self._log))
        except BaseException:
            self.close()
            raise

    def _run(self, images: npt.NDArray[np.uint8]) -> tuple[Maps, Scores]:
        results: list[tuple[Maps, Scores]] = []
        busy: list[Lane] = []
        for number, start in enumerate(range(0, len(images), self.plan.batches[2])):
            lane = self._lanes[number % LANES]
            if lane in busy:
                busy.remove(lane)
                results.append(lane.collect())
            lane.submit(images[start : start + self.plan.batches[2]])
            busy.append(lane)
        results += [lane.collect() for lane in busy]
        if len(results) == 1:
            return results[0]
        maps, scores = (np.concatenate([result[k] for result in results]) for k in (0, 1))
        return maps, scores

    def _free(self) -> None:
        """Free the GPU's memory: contexts before the engine, buffers last."""
        for lane in self._lanes:
            lane.close()
        self._lanes = []
        if self._cuda is not None:
            self._cuda.close()
            self._cuda = None


class Lane:
    """A stream with its buffers: takes frames with `submit`, gives results with `collect`."""

    def __init__(self, engine: trt.ICudaEngine, cuda: Cuda, plan: Plan, graphs: bool, log: Log) -> None:
        self._cuda, self._plan, self._log, self._graphs_on = cuda, plan, log, graphs
        self._context: trt.IExecutionContext | None = engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"TensorRT makes no execution context: {log.reasons()}; is the GPU's memory full?")
        self._stream = cuda.stream()
        most, (height, width, channels) = plan.batches[2], plan.spec.input_shape
        self._host = {
            "image": cuda.host_array([most, height, width, channels], np.uint8),
            "anomaly_map": cuda.host_array([most, height, width], np.float32),
            "score": cuda.host_array([most], np.float32),
        }
        self._device = {name: cuda.memory(array.nbytes) for name, array in self._host.items()}
        for name, address in self._device.items():
            if not self._context.set_tensor_address(name, address):
                raise EngineError(f"TensorRT refuses a buffer for {name}: {log.reasons()}")
        self._graphs: dict[int, Graph] = {}
        self._frames, self._filled = 0, 0

    def submit(self, images: npt.NDArray[np.uint8]) -> None:
        """Begin work on at most the plan's largest batch of images; fewer than its smallest are filled up."""
        frames = len(images)
        filled = max(frames, self._plan.batches[0])
        self._host["image"][:frames] = images
        self._host["image"][frames:filled] = images[-1]
        shape = (filled, *self._plan.spec.input_shape)
        assert self._context is not None, "not closed"
        if filled != self._filled and not self._context.set_input_shape("image", shape):
            raise EngineError(f"TensorRT refuses {filled} frames: {self._log.reasons()}")
        self._frames, self._filled = frames, filled
        graph = self._graphs.get(filled)
        if graph is not None:
            graph.launch()
            return
        self._enqueue()
        if self._graphs_on:  # from the second time on: the first run of a shape does work that must not be recorded
            self._cuda.wait(self._stream)
            self._record(filled)

    def collect(self) -> tuple[Maps, Scores]:
        """Wait for what `submit` began: maps float32 [N, H, W] and scores float32 [N], the caller's to keep."""
        self._cuda.wait(self._stream)
        return self._host["anomaly_map"][: self._frames].copy(), self._host["score"][: self._frames].copy()

    def close(self) -> None:
        """Free graphs and context."""
        for graph in self._graphs.values():
            with contextlib.suppress(EngineError):
                graph.close()
        self._graphs, self._context = {}, None

    def _enqueue(self) -> None:
        """Copy in, compute, copy out, one after the other on the stream."""
        self._cuda.copy_in(self._device["image"], self._host["image"][: self._filled], self._stream)
        assert self._context is not None, "not closed"
        if not self._context.execute_async_v3(self._stream):
            raise EngineError(f"TensorRT failed: {self._log.reasons()}")
        for name in ("anomaly_map", "score"):
            self._cuda.copy_out(self._host[name][: self._filled], self._device[name], self._stream)

    def _record(self, filled: int) -> None:
        """Record the same work as a graph; where CUDA cannot record it, the lane works without."""
        try:
            self._graphs[filled] = self._cuda.record(self._stream, self._enqueue)
        except EngineError:
            self._graphs_on = False


def start(kind: Callable[[Log], T], log: Log) -> T:
    """Return TensorRT's Runtime or Builder. Raises EngineError where the driver is missing or too old for it.

    Without a driver TensorRT gives an object around nothing, whose every use, its end included, kills the process: it
    is made to live for ever.
    """
    started = kind(log)
    if log.errors:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(started))
        raise EngineError(f"TensorRT {VERSION} cannot start: {log.reasons()}; {NO_DEVICE}")
    return started


def deserialise(path: Path, plan: Plan, log: Log) -> trt.ICudaEngine:
    """Return TensorRT's engine of a plan that was checked. Raises ArtifactError where TensorRT refuses it."""
    if is_lean(trt) and not plan.version_compatible:
        raise ArtifactError(
            f"{path}: the lean runtime runs version-compatible plans only; install tensorrt, or build the plan again "
            f"with: {rebuild_command(path)} --version-compatible"
        )
    runtime = start(trt.Runtime, log)
    if plan.version_compatible:
        runtime.engine_host_code_allowed = True  # such a plan carries code for the host; its SHA-256 was checked
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise ArtifactError(f"{path}: TensorRT cannot load it ({log.reasons()}); {_remedy(path)}")
    return engine


def _check_contract(engine: trt.ICudaEngine, spec: Spec, path: Path) -> None:
    found = [_describe(engine, engine.get_tensor_name(index)) for index in range(engine.num_io_tensors)]
    check_graph(sorted(found, key=_contract_order), spec, path)


def _describe(engine: trt.ICudaEngine, name: str) -> tuple[str, str, list[int]]:
    kind, shape = str(engine.get_tensor_dtype(name)), engine.get_tensor_shape(name)
    return name, TENSOR_TYPES.get(kind, kind), [shape[axis] for axis in range(1, len(shape))]


def _contract_order(tensor: tuple[str, str, list[int]]) -> int:
    names = ("image", "anomaly_map", "score")
    return names.index(tensor[0]) if tensor[0] in names else len(names)


def _remedy(path: Path) -> str:
    is_there = onnx_path(path).is_file()
    return f"build it again with: {rebuild_command(path)}" if is_there else "build it again from its ONNX file"
