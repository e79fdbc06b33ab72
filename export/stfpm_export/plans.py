"""`stfpm-export --engine`: the flags of a TensorRT plan, and what they make. Needs no PyTorch for an ONNX file."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stfpm_runtime.artifact.golden import golden_path, load_golden
from stfpm_runtime.artifact.onnx_metadata import read_spec
from stfpm_runtime.engines.tensorrt.sidecar import PlanOptions, load_sidecar, sidecar_path
from stfpm_runtime.errors import EngineError, OptionError, ParityError, StfpmError
from stfpm_runtime.files import atomic_path, check_writable

if TYPE_CHECKING:
    from .export import ExportOptions

ROUNDED = ("fp16", "int8")
"""The precisions that `--precision auto` builds on a device."""
Report = Callable[[str], None]


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags that concern a plan; each is None where it was not given, as `check_plan_options` expects."""
    group = parser.add_argument_group("a TensorRT plan, built on the device that will run it")
    add = group.add_argument
    add("--engine", action="store_true", help="also build MODEL.engine from the ONNX file")
    add("--workspace", dest="workspace_mb", type=int, metavar="MB",
        help="the most memory that a layer may use (default: all)")  # fmt: skip
    add("--batches", type=_batches, metavar="MIN,BEST,MAX",
        help="the smallest batch size, the one to optimise for, the largest (default: 1,1,8)")  # fmt: skip
    add("--optimization-level", type=int, metavar="0..5",
        help="0 builds in the shortest time, 5 searches for the fastest plan (default: 3)")  # fmt: skip
    add("--timing-cache", type=Path, metavar="PATH",
        help="file or folder of measurements for the next build (default: in the user's cache)")  # fmt: skip
    add("--version-compatible", action="store_true", default=None,
        help="make a plan for the lean runtime and newer TensorRT, too")  # fmt: skip
    add("--hardware-compatible", action="store_true", default=None,
        help="make a plan for all GPUs from Ampere on (slower)")  # fmt: skip
    add("--dla", type=int, metavar="CORE",
        help="use this deep-learning accelerator of a Jetson, and the GPU for the rest")  # fmt: skip


def check_plan_options(arguments: argparse.Namespace) -> None:
    """Raise OptionError for what does not go together."""
    if arguments.engine:
        plan_options(arguments)  # raises for what makes no sense, before anything is exported
        return
    if arguments.model.suffix.lower() == ".onnx":
        raise OptionError(f"got {arguments.model}, which is exported already; expected a checkpoint, or --engine")
    for name in _given(arguments):
        flag = name.removesuffix("_mb").replace("_", "-")
        raise OptionError(f"got --{flag} without --engine; it says how a plan is built")


def plan_options(arguments: argparse.Namespace) -> PlanOptions:
    """Return the flags as options."""
    return PlanOptions(**_given(arguments))


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the flags that were given, by the names of `PlanOptions`."""
    names = [field.name for field in dataclasses.fields(PlanOptions)]
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def build_from_onnx(onnx: Path, arguments: argparse.Namespace, report: Report) -> None:
    """Build the plan of an ONNX file."""
    output = onnx.with_suffix(".engine")
    if arguments.model == onnx and arguments.output is not None:
        output = arguments.output
        if output.suffix != ".engine":
            raise OptionError(f"got --output {output}; expected a file ending in .engine")
    _build(onnx, output, plan_options(arguments), report)


def build_fastest(options: ExportOptions, arguments: argparse.Namespace, report: Report) -> None:
    """Export and build fp16 and int8, and keep int8 only if it is faster here and both its proofs hold."""
    from .auto import median_latencies
    from .export import export_checkpoint

    check_writable(options.output)
    with tempfile.TemporaryDirectory(dir=options.output.parent) as folder:
        built = []
        for precision in ROUNDED:
            onnx = Path(folder) / f"{precision}.onnx"
            try:
                export_checkpoint(
                    dataclasses.replace(options, output=onnx, precision=precision, target="tensorrt"), report
                )
                _build(onnx, onnx.with_suffix(".engine"), plan_options(arguments), report)
            except (ParityError, EngineError) as error:
                report(f"{precision}: left out, {error}")
                continue
            built.append(onnx)
        if not built:
            raise StfpmError(
                f"{options.checkpoint}: neither fp16 nor int8 can be built and proven; try --precision fp32"
            )
        plans = [onnx.with_suffix(".engine") for onnx in built]
        times = median_latencies(plans, np.zeros(read_spec(built[0]).input_shape, np.uint8), "auto")
        for onnx, spent in zip(built, times, strict=True):
            report(f"{onnx.stem}: {spent:.2f} ms a frame, copies included")
        best = built[int(np.argmin(times))]
        _keep(best, options.output)
        report(f"{options.output.with_suffix('.engine')}: {best.stem} is kept")


def _build(onnx: Path, output: Path, options: PlanOptions, report: Report) -> None:
    load_golden(golden_path(onnx))  # tells that it is missing before TensorRT is looked for
    from stfpm_runtime.engines.tensorrt.build import build_plan

    plan = build_plan(onnx, output, options, report)
    report(
        f"{output}: {plan.spec.precision}, {plan.typing}ly typed, {output.stat().st_size / 1e6:.1f} MB, {plan.built_on}"
    )


def _keep(onnx: Path, output: Path) -> None:
    """Put an ONNX file, its golden file, its plan and the plan's sidecar in their place, what each needs before it."""
    plan, kept = onnx.with_suffix(".engine"), output.with_suffix(".engine")
    load_sidecar(plan)
    pairs = [
        (golden_path(onnx), golden_path(output)),
        (onnx, output),
        (plan, kept),
        (sidecar_path(plan), sidecar_path(kept)),
    ]
    for source, place in pairs:
        with atomic_path(place) as unfinished:
            shutil.copyfile(source, unfinished)


def _batches(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected three numbers such as 1,1,8")
    least, best, most = map(int, parts)
    return least, best, most
