"""Compare files of one graph, quantised by different tools, with the float32 file on a product with known defects.

    python -m benchmarks.experiments.accuracy.quantisers DATA FP32.onnx OTHER.onnx... --json FILE

`peers/quantise.py` makes such files. ONNX Runtime executes all of them. The errors are those of the scores of all test
pictures, as shares of the float32 file's scores: their median, and the share of the pictures with more than 20%.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stfpm_eval.data import read_category
from stfpm_eval.evaluate import evaluate
from stfpm_runtime.cli import run
from stfpm_runtime.engines import open_engine
from stfpm_runtime.machine import describe_machine

COMMAND = "python -m benchmarks.experiments.accuracy.quantisers DATA FP32.onnx OTHER.onnx... --json FILE"
LARGE = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.accuracy.quantisers", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("data", type=Path, help="a category with test and ground_truth")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="the float32 file, then the others")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="the record; rows are added to it")
    arguments = parser.parse_args(argv)
    return run("quantisers", lambda: _compare(arguments.data, arguments.files, arguments.json))


def _compare(data: Path, files: Sequence[Path], record: Path) -> int:
    rows = json.loads(record.read_text(encoding="utf-8"))["rows"] if record.is_file() else []
    reference = None
    for file in files:
        with contextlib.closing(open_engine(file, "onnxruntime")) as engine:
            figures = evaluate(engine, read_category(data))
        scores = np.array([*figures.good_scores, *figures.defect_scores])
        reference = scores if reference is None else reference
        errors = np.abs(scores / reference - 1)
        row: dict[str, Any] = {
            "data": data.name, "file": file.name, "score_error": round(float(np.median(errors)), 4),
            "large_errors": round(float((errors > LARGE).mean()), 4), "image_auroc": round(figures.image_auroc, 4),
            "pixel_auroc": figures.pixel_auroc and round(figures.pixel_auroc, 4),
            "pro": figures.pro and round(figures.pro, 4),
        }  # fmt: skip
        print(json.dumps(row), file=sys.stderr)
        rows.append(row)
    text = {"schema": 1, "command": COMMAND, "machine": dataclasses.asdict(describe_machine()), "rows": rows}
    record.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
