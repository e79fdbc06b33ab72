"""Compare the networks with fewer operations with the full ResNet-18: multiply-adds, int8 latency and accuracy.

    python -m benchmarks.experiments.networks --json networks.json
    python -m benchmarks.experiments.networks --json networks.json --data bottle --data pill --seeds 3 \
        --teacher resnet18.pth --half-teacher resnet18_half.safetensors --work runs

Latency is that of the int8 file, batch 1, measured by turns in one process. The processor time of one thread is the
figure that other programs on the machine disturb least. The networks have random weights, which changes nothing in the
time. Accuracy is that of the int8 file after a training. Each result is kept in the folder `--work` when it is done;
the same command continues after an interruption.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
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
from stfpm_edge.checkpoint import Checkpoint, resume_path
from stfpm_edge.networks import HALF, SMALL_STUDENTS, Pyramid, default_blocks, new_student, teacher_of
from stfpm_edge.options import TrainOptions
from stfpm_edge.recipes import RECIPES
from stfpm_edge.teacher import fingerprint
from stfpm_edge.train import train_student
from stfpm_eval.data import read_category
from stfpm_eval.evaluate import evaluate
from stfpm_export.export import ExportOptions, export_checkpoint
from stfpm_export.graph.backbones import build_graph
from stfpm_export.graph.int8 import Int8
from stfpm_export.graph.ranges import measure_ranges
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.cli import run
from stfpm_runtime.engines import open_engine
from stfpm_runtime.errors import OptionError
from stfpm_runtime.files import atomic_path
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.machine import describe_machine
from stfpm_runtime.timing import time_by_turns

from .loop import show_result
from .paper.runs import Silent

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
    add("--data", type=Path, action="append", default=[], metavar="DIR", help="train and test on this category too")
    add("--teacher", default="imagenet", metavar="FILE", help="the full teacher, as for stfpm-train (imagenet)")
    add("--half-teacher", default="", metavar="FILE", help="the half-width teacher, from stfpm-pretrain --distil-from")
    add("--seeds", type=int, default=1, metavar="N", help="trainings of each network and category (1)")
    add("--recipe", default="plus", choices=tuple(RECIPES), help="the recipe of the trainings (plus)")
    add("--epochs", type=int, metavar="N", help="the number of epochs (the recipe's)")
    add("--work", type=Path, default=Path("networks"), metavar="DIR", help="keep trained files and results here")
    add("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args(argv)
    return run("networks", lambda: _measure(arguments))


def _measure(arguments: argparse.Namespace) -> int:
    if arguments.data and not arguments.half_teacher and any(teacher_of(n) == HALF for n in arguments.networks):
        raise OptionError("got --data without --half-teacher; expected its file, or --networks that do not need it")
    result: dict[str, object] = {
        "schema": 1,
        "command": f"python -m benchmarks.experiments.networks --size {arguments.size} --rounds {arguments.rounds} "
        + " ".join(["--threads", *map(str, arguments.threads), ""] if arguments.threads else [])
        + "--json FILE",
        "engine": "ONNX Runtime, CPU",
        "machine": dataclasses.asdict(describe_machine()),
        "networks": measure_speed(arguments.networks, arguments.size, arguments.rounds, arguments.threads),
    }
    if arguments.data:
        names = ("size", "recipe", "epochs", "seeds")
        result["training"] = {name: getattr(arguments, name) for name in names}
        result["accuracy"] = [
            one_accuracy(arguments, data, network, seed)
            for data in arguments.data
            for seed in range(arguments.seeds)
            for network in arguments.networks
        ]
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


def one_accuracy(arguments: argparse.Namespace, data: Path, network: str, seed: int) -> dict[str, object]:
    """Train, export to int8 and evaluate, or read the result if this was done already. Raises StfpmError."""
    stem = arguments.work / f"{data.name}-{network}-seed{seed}-{arguments.recipe}-{arguments.epochs}-{arguments.size}"
    kept, checkpoint, model = (stem.with_name(stem.name + end) for end in (".json", ".safetensors", ".onnx"))
    if kept.exists():
        done: dict[str, object] = json.loads(kept.read_text(encoding="utf-8"))
        return done
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(f"{data.name}, {network}, seed {seed}", file=sys.stderr)
    recipe = RECIPES[arguments.recipe]
    if arguments.epochs:
        recipe = dataclasses.replace(recipe, epochs=arguments.epochs)
    options = TrainOptions(
        data, checkpoint, arguments.half_teacher if teacher_of(network) == HALF else arguments.teacher, network,
        default_blocks(network), height=arguments.size, width=arguments.size, recipe=recipe, seed=seed,
        accept_data=True, resume=resume_path(checkpoint).exists(),
    )  # fmt: skip
    train_student(options, Silent())
    export_checkpoint(ExportOptions(checkpoint, model, precision="int8", allow_parity_loss=True), lambda text: None)
    with contextlib.closing(open_engine(model, "cpu")) as engine:
        found = evaluate(engine, read_category(data))
    figures = {name: getattr(found, name) for name in ("image_auroc", "pixel_auroc", "pro", "missed", "false_alarms")}
    result: dict[str, object] = {"data": data.name, "network": network, "seed": seed, **figures}
    with atomic_path(kept) as unfinished:
        unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    sys.exit(main())
