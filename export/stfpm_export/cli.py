"""`stfpm-export`: from a checkpoint to one ONNX file that is proven against PyTorch, and on to a TensorRT plan.

On a device without PyTorch it makes the plan from the ONNX file: what needs PyTorch is imported where it is used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stfpm_runtime.artifact.golden import golden_path
from stfpm_runtime.cli import run
from stfpm_runtime.engines import Engine
from stfpm_runtime.errors import OptionError

from .plans import add_plan_options, build_fastest, build_from_onnx, check_plan_options
from .target import AUTO, PRECISIONS, TARGETS

if TYPE_CHECKING:
    from stfpm_runtime.artifact.spec import Spec

    from .auto import MeasureAccuracy
    from .export import AnomalibOptions, ExportOptions
    from .parity import ParityReport


CHECKPOINT_OPTIONS: dict[str, object] = {
    "precision": "fp32", "target": None, "size": None, "batch": None, "images": None, "calibration": None,
    "evaluate": None, "accept_data": False, "allow_parity_loss": False, "from_anomalib": False,
    "false_alarm_rate": None, "name": None,
}  # fmt: skip
"""Options that concern the export of a checkpoint, not that of a plan from an ONNX file, and their defaults."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `stfpm-export` and return the exit code."""
    arguments = _parser().parse_args(argv)
    return run("stfpm-export", lambda: _export(arguments))


def _export(arguments: argparse.Namespace) -> int:
    check_plan_options(arguments)
    _check_effects(arguments)
    if arguments.model.suffix.lower() == ".onnx":
        build_from_onnx(arguments.model, arguments, _say)
        return 0
    from .export import export_checkpoint

    options = _options(arguments)
    if arguments.engine:
        import stfpm_runtime.engines.tensorrt.build  # noqa: F401 (raises before any work where TensorRT is missing)
    if arguments.engine and options.precision == AUTO:
        build_fastest(options, arguments, _say)
        return 0
    spec, parity = export_checkpoint(options, _say, accuracy_on(arguments.evaluate))
    _describe(options.output, spec, parity)
    if arguments.engine:
        build_from_onnx(options.output, arguments, _say)
    return 0


def _check_effects(arguments: argparse.Namespace) -> None:
    """Raise OptionError for an option that would have no effect."""
    if arguments.model.suffix.lower() == ".onnx":
        for name, default in CHECKPOINT_OPTIONS.items():
            if getattr(arguments, name) != default:
                raise OptionError(
                    f"got {_flag(name)} with {arguments.model}, which is exported already; "
                    "give the option where the checkpoint is exported"
                )
    if arguments.engine and arguments.precision == AUTO:
        if arguments.evaluate:
            raise OptionError("got --evaluate with --engine and --precision auto; expected one precision, say int8")
        if arguments.target not in (None, "tensorrt"):
            raise OptionError(f"got --target {arguments.target} with --engine; a plan is built for tensorrt")
    if arguments.calibration is None:
        for name in ("false_alarm_rate", "accept_data"):
            if getattr(arguments, name) not in (None, False):
                raise OptionError(f"got {_flag(name)} without --calibration, whose pictures it concerns; add them")
    elif arguments.precision not in ("int8", AUTO) and not arguments.from_anomalib:
        raise OptionError(
            f"got --calibration {arguments.calibration} with --precision {arguments.precision}, on which it has no "
            "effect; expected --precision int8 or auto, or --from-anomalib: leave the option out"
        )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _describe(output: Path, spec: Spec, parity: ParityReport) -> None:
    from .parity import describe_parity

    size = f"{output.stat().st_size / 1e6:.1f} MB"
    _say(f"{output}: {spec.backbone}, {spec.width}x{spec.height}, {spec.precision} for {spec.target}, {size}")
    _say(describe_parity(parity))
    _say(f"{golden_path(output)}: keep it next to the model; with it, any device can repeat the comparison")


def _options(arguments: argparse.Namespace) -> ExportOptions:
    from .export import ExportOptions

    return ExportOptions(
        arguments.model,
        arguments.output or arguments.model.with_suffix(".onnx"),
        precision=arguments.precision,
        target=arguments.target or ("tensorrt" if arguments.engine else "cpu"),
        size=_size(arguments.size),
        batch=arguments.batch,
        images=arguments.images,
        calibration=arguments.calibration,
        accept_data=arguments.accept_data,
        allow_parity_loss=arguments.allow_parity_loss,
        anomalib=_anomalib(arguments),
    )


def accuracy_on(data: Path | None) -> MeasureAccuracy | None:
    """Return what `--evaluate` adds: a function that measures an engine on the labelled images of one category.

    `stfpm_eval` is imported only where it is asked for. Raises OptionError for more or fewer categories than one.
    """
    if data is None:
        return None
    import numpy as np

    from stfpm_eval.data import find_categories
    from stfpm_eval.evaluate import evaluate

    from .parity import Accuracy

    categories = find_categories(data)
    if len(categories) != 1:
        raise OptionError(f"got --evaluate {data} with {len(categories)} categories; expected the product's own")

    def accuracy(engine: Engine) -> Accuracy:
        result = evaluate(engine, categories[0])
        figures = {name: getattr(result, name) for name in ("image_auroc", "pixel_auroc", "pro", "missed")}
        kept = {name: float(value) for name, value in figures.items() if value is not None}
        return Accuracy(kept, np.array(result.good_scores), np.array(result.defect_scores))

    return accuracy


def _anomalib(arguments: argparse.Namespace) -> AnomalibOptions | None:
    given = {name: getattr(arguments, name) for name in ("name", "false_alarm_rate")}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.from_anomalib:
        from .export import AnomalibOptions

        return AnomalibOptions(**given)
    for name in given:
        raise OptionError(f"got {_flag(name)} without --from-anomalib; one of our checkpoints has it")
    return None


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    from stfpm_edge.options import parse_size

    width, height = parse_size(text)
    return height, width


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stfpm-export",
        description="Write teacher, student, normalisation and scoring as one ONNX file. Its input is the "
        "camera's uint8 frame; its outputs are the anomaly map and the score. The file is compared with PyTorch before "
        "it is kept.",
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL",
        help="the .safetensors checkpoint from stfpm-train; with --engine also an exported .onnx")  # fmt: skip
    add("-o", "--output", type=Path, metavar="FILE", help="write this .onnx file (default: in the folder of MODEL)")
    add("--precision", default="fp32", choices=(*PRECISIONS, AUTO),
        help="the precision of the backbones (default: fp32); auto keeps the one that is fastest on this machine "
        "and agrees with PyTorch")  # fmt: skip
    add("--target", choices=TARGETS, help="the program that will run the file: ONNX Runtime (cpu, the default), "
        "OpenVINO (faster on x86) or TensorRT (the default with --engine)")  # fmt: skip
    add("--size", metavar="SIDE|WxH", help="the input size in pixels (default: the size in the checkpoint)")
    add("--batch", type=int, metavar="N", help="the number of frames in one run of the file (default: any number)")
    add("--calibration", type=Path, metavar="DIR",
        help="good images that the model was not trained on, for the value ranges of int8 (default: images of the "
        "checkpoint) and for the threshold of an anomalib model")  # fmt: skip
    add("--accept-data", action="store_true",
        help="calibrate even if the check of the pictures finds doubtful ones")  # fmt: skip
    add("--images", type=Path, metavar="PATH",
        help="compare with PyTorch on this image or folder (default: images of the checkpoint)")  # fmt: skip
    add("--evaluate", type=Path, metavar="DATA",
        help="a category with labelled test images; print how much AUROC and PRO the precision costs")  # fmt: skip
    add(
        "--allow-parity-loss", action="store_true", help="write the file even if it disagrees with PyTorch, and mark it"
    )
    group = parser.add_argument_group("a model trained with anomalib")
    add = group.add_argument
    add("--from-anomalib", action="store_true",
        help="MODEL is a .ckpt file of anomalib's Stfpm; no code in it is executed")  # fmt: skip
    add("--false-alarm-rate", type=float, metavar="RATE",
        help="the share of good parts that may be rejected (default: 0.01)")  # fmt: skip
    add("--name", help="the name of the product (default: the name of the file)")
    add_plan_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
