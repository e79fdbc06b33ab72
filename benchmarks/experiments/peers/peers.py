"""Our exports beside anomalib's, end to end, in one run: `make peers` calls it.

    python benchmarks/peers/peers.py MODEL.onnx ... --data bottle --teacher FILE --work DIR --results DIR

It makes what is missing in WORK, each step once: anomalib's environment (6 GB), and fresh environments of our device
installs to weigh; and in a folder of WORK for these images, teacher and epochs, anomalib's Stfpm trained on the same
images with the same teacher for as many epochs as ours, its exports, PatchCore, PaDiM and EfficientAd.

Then two groups are measured, each by turns and each contender in a process of its own: our models beside anomalib's
Stfpm (RESULTS/peers.json), and our fastest beside its other methods (methods.json); installs.json has sizes.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stfpm_bench.client import Contender, model_contender
from stfpm_bench.options import BenchOptions
from stfpm_bench.report.text import print_report
from stfpm_bench.results import Accuracy, BenchReport, ModelResult
from stfpm_bench.run import make_report, measure_quality, prepare_models, timing_result
from stfpm_bench.session import Plan, Session, Tally, measure
from stfpm_eval.layouts import find_products
from stfpm_runtime.cli import run
from stfpm_runtime.errors import ArtifactError, DataError, StfpmError
from stfpm_runtime.files import atomic_path, sha256

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
RANDOM = "random weights: its speed is right, its verdicts are not"
CLIPPED = "accuracy of its scores as its export clips them"
METHODS = {
    "patchcore": ("PatchCore Torch", "torch", True),
    "padim": ("PaDiM OpenVINO", "openvino", True),
    "efficientad": ("EfficientAd OpenVINO", "openvino", False),
}
"""Anomalib's other methods: title, how they are run, and whether they can be trained without a download."""
EXTRAS = ("cpu", "openvino")
"""Our device installs."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class PeerOptions:
    """What to compare, and where things lie."""

    models: tuple[Path, ...]
    data: Path
    """An MVTec-style category, with train/good."""
    work: Path
    """Where environments are made and kept, and in folders of their own what was trained from the same."""
    results: Path
    teacher: Path | None = None
    epochs: int = 100
    venv: Path | None = None
    """Anomalib's environment; None makes one in `work`."""
    time: float = 60.0
    cold_starts: int = 3
    only: str = ""
    """One of the groups; empty is both."""
    frame: tuple[int, int] = (1280, 720)

    @property
    def python(self) -> Path:
        """Anomalib's interpreter."""
        return (self.venv or self.work / "anomalib") / "bin" / "python"

    @functools.cached_property
    def made(self) -> Path:
        """The folder in `work` for models trained from these very images, teacher and epochs, and for their accuracy.

        Raises StfpmError for data or a teacher that cannot be read.
        """
        product = find_products(self.data)[0]
        try:
            teacher = sha256(self.teacher) if self.teacher else "none"
        except OSError as error:
            raise ArtifactError(f"teacher {self.teacher}: cannot be read ({error.strerror})") from None
        digest = hashlib.sha256(f"{product.digest()} {teacher} {self.epochs}".encode()).hexdigest()[:12]
        return self.work / f"{product.name}-{digest}"


@dataclass(frozen=True)
class Peer:
    """One of anomalib's exports."""

    name: str
    kind: str
    """How it is run, see anomalib_worker.py: `openvino`, `openvino-f32`, `onnx` or `torch`."""
    path: Path
    precision: str = "fp32"
    evaluated: Path | None = None
    """The file whose accuracy stands for it; None for random weights."""
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
    """Entry point; returns the exit code."""
    values = vars(_parser().parse_args(argv))
    options = PeerOptions(**values | {"models": tuple(path.resolve() for path in values["models"])})
    return run("peers", lambda: _run(options, lambda line: print(f"peers: {line}", file=sys.stderr)))


def _run(options: PeerOptions, say: Say) -> int:
    if not (options.data / "train" / "good").is_dir():
        raise DataError(f"{options.data}: no train/good in it; expected an MVTec-style category to train the peers on")
    prepare(options, say)
    installs = weigh(options, say)
    _write(options.results / "installs.json", json.dumps({"schema": 1, "installs": installs}, indent=1))
    noise: list[str] = []
    for group, members in peers(options.made, options.epochs).items():
        if options.only in ("", group):
            report = measure_group(group, members, options, say)
            _write(options.results / f"{group}.json", report.to_json())
            print_report(report)
            noise += report.noise
    if noise:
        raise StfpmError(f"this machine is too noisy to measure on: {noise[0]}; written, and marked as such")
    return 0


def measure_group(group: str, members: Sequence[Peer], options: PeerOptions, say: Say) -> BenchReport:
    """Our models and a group of peers by turns; beside other methods, the first of ours stands for all."""
    accuracies = {peer.name: evaluate_peer(peer, options, say) for peer in members}
    plan = Plan(time_limit_s=options.time, cold_starts=options.cold_starts, idle_s=(1.0,), batches=())
    models = options.models if group == "peers" else options.models[:1]
    ours = BenchOptions(models, plan=plan, frame=options.frame, data=options.data, parity=True)
    subjects = prepare_models(ours)
    contenders = [model_contender(one.path, f"ours, {one.name}", "auto", None, options.frame) for one in subjects]
    session = measure([*contenders, *(contender_of(peer, options) for peer in members)], plan, say)
    results = []
    for tally, subject in zip(session.tallies, subjects, strict=False):
        result = dataclasses.replace(timing_result(tally, subject, session), name=tally.contender.name)
        results.append(result if session.interrupted else measure_quality(result, subject, ours, say))
    for tally, peer in zip(session.tallies[len(subjects) :], members, strict=True):
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


def prepare(options: PeerOptions, say: Say) -> None:
    """Make what is missing: anomalib's environment, its trained models, its exports."""
    good, made = options.data / "train" / "good", options.made
    made.mkdir(parents=True, exist_ok=True)
    if not options.python.is_file():
        say("anomalib's environment, 6 GB, once")
        _call(["bash", str(HERE / "setup_anomalib.sh"), str(options.python.parents[1])], {})
    teacher = ["--teacher", str(options.teacher)] if options.teacher else []
    checkpoint = made / "stfpm.ckpt"
    if not checkpoint.is_file():
        say(f"anomalib's Stfpm: {options.epochs} epochs")
        _call(
            [options.python, HERE / "train_anomalib.py", good, "-o", checkpoint, "--epochs", options.epochs, *teacher]
        )
    if not (made / "stfpm/weights/torch/model.pt").is_file():
        say("anomalib's Stfpm: exports")
        _call([options.python, HERE / "export_anomalib.py", good, "-o", made / "stfpm", "--checkpoint", checkpoint])
    for name in METHODS:
        if not method_path(made, name).is_file():
            say(f"anomalib's {name}")
            _call([options.python, HERE / "export_methods.py", good, "-o", made, "--methods", name, *teacher])


def method_path(made: Path, name: str) -> Path:
    """Return the export of one of the other methods."""
    is_torch = METHODS[name][1] == "torch"
    return made / name / "weights" / ("torch/model.pt" if is_torch else "openvino/model.xml")


def weigh(options: PeerOptions, say: Say) -> list[dict[str, Any]]:
    """The size of each install, ours from fresh environments."""
    found: list[dict[str, Any]] = []
    for extra in EXTRAS:
        venv = options.work / f"device-{extra}"
        if not (venv / "bin" / "stfpm-inspect").is_file():
            say(f"a fresh environment of our device install, [{extra}]")
            _call([sys.executable, "-m", "venv", venv])
            with tempfile.TemporaryDirectory() as folder:  # pip would leave a build folder in the working tree
                copy = Path(folder) / "repository"
                _call(["git", "clone", "--quiet", REPOSITORY, copy])
                _call([venv / "bin" / "python", "-m", "pip", "install", "--quiet", f"{copy}[{extra}]"])
        found.append({"name": f"ours, [{extra}]", "command": f"pip install '.[{extra}]'", **_size(venv)})
    venv = options.python.parents[1]
    found.append({"name": "anomalib", "command": "pip install 'anomalib[openvino]' onnxruntime", **_size(venv)})
    return found


def evaluate_peer(peer: Peer, options: PeerOptions, say: Say) -> Accuracy | None:
    """Its accuracy on the same images by our metrics, in its own environment."""
    if peer.evaluated is None:
        return None
    known = peer.evaluated.with_suffix(f".{peer.kind}.json")
    if not known.is_file():
        say(f"accuracy of {peer.name}")
        text = _call([options.python, HERE / "evaluate_anomalib.py", peer.evaluated, options.data, peer.kind])
        known.write_text(text.splitlines()[-1], encoding="utf-8")
    data = json.loads(known.read_text(encoding="utf-8"))
    return Accuracy(
        data=data["name"], good=data["normal_images"], defective=data["defective_images"],
        image_auroc=data["image_auroc"], pixel_auroc=data["pixel_auroc"], pro=data["pro"],
        missed=data["missed"], false_alarms=data["false_alarms"],
    )  # fmt: skip


def contender_of(peer: Peer, options: PeerOptions) -> Contender:
    """How its process is started, in its own environment."""
    command = (options.python, HERE / "anomalib_worker.py", peer.kind, peer.path.resolve(), *options.frame)
    return Contender(peer.name, tuple(map(str, command)), _paths())


def files_of(peer: Peer) -> list[Path]:
    """All files of an export: weights may lie beside the graph."""
    beside = {".xml": ".bin", ".onnx": ".onnx.data"}.get(peer.path.suffix)
    paths = [peer.path, *([peer.path.with_suffix(beside)] if beside else [])]
    return [path for path in paths if path.is_file()]


def _paths() -> dict[str, str]:
    folders = (REPOSITORY, REPOSITORY / "export", REPOSITORY / "runtime", REPOSITORY / "benchmarks")
    return {"PYTHONPATH": os.pathsep.join(map(str, folders))}


def _size(venv: Path) -> dict[str, int]:
    size: dict[str, int] = json.loads(_call([sys.executable, HERE / "installed_size.py", venv]))
    return size


def _call(command: Sequence[object], environment: dict[str, str] | None = None) -> str:
    """Run a step and give its stdout. Raises StfpmError where it fails; its own words are on stderr."""
    extra = _paths() if environment is None else environment
    done = subprocess.run(
        [str(part) for part in command], env={**os.environ, **extra}, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise StfpmError(f"{Path(str(command[1])).name}: ended with status {done.returncode}; its own words are above")
    return done.stdout


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
