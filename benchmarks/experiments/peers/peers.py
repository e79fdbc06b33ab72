"""Compare our exports with anomalib's, end to end, in one run: `make peers` calls it.

    python -m benchmarks.experiments.peers.peers MODEL.onnx ... --data bottle --teacher FILE --work DIR --results DIR

It makes what is missing in WORK, each step once: anomalib's environment (6 GB), and fresh environments of our device
installs to measure their size; and in a folder of WORK for these images, teacher and epochs, anomalib's Stfpm trained
on the same images with the same teacher for as many epochs as ours, its exports, PatchCore, PaDiM and EfficientAd.

Then two groups are measured, each by turns and each contender in a process of its own: our models and anomalib's
Stfpm (RESULTS/peers.json), and our fastest and its other methods (methods.json); installs.json has sizes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stfpm_bench.client import Contender, model_contender
from stfpm_bench.options import BenchOptions
from stfpm_bench.report.text import print_report
from stfpm_bench.results import Accuracy, BenchReport, ModelResult
from stfpm_bench.run import make_report, measure_quality, prepare_models, timing_result
from stfpm_bench.session import Plan, Session, Tally, measure
from stfpm_runtime.cli import run
from stfpm_runtime.errors import DataError, StfpmError
from stfpm_runtime.files import atomic_path, sha256

from .prepare import HERE, METHODS, Log, PeerOptions, call, measure_installs, method_path, our_path, prepare

RANDOM = "random weights: its speed is right, its verdicts are not"
CLIPPED = "accuracy of its scores as its export clips them"


@dataclass(frozen=True)
class Peer:
    """One of anomalib's exports."""

    name: str
    kind: str
    """The way it is run, see anomalib_worker.py: `openvino`, `openvino-f32`, `onnx` or `torch`."""
    path: Path
    precision: str = "fp32"
    evaluated: Path | None = None
    """The file whose accuracy is reported for it; None for random weights."""
    epochs: int | None = None
    """Passes over the training images; None for random weights."""


def peers(made: Path, epochs: int) -> dict[str, list[Peer]]:
    """Return all of them by group, in the order of the tables; `made` is the folder of their files."""
    weights = made / "stfpm" / "weights"
    int8, fp32, onnx = (
        weights / "openvino/model_int8.xml",
        weights / "openvino/model.xml",
        weights / "onnx/model.onnx",
    )
    return {
        "peers": [
            Peer("anomalib Stfpm OpenVINO int8", "openvino", int8, "int8", int8, epochs),
            Peer("anomalib Stfpm OpenVINO", "openvino", fp32, "fp32", fp32, epochs),
            Peer("anomalib Stfpm OpenVINO held to fp32", "openvino-f32", fp32, "fp32", fp32, epochs),
            Peer("anomalib Stfpm ONNX", "onnx", onnx, "fp32", onnx, epochs),
            Peer("anomalib Stfpm Torch", "torch", weights / "torch/model.pt", "fp32", fp32, epochs),
        ],
        "methods": [
            Peer(
                f"anomalib {title}",
                kind,
                method_path(made, name),
                evaluated=method_path(made, name) if trained else None,
                epochs=1 if trained else None,
            )
            for name, (title, kind, trained) in METHODS.items()
        ],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    values = vars(_parser().parse_args(argv))
    options = PeerOptions(**values | {"models": tuple(path.resolve() for path in values["models"])})
    return run("peers", lambda: _run(options, lambda line: print(f"peers: {line}", file=sys.stderr)))


def _run(options: PeerOptions, log: Log) -> int:
    if not (options.data / "train" / "good").is_dir():
        raise DataError(f"{options.data}: no train/good in it; expected an MVTec-style category to train the peers on")
    prepare(options, log)
    installs = measure_installs(options, log)
    _write(options.results / "installs.json", json.dumps({"schema": 1, "installs": installs}, indent=1))
    noise: list[str] = []
    for group, members in peers(options.made, options.epochs).items():
        if options.only in ("", group):
            report = measure_group(group, members, options, log)
            _write(options.results / f"{group}.json", report.to_json())
            print_report(report)
            noise += report.noise
    if noise:
        raise StfpmError(f"this machine is too noisy to measure on: {noise[0]}; written, and marked as such")
    return 0


def measure_group(group: str, members: Sequence[Peer], options: PeerOptions, log: Log) -> BenchReport:
    """Measure our models and a group of peers by turns; of ours the first alone where the group is other methods."""
    accuracies = {peer.name: evaluate_peer(peer, options, log) for peer in members}
    plan = Plan(time_limit_s=options.time, cold_starts=options.cold_starts, idle_s=(1.0,), batches=())
    paths = options.models if group == "peers" else options.models[:1]
    ours = BenchOptions(paths, plan=plan, frame=options.frame, data=options.data, parity=True)
    ours_prepared = prepare_models(ours)
    contenders = [model_contender(one.path, f"ours, {one.name}", "auto", None, options.frame) for one in ours_prepared]
    session = measure([*contenders, *(contender_of(peer, options) for peer in members)], plan, log)
    results = []
    for tally, model in zip(session.tallies, ours_prepared, strict=False):
        result = dataclasses.replace(timing_result(tally, model, session), name=tally.contender.name)
        results.append(result if session.interrupted else measure_quality(result, model, ours, log))
    for tally, peer in zip(session.tallies[len(ours_prepared) :], members, strict=True):
        results.append(_peer_result(tally, peer, session, accuracies[peer.name], options))
    return make_report(session, results, ours)


def _peer_result(
    tally: Tally, peer: Peer, session: Session, accuracy: Accuracy | None, options: PeerOptions
) -> ModelResult:
    return ModelResult(
        name=peer.name,
        sha256=sha256(peer.path),
        model=options.data.name,
        precision=peer.precision,
        target=peer.kind,
        provider=tally.facts.get("provider", ""),
        file_bytes=sum(path.stat().st_size for path in files_of(peer)),
        installed_bytes=tally.installed_bytes,
        peak_bytes=tally.peak_bytes,
        cold_start=tally.cold_start(),
        latency=tally.latency(session.stopped_by),
        idle=tally.idle(),
        accuracy=accuracy,
        epochs=peer.epochs,
        notes=(RANDOM,) if peer.evaluated is None else (CLIPPED,) if "Stfpm" in peer.name else (),
    )


def evaluate_peer(peer: Peer, options: PeerOptions, log: Log) -> Accuracy | None:
    """Return its accuracy on the same images by our metrics, measured in its own environment."""
    if peer.evaluated is None:
        return None
    known = peer.evaluated.with_suffix(f".{peer.kind}.json")
    if not known.is_file():
        log(f"accuracy of {peer.name}")
        text = call([options.python, HERE / "evaluate_anomalib.py", peer.evaluated, options.data, peer.kind])
        known.write_text(text.splitlines()[-1], encoding="utf-8")
    data = json.loads(known.read_text(encoding="utf-8"))
    return Accuracy(
        data=data["name"], good=data["normal_images"], defective=data["defective_images"],
        image_auroc=data["image_auroc"], pixel_auroc=data["pixel_auroc"], pro=data["pro"],
        missed=data["missed"], false_alarms=data["false_alarms"],
    )  # fmt: skip


def contender_of(peer: Peer, options: PeerOptions) -> Contender:
    """Return how its process is started, in its own environment."""
    command = (options.python, HERE / "anomalib_worker.py", peer.kind, peer.path.resolve(), *options.frame)
    return Contender(peer.name, tuple(map(str, command)), our_path())


def files_of(peer: Peer) -> list[Path]:
    """Return all files of an export: weights may lie in the same folder."""
    weights = {".xml": ".bin", ".onnx": ".onnx.data"}.get(peer.path.suffix)
    paths = [peer.path, *([peer.path.with_suffix(weights)] if weights else [])]
    return [path for path in paths if path.is_file()]


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("models", type=Path, nargs="+", metavar="MODEL", help="our exports, the fastest first")
    add("--data", type=Path, required=True, help="an MVTec-style category")
    add("--teacher", type=Path, help="ResNet-18 weights, .safetensors in torchvision's names")
    add("--work", type=Path, required=True, help="where environments and exports are made")
    add("--results", type=Path, required=True, help="the folder for peers.json and installs.json")
    add("--venv", type=Path, help="anomalib's environment, where there is one already")
    add("--epochs", type=int, default=100, help="of anomalib's Stfpm (default: 100, as many as ours)")
    add("--time", type=float, default=60.0, help="seconds for each group's latencies (default: 60)")
    add("--cold-starts", type=int, default=3, help="processes started of each (default: 3)")
    add("--only", choices=("peers", "methods"), default="", help="one of the groups (default: both)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
