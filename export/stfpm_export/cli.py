"""`stfpm-export`: from a checkpoint to one ONNX file that is proven against PyTorch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stfpm_runtime.cli import run

from .exporting import ExportOptions, export
from .parity import Parity


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = _parser().parse_args(argv)
    return run("stfpm-export", lambda: _export(arguments))


def _export(arguments: argparse.Namespace) -> int:
    output = arguments.output or arguments.checkpoint.with_suffix(".onnx")
    options = ExportOptions(checkpoint=arguments.checkpoint, output=output, images=arguments.images)
    spec, parity = export(options, _say)
    size = f"{options.output.stat().st_size / 1e6:.1f} MB"
    _say(f"{options.output}: {spec.backbone}, {spec.width}x{spec.height}, {spec.precision}, {size}")
    _say(_describe(parity))
    return 0


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
    return parser


if __name__ == "__main__":
    sys.exit(main())
