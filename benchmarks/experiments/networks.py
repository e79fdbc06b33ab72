"""Compare the networks with fewer operations with the full ResNet-18: multiply-adds and int8 latency.

    python -m benchmarks.experiments.networks --json networks.json

Latency is that of the int8 file, batch 1, measured by turns in one process. The processor time of one thread is the
figure that other programs on the machine disturb least. The networks have random weights, which changes nothing in the
time. `benchmarks.experiments.accuracy.recipes --backbone NAME --precision int8` measures their accuracy.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch

from stfpm_bench.graph_cost import count_costs
from stfpm_edge.checkpoint import Checkpoint
from stfpm_edge.networks import HALF, SMALL_STUDENTS, Pyramid, default_blocks, new_student
from stfpm_edge.teacher import fingerprint
from stfpm_export.graph.backbones import build_graph
from stfpm_export.graph.int8 import Int8
from stfpm_export.graph.ranges import measure_ranges
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.cli import run
from stfpm_runtime.engines import open_engine
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.machine import describe_machine
from stfpm_runtime.timing import time_by_turns

from .line.loop import show_result

FULL = "resnet18"
NETWORKS = (FULL, HALF, *SMALL_STUDENTS)
PAUSE_S = 0.05
"""Seconds before a timed frame: threads of the frame before may still use the processor."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.networks", description="Compare networks with fewer operations."
    )
    add = parser.add_argument
    add("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, metavar="NAME", help="these and no others")
    add("--size", type=int, default=256, metavar="SIDE", help="height and width of the input, in pixels (256)")
    add("--rounds", type=int, default=60, metavar="N", help="timed frames of each file and number of threads (60)")
    add(
        "--threads", type=int, nargs="+", default=[], metavar="N", help="measure the wall time with so many threads too"
    )
    add("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args(argv)
    return run("networks", lambda: _measure(arguments))


def _measure(arguments: argparse.Namespace) -> int:
    result: dict[str, object] = {
        "schema": 1,
        "command": "python -m benchmarks.experiments.networks "
        f"--size {arguments.size} --rounds {arguments.rounds} "
        + " ".join(["--threads", *map(str, arguments.threads), ""] if arguments.threads else [])
        + "--json FILE",
        "engine": "ONNX Runtime, CPU",
        "machine": dataclasses.asdict(describe_machine()),
        "networks": measure_speed(arguments.networks, arguments.size, arguments.rounds, arguments.threads),
    }
    return show_result(result, arguments.json)


def measure_speed(
    networks: Sequence[str], side: int, rounds: int, threads: Sequence[int]
) -> dict[str, dict[str, object]]:
    """Return each network's multiply-adds and the median times of its int8 file in ms, also as shares of the first's.

    `cpu_ms` is processor time, with one thread; `wall_ms_N_threads` is what a caller waits.
    """
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        paths = [write_int8(network, image, Path(folder) / f"{network}.onnx") for network in networks]
        macs = [sum(cost.macs for cost in count_costs(path).values()) for path in paths]

        def calls(count: int) -> list[Callable[[], object]]:
            engines = [stack.enter_context(contextlib.closing(open_engine(path, "cpu", count))) for path in paths]
            return [partial(engine.infer, image[np.newaxis]) for engine in engines]

        medians = {"cpu_ms": _medians(time_by_turns(calls(1), rounds, clock=time.thread_time))}
        for count in threads:
            medians[f"wall_ms_{count}_threads"] = _medians(time_by_turns(calls(count), rounds, PAUSE_S))
    rows: dict[str, dict[str, object]] = {}
    for number, network in enumerate(networks):
        rows[network] = {
            "blocks": default_blocks(network),
            "mega_macs": round(macs[number] / 1e6),
            "macs_share": round(macs[number] / macs[0], 3),
        }
        for name, each in medians.items():
            rows[network][name] = round(each[number], 2)
            rows[network][f"{name}_share"] = round(each[number] / each[0], 3)
    return rows


def _medians(times: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.median(each) for each in times]


def write_int8(network: str, image: Image, path: Path) -> Path:
    """Write the int8 file of a network with random weights."""
    blocks = default_blocks(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = Pyramid(network, blocks).eval().requires_grad_(False)
    student = new_student(network, blocks, 1, teacher).eval().requires_grad_(False)
    height, width = image.shape[:2]
    spec = Spec(network, height, width, network, blocks, "random", fingerprint(teacher), threshold=0.5)
    checkpoint = Checkpoint(spec, teacher, student)
    onnx.save(build_graph(checkpoint, Int8(measure_ranges(checkpoint, [image]), "cpu")), path)
    return path


if __name__ == "__main__":
    sys.exit(main())
