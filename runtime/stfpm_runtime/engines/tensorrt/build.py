"""Building a TensorRT plan from an ONNX file, on the device that will run it, without PyTorch.

A plan is kept only if the inspector finds it in the precision that was asked for, and if it gives PyTorch's results on
the golden images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import SupportsInt

from stfpm_runtime.artifact.golden import golden_path, load_golden
from stfpm_runtime.artifact.onnx_metadata import read_spec
from stfpm_runtime.artifact.parity import require_parity
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.errors import ArtifactError, EngineError, OptionError, OutputError
from stfpm_runtime.files import atomic_path, check_writable, sha256, user_cache_folder

from .cuda import find_tensorrt, is_lean, open_cuda
from .engine import Log, TensorRtEngine, deserialise, start, this_machine
from .sidecar import (
    Plan,
    PlanOptions,
    PlanPlatform,
    audit,
    convolution_types,
    load_sidecar,
    save_sidecar,
    sidecar_path,
)

try:
    import tensorrt as trt
except (ImportError, OSError, RuntimeError):
    trt = find_tensorrt()

NOT_KEPT = "the plan is not kept: try another --precision or TensorRT version, or use --device cuda"
WEAK_BEFORE = (10, 12)
"""TensorRT's strong typing is complete from here on; before, a build that fails is tried with flags."""
Report = Callable[[str], None]


def build_plan(onnx: Path, output: Path, options: PlanOptions, report: Report) -> Plan:
    """Build `output` from an ONNX file, and its sidecar; both are whole or as they were before.

    Raises ArtifactError for a file that TensorRT cannot use, EngineError where building fails, ParityError where the
    plan computes something else than PyTorch.
    """
    if is_lean(trt):
        raise EngineError("the lean runtime runs plans and builds none; install the whole of TensorRT to build one")
    spec = read_spec(onnx)
    if spec.precision == "bf16":
        raise ArtifactError(f"{onnx}: a bf16 file runs in OpenVINO only; export it with --precision fp16 for a plan")
    golden = load_golden(golden_path(onnx))
    if golden.sha256 != sha256(onnx):
        raise ArtifactError(f"{golden_path(onnx)}: belongs to another file than {onnx}; bring both from one export")
    check_writable(output)
    if spec.batch is not None:
        options = dataclasses.replace(options, batches=(spec.batch,) * 3)
    cuda = open_cuda()
    try:
        machine = this_machine(cuda)
        report(f"building for {machine}")
        builder = PlanBuilder(onnx, spec, options, machine, report)
        data, typing = builder.build()
    finally:
        cuda.close()
    with atomic_path(output) as unfinished:
        unfinished.write_bytes(data)
        try:
            plan = _verify(unfinished, builder.describe(unfinished, typing), golden_path(onnx), report)
        finally:
            sidecar_path(unfinished).unlink(missing_ok=True)
    save_sidecar(plan, output)
    return plan


def _verify(unfinished: Path, plan: Plan, golden: Path, report: Report) -> Plan:
    """Audit the plan, run the golden images, and return it with what was found."""
    types = inspect_types(unfinished, plan)
    if reason := audit(types, plan.spec.precision):
        raise EngineError(f"the build failed: {reason}. No file was written; please report it with stfpm-selftest")
    report(f"convolutions: {types or 'the inspector does not tell their types'}")
    plan = dataclasses.replace(plan, layers=types)
    save_sidecar(plan, unfinished)
    engine = TensorRtEngine(unfinished)
    try:
        where = f"{plan.spec.name}, in {engine.provider}"
        parity = require_parity(engine.infer, load_golden(golden), plan.spec, where, NOT_KEPT)
    finally:
        engine.close()
    report(f"parity with PyTorch on {parity.images} golden images: map within {parity.map_max_error:.1e}")
    return dataclasses.replace(plan, parity={**parity.to_dict(), "engine": engine.provider})


def inspect_types(path: Path, plan: Plan) -> dict[str, int]:
    """Return how many convolutions of a plan run in which type."""
    log = Log()
    inspector = deserialise(path, plan, log).create_engine_inspector()
    return convolution_types(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def rebuild(path: Path, onnx: Path, report: Report) -> Plan:
    """Build a plan again from its ONNX file, with the options that the sidecar remembers, where it can be read."""
    try:
        plan = load_sidecar(path)
        known = {item.name for item in dataclasses.fields(PlanOptions)}
        remembered = {name: value for name, value in plan.options.items() if name in known and name != "timing_cache"}
        options = PlanOptions(**remembered | {"batches": plan.batches})
    except ArtifactError:
        options = PlanOptions()
    return build_plan(onnx, path, options, report)


class PlanBuilder:
    """Builds one plan.

    The network is strongly typed: what is float16 or int8 stands in the graph, and TensorRT may not decide otherwise.
    """

    def __init__(self, onnx: Path, spec: Spec, options: PlanOptions, machine: PlanPlatform, report: Report) -> None:
        self._onnx, self._spec, self._options, self._machine, self._report = onnx, spec, options, machine, report
        self._log = Log()

    def describe(self, plan: Path, typing: str) -> Plan:
        """Return the sidecar of a plan that was built here."""
        options = {
            name: str(value) if isinstance(value, Path) else value for name, value in vars(self._options).items()
        }
        return Plan(
            spec=self._spec,
            built_on=self._machine,
            plan_sha256=sha256(plan),
            onnx_sha256=sha256(self._onnx),
            typing=typing,
            batches=self._options.batches,
            version_compatible=self._options.version_compatible,
            hardware_compatible=self._options.hardware_compatible,
            options=options,
        )

    def build(self) -> tuple[bytes, str]:
        """Return the plan's bytes, and its typing: strong or weak.

        Raises, in TensorRT's words, ArtifactError for a file that it cannot read and EngineError where building fails.
        """
        data = self._attempt(is_strong=True)
        if data is not None:
            return data, "strong"
        reasons = self._log.reasons()
        version = tuple(int(part) for part in self._machine.tensorrt.split(".")[:2])
        if version < WEAK_BEFORE:
            self._report(
                f"strongly typed, it cannot be built ({reasons}); trying with flags, as TensorRT was used before"
            )
            data = self._attempt(is_strong=False)
            if data is not None:
                return data, "weak"
            reasons = self._log.reasons()
        raise EngineError(f"{self._onnx}: TensorRT cannot build it: {reasons}{self._remedy(reasons)}")

    def _attempt(self, is_strong: bool) -> bytes | None:
        builder = start(trt.Builder, self._log)
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if is_strong else 0
        network = builder.create_network(flags)
        self._parse(network)
        config = builder.create_builder_config()
        self._configure(builder, config)
        if not is_strong:
            apply_weak_typing(network, config, self._spec.precision)
        cache = timing_cache_path(self._options.timing_cache, self._machine)
        timings = b""
        with contextlib.suppress(OSError):
            timings = cache.read_bytes()  # TensorRT drops by itself what does not fit it
        config.set_timing_cache(config.create_timing_cache(timings), ignore_mismatch=False)
        monitor = Monitor()
        config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
        monitor.end()
        if plan is None:
            return None
        with contextlib.suppress(OutputError), atomic_path(cache) as unfinished:  # without it, time is lost, no plan
            unfinished.write_bytes(bytes(memoryview(config.get_timing_cache().serialize())))
        return bytes(memoryview(plan))

    def _parse(self, network: trt.INetworkDefinition) -> None:
        parser = trt.OnnxParser(network, self._log)
        if parser.parse(self._onnx.read_bytes()):
            return
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        said = "; ".join(
            f"{one.node_name() or 'the graph'} ({one.node_operator()}): {one.desc()}" for one in errors[:5]
        )
        raise ArtifactError(
            f"{self._onnx}: TensorRT {self._machine.tensorrt} cannot read it: {said or self._log.reasons()}; "
            "export it again with --target tensorrt"
        )

    def _configure(self, builder: trt.Builder, config: trt.IBuilderConfig) -> None:
        options = self._options
        profile = builder.create_optimization_profile()
        shapes = [trt.Dims([batch, *self._spec.input_shape]) for batch in options.batches]
        profile.set_shape("image", shapes[0], shapes[1], shapes[2])
        config.add_optimization_profile(profile)
        config.builder_optimization_level = options.optimization_level
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for the audit
        config.clear_flag(trt.BuilderFlag.TF32)  # ten bits of mantissa are not float32
        if options.workspace_mb is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if options.hardware_compatible:
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        if options.dla is not None:
            self._use_dla(builder, config, options.dla)

    def _use_dla(self, builder: trt.Builder, config: trt.IBuilderConfig, core: int) -> None:
        if core >= builder.num_DLA_cores:
            raise OptionError(
                f"got --dla {core}; {self._machine} has {builder.num_DLA_cores} such cores; build without --dla"
            )
        if self._spec.precision == "fp32":
            raise OptionError(
                f"got --dla with {self._onnx} in fp32; a DLA computes in fp16 or int8: export one of these"
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = core
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)

    def _remedy(self, reasons: str) -> str:
        """Return what to do, where the reason is known."""
        if "memory" not in reasons.lower():
            return "; export it again with --target tensorrt, or try another --precision"
        limit = self._options.workspace_mb
        asked = "all the GPU's memory" if limit is None else f"{limit} MB"
        return f". The workspace was {asked}: stop other programs on the GPU, or try a smaller --workspace or --batches"


def apply_weak_typing(network: trt.INetworkDefinition, config: trt.IBuilderConfig, precision: str) -> None:
    """Tell a TensorRT before 10.12 by flags what the graph says by types, and hold the float32 head to its own.

    The names are looked up by text: TensorRT 11 has none of them, and is never asked.
    """
    wanted = {"fp16": ["FP16"], "int8": ["INT8"]}.get(precision, [])
    for name in [*wanted, "OBEY_PRECISION_CONSTRAINTS"]:
        config.set_flag(getattr(trt.BuilderFlag, name))
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        is_float = layer.num_outputs and layer.get_output(0).dtype == trt.float32
        if is_float and layer.type not in (trt.LayerType.CONSTANT, trt.LayerType.SHAPE, trt.LayerType.SHUFFLE):
            setattr(layer, "precision", trt.float32)  # noqa: B010  (gone in 11)


def timing_cache_path(place: Path | None, machine: PlanPlatform) -> Path:
    """Return the file of timings for this kind of device; `place` is a file, a folder, or None for the user's cache."""
    if place is not None and place.suffix and not place.is_dir():
        return place
    name = f"{machine.gpu}-{machine.compute_capability}-tensorrt-{machine.tensorrt}"
    return (place or user_cache_folder() / "timings") / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name).lower()}.cache"


class Monitor(trt.IProgressMonitor):  # type: ignore[misc, unused-ignore]  # without TensorRT, mypy sees no class
    """TensorRT's progress as one line on a terminal that is written over; elsewhere nothing."""

    def __init__(self) -> None:
        trt.IProgressMonitor.__init__(self)
        self._phases: dict[str, tuple[int, int]] = {}
        self._shows = sys.stderr.isatty()

    def phase_start(self, phase_name: str, parent_phase: str, num_steps: SupportsInt) -> None:
        """Begin a phase. TensorRT calls this method and the next two."""
        self._phases[phase_name] = (0, int(num_steps))
        self._show()

    def phase_finish(self, phase_name: str) -> None:
        """End a phase."""
        self._phases.pop(phase_name, None)
        self._show()

    def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
        """Count a step of a phase, and return true: the build goes on."""
        _, steps = self._phases.get(phase_name, (0, 0))
        self._phases[phase_name] = (int(step) + 1, steps)
        self._show()
        return True

    def end(self) -> None:
        """Delete the line."""
        if self._shows:
            print("\033[2K", end="\r", file=sys.stderr, flush=True)

    def _show(self) -> None:
        if self._shows and self._phases:
            line = " > ".join(f"{name} {done}/{steps}" for name, (done, steps) in self._phases.items())
            print(f"\033[2K{line[:110]}", end="\r", file=sys.stderr, flush=True)
