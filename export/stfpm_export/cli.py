"""`stfpm-export`: from a checkpoint to one ONNX file that is proven against PyTorch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stfpm_edge.options import parse_size
from stfpm_runtime.cli import run
from stfpm_runtime.errors import OptionError

from .exporting import AnomalibOptions, ExportOptions, export
from .parity import Parity

ANOMALIB_ONLY = ("name", "size", "calibration", "false_alarm_rate")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = _parser().parse_args(argv)
    return run("stfpm-export", lambda: _export(arguments))


def _export(arguments: argparse.Namespace) -> int:
    output = arguments.output or arguments.checkpoint.with_suffix(".onnx")
    options = ExportOptions(arguments.checkpoint, output, images=arguments.images, anomalib=_anomalib(arguments))
    spec, parity = export(options, _say)
    size = f"{options.output.stat().st_size / 1e6:.1f} MB"
    _say(f"{options.output}: {spec.backbone}, {spec.width}x{spec.height}, {spec.precision}, {size}")
    _say(_describe(parity))
    return 0


def _anomalib(arguments: argparse.Namespace) -> AnomalibOptions | None:
    given = [name for name in ANOMALIB_ONLY if getattr(arguments, name) is not None]
    if not arguments.from_anomalib:
        if given:
            raise OptionError(
                f"got --{given[0].replace('_', '-')} without --from-anomalib; one of our checkpoints has it"
            )
        return None
    values = {name: getattr(arguments, name) for name in given}
    if "size" in values:
        width, height = parse_size(values["size"])
        values["size"] = (height, width)
    return AnomalibOptions(**values)


def _describe(parity: Parity) -> str:
    return (
        f"parity with PyTorch on {parity.images} images: map within {parity.map_max_error:.1e} "
        f"(allowed {parity.tolerance:.1e}), score within {parity.score_max_error:.1e} of up to {parity.score_max:.3g}, "
        f"verdicts that flip: {parity.verdict_flips}"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stfpm-export",
        description="Fuse teacher, student, normalisation and scoring into one ONNX file: "
        "the camera's uint8 frame in, anomaly map and score out. The file is run against PyTorch before it is kept.",
    )
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="the .safetensors file that stfpm-train wrote")
    add("-o", "--output", type=Path, metavar="FILE", help="the .onnx file to write (default: beside the checkpoint)")
    add("--images", type=Path, metavar="PATH",
        help="images (a folder or one) to measure parity on (default: those stored in the checkpoint)")  # fmt: skip
    group = parser.add_argument_group("a model trained with anomalib")
    add = group.add_argument
    add(
        "--from-anomalib",
        action="store_true",
        help="CHECKPOINT is the .ckpt of anomalib's Stfpm; none of it is executed",
    )
    add(
        "--calibration", type=Path, metavar="DIR", help="good images that it was not trained on: they set the threshold"
    )
    add(
        "--false-alarm-rate",
        type=float,
        metavar="RATE",
        help="share of good parts that may be rejected (default: 0.01)",
    )
    add("--name", help="the product's name (default: the file's)")
    add("--size", metavar="SIDE|WxH", help="input size in pixels, where the checkpoint does not tell")
    return parser


if __name__ == "__main__":
    sys.exit(main())
