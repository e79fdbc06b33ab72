"""How fast an exported graph is: precisions, engines, rewrites and other people's exports, by turns in one process.

    python -m stfpm_bench.export_speed bottle.safetensors --json results.json \
        --peer "anomalib fp32=model.onnx" --peer "anomalib OpenVINO int8=model_int8.xml"

The network alone, batch 1: no resize, no copies but the engine's own. Peers come from `benchmarks/peers`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import openvino

from stfpm_edge.checkpoint import Checkpoint, load_checkpoint
from stfpm_export.arithmetic import Float16, Float32
from stfpm_export.fused_graph import build_graph
from stfpm_export.quantisation import Int8
from stfpm_export.ranges import measure_ranges
from stfpm_export.target import Target
from stfpm_runtime.cli import run
from stfpm_runtime.engines.openvino import CONFIGURATION
from stfpm_runtime.errors import OptionError
from stfpm_runtime.files import atomic_path

from .graph_profile import shares
from .rewrites import REWRITES

PAUSE = 0.05
"""Seconds before each timed frame: ONNX Runtime's threads spin on for tens of milliseconds, on the next one's cores."""

Runner = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Variant:
    """A file and what runs it."""

    name: str
    engine: str
    """`ONNX Runtime` or `OpenVINO`."""
    path: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = _parser().parse_args(argv)
    return run("export_speed", lambda: _measure(arguments))


def _measure(arguments: argparse.Namespace) -> int:
    checkpoint = load_checkpoint(arguments.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        peers = [_peer(text) for text in arguments.peer]
        variants = [*_variants(checkpoint, Path(folder)), *peers]
        times = _by_turns(variants, arguments.runs, checkpoint)
        rows = [_row(variant, own) for variant, own in zip(variants, times, strict=True)]
        ours = [variant for variant in variants if variant.name.startswith("int8, all")]
        where = {f"{variant.name}, {variant.engine}": shares(variant.engine, variant.path) for variant in ours}
    result = {
        "schema": 1,
        "command": "python -m stfpm_bench.export_speed CHECKPOINT --peer ... --json FILE",
        "machine": _machine(),
        "runs": arguments.runs,
        "input": [1, checkpoint.spec.height, checkpoint.spec.width, 3],
        "rows": rows,
        "int8_time_by_kind": where,
    }
    _print(result)
    if arguments.json:
        with atomic_path(arguments.json) as unfinished:
            unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _variants(checkpoint: Checkpoint, folder: Path) -> Iterator[Variant]:
    """Ours: all precisions in both engines, and float32 and int8 without each rewrite."""
    targets: list[tuple[str, Target]] = [("ONNX Runtime", "cpu"), ("OpenVINO", "openvino")]
    for engine, target in targets:
        path = folder / f"fp16-{target}.onnx"
        onnx.save(build_graph(checkpoint, Float16(), target), path)
        yield Variant("fp16, all rewrites", engine, path)
        for number, (rewrite, writers) in enumerate(REWRITES.items()):
            ranges = measure_ranges(checkpoint, checkpoint.train_images[:8], writers=writers)
            for arithmetic in (Float32(), Int8(ranges, target)):
                path = folder / f"{arithmetic.precision}-{target}-{number}.onnx"
                onnx.save(build_graph(checkpoint, arithmetic, target, writers=writers), path)
                yield Variant(f"{arithmetic.precision}, {rewrite}", engine, path)


def _peer(text: str) -> Variant:
    name, separator, path = text.partition("=")
    if not separator or not Path(path).is_file():
        raise OptionError(f"got --peer {text}; expected NAME=FILE with a .onnx or OpenVINO's .xml file")
    return Variant(name, "OpenVINO" if path.endswith(".xml") else "ONNX Runtime", Path(path))


def _by_turns(variants: Sequence[Variant], runs: int, checkpoint: Checkpoint) -> list[list[float]]:
    """Milliseconds of each timed frame of each variant; one untimed frame before each wakes the threads."""
    runners = [_runner(variant, checkpoint) for variant in variants]
    times: list[list[float]] = [[] for _ in runners]
    for turn in range(runs + 2):
        for runner, own in zip(runners, times, strict=True):
            time.sleep(PAUSE)
            runner()
            started = time.perf_counter()
            runner()
            if turn >= 2:
                own.append(1e3 * (time.perf_counter() - started))
    return times


def _runner(variant: Variant, checkpoint: Checkpoint) -> Runner:
    spec, rng = checkpoint.spec, np.random.default_rng(0)
    frame = rng.integers(0, 256, (1, spec.height, spec.width, 3), np.uint8)
    if variant.engine == "OpenVINO":
        core = openvino.Core()
        model = core.read_model(variant.path)
        image = _input(model.inputs[0].get_partial_shape().rank.get_length(), model.inputs[0].element_type, frame)
        model.reshape({model.inputs[0]: list(image.shape)})
        request = core.compile_model(model, "CPU", CONFIGURATION).create_infer_request()
        return lambda: request.infer([image])
    session = ort.InferenceSession(variant.path, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0]
    feed = {wanted.name: frame if wanted.type == "tensor(uint8)" else _planes(frame)}
    return lambda: session.run(None, feed)


def _input(rank: int, kind: openvino.Type, frame: np.ndarray) -> np.ndarray:
    assert rank == frame.ndim, "an image"
    return frame if kind == openvino.Type.u8 else _planes(frame)


def _planes(frame: np.ndarray) -> np.ndarray:
    """What others' graphs take: float32 [1, 3, H, W], 0 to 1."""
    return np.ascontiguousarray(frame.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def _row(variant: Variant, times: Sequence[float]) -> dict[str, object]:
    p10, p50, p90 = np.percentile(times, [10, 50, 90])
    return {
        "name": variant.name,
        "engine": variant.engine,
        "p50_ms": round(float(p50), 3),
        "p10_ms": round(float(p10), 3),
        "p90_ms": round(float(p90), 3),
    }


def _machine() -> dict[str, object]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cpu": openvino.Core().get_property("CPU", "FULL_DEVICE_NAME"),
        "onnxruntime": ort.__version__,
        "openvino": openvino.__version__,
    }


def _print(result: dict[str, object]) -> None:
    rows = result["rows"]
    assert isinstance(rows, list), "just made"
    for row in rows:
        print(
            f"{row['engine']:14}{row['name']:52}{row['p50_ms']:8.2f} ms  ({row['p10_ms']:.2f} to {row['p90_ms']:.2f})"
        )
    print(json.dumps(result["int8_time_by_kind"], indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stfpm_bench.export_speed", description="How fast exported graphs are, by turns in one process."
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="a .safetensors file that stfpm-train wrote")
    add("--peer", action="append", default=[], metavar="NAME=FILE", help="another export, .onnx or OpenVINO's .xml")
    add("--runs", type=int, default=60, help="timed frames of each (default: 60)")
    add("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
