"""From an ONNX file to a TensorRT plan, on the device that will run it, without PyTorch.

A plan is kept only if the inspector finds it in the precision that was asked for, and if it gives PyTorch's results on
the golden images.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from stfpm_runtime.artifact.golden import golden_path, load_golden
from stfpm_runtime.artifact.onnx_metadata import read_spec
from stfpm_runtime.artifact.parity import require_parity
from stfpm_runtime.errors import ArtifactError, EngineError
from stfpm_runtime.files import atomic_path, check_writable, sha256

from .audit import audit, convolution_types
from .builder import PlanBuilder, Report
from .cuda import open_cuda
from .engine import Log, TensorRtEngine, deserialise, this_machine
from .options import PlanOptions
from .package import find_tensorrt, is_lean
from .sidecar import Plan, load_sidecar, save_sidecar, sidecar_path

try:
    import tensorrt as trt
except (ImportError, OSError, RuntimeError):
    trt = find_tensorrt()

NOT_KEPT = "the plan is not kept: try another --precision or TensorRT version, or use --device cuda"


def build_plan(onnx: Path, output: Path, options: PlanOptions, report: Report) -> Plan:
    """Build `output` from an ONNX file, and its sidecar; both are whole or as they were before.

    Raises ArtifactError for a file that TensorRT cannot use, EngineError where building fails, ParityError where the
    plan computes something else than PyTorch.
    """
    if is_lean(trt):
        raise EngineError("the lean runtime runs plans and builds none; install the whole of TensorRT to build one")
    spec = read_spec(onnx)
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
            plan = _prove(unfinished, builder.describe(unfinished, typing), golden_path(onnx), report)
        finally:
            sidecar_path(unfinished).unlink(missing_ok=True)
    save_sidecar(plan, output)
    return plan


def _prove(unfinished: Path, plan: Plan, golden: Path, report: Report) -> Plan:
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
    """How many convolutions of a plan run in which type."""
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
