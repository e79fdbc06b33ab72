"""Compare the precisions of exported files on products with known defects.

    python -m benchmarks.experiments.accuracy.precisions CHECKPOINT=DATA... --json FILE

Each checkpoint is exported in each precision, int8 for each target, also where its parity does not hold. The record
holds its certificate: errors against PyTorch on good images and synthetic defects, and the image AUROC, pixel AUROC and
PRO on the test images. ONNX Runtime executes the files for TensorRT. `median_ms` is the time for one frame, measured by
turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stfpm_edge.checkpoint import load_checkpoint
from stfpm_export.auto import median_latencies
from stfpm_export.cli import accuracy_on
from stfpm_export.export import ExportOptions, export_checkpoint
from stfpm_export.target import TARGETS, Target
from stfpm_runtime.cli import run
from stfpm_runtime.files import atomic_path
from stfpm_runtime.machine import describe_machine

from .heads import checkpoint_and_data

EXPORTS: tuple[tuple[str, Target], ...] = (
    ("fp32", "cpu"), ("fp16", "cpu"), ("fp32", "openvino"), ("bf16", "openvino"),
    *(("int8", target) for target in TARGETS),
)  # fmt: skip
COMMAND = "python -m benchmarks.experiments.accuracy.precisions CHECKPOINT=DATA... --json FILE"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.accuracy.precisions", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("pairs", nargs="+", metavar="CHECKPOINT=DATA", help="a checkpoint, and its product's category")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="the figures")
    arguments = parser.parse_args(argv)
    return run("precisions", lambda: _compare(arguments.pairs, arguments.json))


def _compare(pairs: Sequence[str], path: Path) -> int:
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        for row in _rows(*checkpoint_and_data(pair)):
            print(json.dumps(row), file=sys.stderr)
            rows.append(row)
    record = {"schema": 2, "command": COMMAND, "machine": dataclasses.asdict(describe_machine()), "rows": rows}
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


def _rows(checkpoint: Path, data: Path) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        paths, rows = [Path(folder) / f"{precision}_{target}.onnx" for precision, target in EXPORTS], []
        for path, (precision, target) in zip(paths, EXPORTS, strict=True):
            options = ExportOptions(checkpoint, path, precision=precision, target=target, allow_parity_loss=True)
            spec, parity = export_checkpoint(options, lambda line: print(line, file=sys.stderr), accuracy_on(data))
            row = {
                "data": data.name, "recipe": spec.recipe, "seed": spec.training["options"]["seed"],
                "precision": precision, "target": target, "bytes": path.stat().st_size,
            }  # fmt: skip
            rows.append(row | parity.to_dict())
        loaded = load_checkpoint(checkpoint)
        times = median_latencies(paths, [*loaded.held_out_images, *loaded.train_images][0])
    return [row | {"median_ms": round(time_ms, 3)} for row, time_ms in zip(rows, times, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
