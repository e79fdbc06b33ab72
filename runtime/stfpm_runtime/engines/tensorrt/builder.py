"""TensorRT's builder: from the ONNX file to the bytes of a plan.

The network is strongly typed: what is float16 or int8 stands in the graph, and TensorRT may not decide otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.errors import ArtifactError, EngineError, OptionError
from stfpm_runtime.files import sha256

from .engine import Log, start
from .monitor import Monitor
from .options import PlanOptions
from .package import find_tensorrt
from .sidecar import Machine, Plan
from .timing_cache import TimingCache

try:
    import tensorrt as trt
except (ImportError, OSError, RuntimeError):
    trt = find_tensorrt()

WEAK_BEFORE = (10, 12)
"""TensorRT's strong typing is complete from here on; before, a build that fails is tried with flags."""
Report = Callable[[str], None]


class PlanBuilder:
    """One build, with what it needs."""

    def __init__(self, onnx: Path, spec: Spec, options: PlanOptions, machine: Machine, report: Report) -> None:
        self._onnx, self._spec, self._options, self._machine, self._report = onnx, spec, options, machine, report
        self._log = Log()

    def describe(self, plan: Path, typing: str) -> Plan:
        """The sidecar of a plan that was built here."""
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
        """The plan's bytes, and its typing: strong or weak.

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
            loosen(network, config, self._spec.precision)
        cache = TimingCache(self._options.timing_cache, self._machine)
        own = config.create_timing_cache(cache.read())
        config.set_timing_cache(own, ignore_mismatch=False)
        monitor = Monitor()
        config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
        monitor.end()
        if plan is None:
            return None
        cache.write(bytes(memoryview(config.get_timing_cache().serialize())))
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
        """What to do, where the reason is known."""
        if "memory" not in reasons.lower():
            return "; export it again with --target tensorrt, or try another --precision"
        limit = self._options.workspace_mb
        asked = "all the GPU's memory" if limit is None else f"{limit} MB"
        return f". The workspace was {asked}: close what else uses the GPU, or try a smaller --workspace or --max-batch"


def loosen(network: trt.INetworkDefinition, config: trt.IBuilderConfig, precision: str) -> None:
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
