"""`stfpm-selftest`: tries every engine of this machine on a model, and prints one report to attach to a bug report."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from stfpm_runtime.cli import run
from stfpm_runtime.errors import OptionError, OutputError, StfpmError
from stfpm_runtime.files import atomic_path, check_writable

from .selftest import SelftestOptions, run_selftest
from .target import ANY_ENGINE_PRECISIONS

SIDES = (64, 256)
"""Input sides of the sample models, in pixels: a tiny one, and one of real size."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `stfpm-selftest` and return the exit code: 0 if no trial failed, else 1."""
    parser = argparse.ArgumentParser(
        prog="stfpm-selftest",
        description="Run a model with every engine of this machine (ONNX Runtime on CPU and GPU, TensorRT). Report the "
        "agreement with PyTorch, the latency with and without CUDA graphs and after a pause, and all versions. "
        "Attach the output to a bug report.",
    )
    add = parser.add_argument
    add("models", type=Path, nargs="*", metavar="MODEL.onnx",
        help="exported models with their golden files (default: six models are made, which needs PyTorch)")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write the report to this file")
    add("--runs", type=int, default=200, metavar="N", help="the number of timed frames in each trial (default: 200)")
    add("--quick", action="store_true", help="leave out the pause of 10 seconds in each trial")
    arguments = parser.parse_args(argv)
    return run("stfpm-selftest", lambda: _selftest(arguments))


def _selftest(arguments: argparse.Namespace) -> int:
    if arguments.runs < 1:
        raise OptionError(f"got {arguments.runs} runs; expected 1 or more")
    if arguments.json:
        check_writable(arguments.json, arguments.models)
    with tempfile.TemporaryDirectory() as folder:
        models = tuple(arguments.models) or _make_models(Path(folder))
        idle = (0.1,) if arguments.quick else SelftestOptions.idle_s
        results = run_selftest(SelftestOptions(models, Path(folder), arguments.runs, idle), _say)
    text = json.dumps(results, indent=1, allow_nan=False)
    if arguments.json:
        try:
            with atomic_path(arguments.json) as unfinished:
                unfinished.write_text(text + "\n", encoding="utf-8")
        except OutputError:
            print(text)
            raise
    else:
        print(text)
    failed = [trial for trial in results["trials"] if "error" in trial]
    if failed:
        raise StfpmError(f"{len(failed)} of {len(results['trials'])} trials failed, the first: {failed[0]['error']}")
    return 0


def _make_models(folder: Path) -> tuple[Path, ...]:
    if find_spec("torch") is None or find_spec("onnx") is None:
        raise OptionError(
            "got no model, and PyTorch is not here to make one; expected one or more MODEL.onnx that stfpm-export "
            "wrote, with their golden files, or: pip install 'stfpm-edge[export]'"
        )
    from stfpm_edge.checkpoint import save_checkpoint

    from .export import ExportOptions, export_checkpoint
    from .sample import sample_checkpoint

    made = []
    for side in SIDES:
        checkpoint = folder / f"sample{side}.safetensors"
        save_checkpoint(sample_checkpoint(side), checkpoint)
        for precision in ANY_ENGINE_PRECISIONS:
            output = folder / f"sample{side}_{precision}.onnx"
            options = ExportOptions(checkpoint, output, precision=precision, target="tensorrt", allow_parity_loss=True)
            spec, parity = export_checkpoint(options, _say)
            _say(
                f"{output.name}: made, map within {parity.map_max_error:.1e} of PyTorch, threshold {spec.threshold:.3g}"
            )
            made.append(output)
    return tuple(made)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
