"""All that is to be known of a GPU in one go, in under ten minutes, wherever one turns up.

    python -m benchmarks.experiments.gpu --json benchmarks/results/gpu.json

PyTorch eager, compiled and in a CUDA graph; ONNX Runtime's CUDA provider with and without graphs; TensorRT, where it is
installed: in fp32, fp16 and int8, for 1, 8 and 32 frames, by turns in one process, copies from and to the host
included; how far each is from PyTorch's float32 on that GPU; and how much of the time no kernel runs. Without a GPU the
same runs on the CPU, with what there is: a rehearsal, marked as one.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stfpm_edge.checkpoint import save_checkpoint
from stfpm_edge.model import Stfpm
from stfpm_export.export import ExportOptions, export_checkpoint
from stfpm_export.sample import sample_checkpoint
from stfpm_export.target import ANY_ENGINE_PRECISIONS
from stfpm_runtime.cli import run
from stfpm_runtime.files import atomic_path, check_writable
from stfpm_runtime.machine import describe_machine
from stfpm_runtime.timing import time_by_turns

from .gpu_contenders import EAGER, Infer, contenders, pytorch, say

WARM_UP = 10


@dataclass(frozen=True)
class Options:
    """What to run."""

    device: str
    batches: tuple[int, ...] = (1, 8, 32)
    seconds: float = 6.0
    """Timed work for each number of frames and contender, about."""
    side: int = 256
    compiles: bool = True


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.gpu", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--json", type=Path, required=True, metavar="FILE", help="the results; written after every step")
    add("--batches", type=int, nargs="+", default=list(Options.batches), metavar="N")
    add("--seconds", type=float, default=Options.seconds, help="timed work for each contender (default: 6)")
    add("--side", type=int, default=Options.side, metavar="PIXELS", help="of the images (default: 256)")
    add("--no-compile", action="store_true", help="without torch.compile, which takes minutes by itself")
    arguments = parser.parse_args(argv)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = Options(device, tuple(arguments.batches), arguments.seconds, arguments.side, not arguments.no_compile)
    return run("gpu", lambda: _benchmark(options, arguments.json))


def _benchmark(options: Options, output: Path) -> int:
    check_writable(output)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    results: dict[str, Any] = {
        "schema": 1,
        "command": f"python -m benchmarks.experiments.gpu --json {output}",
        "machine": dataclasses.asdict(describe_machine()),
        "device": options.device if options.device == "cpu" else torch.cuda.get_device_name(),
        "is_rehearsal": options.device == "cpu",
        "failed": {},
        "rows": [],
    }
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        model = _prepare(options, Path(folder))
        images = _images(options, max(options.batches))
        reference = pytorch(model.to(options.device), options.device)(images)
        ready: dict[str, Infer] = {}
        for name, make in contenders(
            model, options.device, Path(folder), stack, most=max(options.batches), compiles=options.compiles
        ):
            try:
                infer = make()
                for frames in options.batches:
                    infer(images[:frames])
                ready[name] = infer
            except Exception as error:  # what fails on this machine is a finding; the others go on
                results["failed"][name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            say(f"{name}: {results['failed'].get(name, 'ready')}")
        for frames in options.batches:
            results["rows"] += _race(ready, images[:frames], reference, options)
            with atomic_path(output) as unfinished:
                unfinished.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def _prepare(options: Options, folder: Path) -> Stfpm:
    """Export the sample model in all precisions."""
    checkpoint = sample_checkpoint(options.side)
    save_checkpoint(checkpoint, folder / "sample.safetensors")
    for precision in ANY_ENGINE_PRECISIONS:
        export_checkpoint(
            ExportOptions(
                folder / "sample.safetensors", folder / f"{precision}.onnx", precision=precision, target="tensorrt",
                allow_parity_loss=True,
            ),
            say,
        )  # fmt: skip
    return checkpoint.model()


def _race(
    contenders: dict[str, Infer],
    images: npt.NDArray[np.uint8],
    reference: Sequence[npt.NDArray[np.float32]],
    options: Options,
) -> list[dict[str, Any]]:
    """Return a row for each contender at one number of frames, all timed by turns."""
    calls = [functools.partial(infer, images) for infer in contenders.values()]
    round_ms = sum(float(np.median(own)) for own in time_by_turns(calls, WARM_UP))
    rounds = max(round(1e3 * options.seconds * len(calls) / (2 * max(round_ms, 1e-3))), 2)  # each call is made twice
    times = dict(zip(contenders, time_by_turns(calls, rounds), strict=True))
    eager_ms = float(np.median(times[EAGER])) if EAGER in times else float("nan")
    rows = []
    for name, infer in contenders.items():
        maps, scores = infer(images)
        rows.append({
            "contender": name,
            "frames": len(images),
            "runs": len(times[name]),
            "p50_ms": round(float(np.percentile(times[name], 50)), 4),
            "p99_ms": round(float(np.percentile(times[name], 99)), 4),
            "times_faster_than_eager": round(eager_ms / float(np.median(times[name])), 3),
            "map_max_error": float(np.abs(maps - reference[0][: len(images)]).max()),
            "score_max_error": float(np.abs(scores - reference[1][: len(images)]).max()),
            "idle_share": _idle_share(infer, images) if options.device == "cuda" else None,
        })  # fmt: skip
        speed = f"{rows[-1]['p50_ms']:.3f} ms, {rows[-1]['times_faster_than_eager']} x eager"
        say(f"{len(images):3} frames, {name}: {speed}")
    return rows


def _idle_share(infer: Infer, images: npt.NDArray[np.uint8], runs: int = 30) -> float | None:
    """Return the share of a run's time without kernel and copy, by CUPTI; None where it tells nothing."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        started = time.perf_counter()
        for _ in range(runs):
            infer(images)
        torch.cuda.synchronize()
        wall_us = 1e6 * (time.perf_counter() - started)
    busy = sum(event.device_time_total for event in profiler.events() if event.device_type.name == "CUDA")
    return round(1 - busy / wall_us, 4) if busy else None


def _images(options: Options, count: int) -> npt.NDArray[np.uint8]:
    checkpoint = sample_checkpoint(options.side)
    own = [*checkpoint.train_images, *checkpoint.held_out_images]
    return np.stack([own[number % len(own)] for number in range(count)])


if __name__ == "__main__":
    sys.exit(main())
