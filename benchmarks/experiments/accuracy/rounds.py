"""Improve a running line by labels: after each round of labels the model is trained on, judged by the gate, promoted.

    python -m benchmarks.experiments.accuracy.rounds DATA --teacher FILE --json FILE --plot FILE

A line (`stfpm-inspect`, in a process of its own) watches a folder, into which pictures are copied: one half of the test
pictures and good pictures that the first model has not seen. In each round the most worth of the review queue are
labelled from the ground truth, `stfpm-dataset` lets them join the data set, the student is trained on, and
`stfpm-models` asks the line to use the new model. Where its gate refuses it, it is asked again with the threshold set
for twice the rate, which finds more. Each model is measured on the other half of the test pictures, which the line
never sees. Defects serve no training: they join the known-defect set of the gate.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stfpm_edge.cli import TerminalReporter
from stfpm_edge.options import TrainOptions
from stfpm_edge.recipes import PLUS
from stfpm_edge.train import train_student
from stfpm_eval.data import GOOD, Sample, read_category
from stfpm_eval.metrics import auroc
from stfpm_export.export import ExportOptions, export_checkpoint
from stfpm_runtime.artifact.onnx_metadata import read_spec
from stfpm_runtime.batch.calibrate import CalibrateOptions, calibrate
from stfpm_runtime.cli import run
from stfpm_runtime.dataset.extend import ExtendOptions, extend
from stfpm_runtime.dataset.manifest import MANIFEST
from stfpm_runtime.detector import Detector
from stfpm_runtime.engines import open_engine
from stfpm_runtime.errors import DataError, OptionError
from stfpm_runtime.files import atomic_path
from stfpm_runtime.imaging.images import find_images, read_image
from stfpm_runtime.line.journal.labels import new_label, write_label
from stfpm_runtime.line.journal.models.states import new_command, send_command
from stfpm_runtime.line.journal.reader import JournalReader
from stfpm_runtime.line.journal.review import review_queue
from stfpm_runtime.machine import describe_machine

from .rounds_chart import draw

COMMAND = "python -m benchmarks.experiments.accuracy.rounds DATA --teacher FILE --json FILE --plot FILE"
SCRIPT = "ground truth"
"""The name of who labels."""
INSPECT = "import sys; from stfpm_runtime.batch.cli import main; sys.exit(main())"
WAIT_S = 300.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is done with which product."""

    data: Path
    folder: Path
    """A new folder for everything that is made."""
    teacher: str
    first: int
    """Good pictures that the first model is trained on."""
    rounds: int
    labels: int
    """Labels in each round."""
    good_a_round: int
    """Further good pictures in each round of the stream."""
    epochs: int
    """Epochs of each further training."""
    false_alarm_rate: float
    """The promised one, 0 to 1."""
    seed: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.accuracy.rounds", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("data", type=Path, help="a category with train/good and test")
    add("--folder", type=Path, required=True, help="a new folder for data set, models, journal and pictures")
    add("--teacher", default="imagenet", help="as stfpm-train takes it (imagenet)")
    add("--first", type=int, default=60, metavar="N", help="good pictures of the first model (60)")
    add("--rounds", type=int, default=5, metavar="N", help="(5)")
    add("--labels", type=int, default=20, metavar="N", help="labels in each round (20)")
    add("--good-a-round", type=int, default=40, metavar="N", help="further good pictures in each round (40)")
    add("--epochs", type=int, default=15, metavar="N", help="epochs of each further training (15)")
    add("--false-alarm-rate", type=float, default=0.1, metavar="X", help="the promised rate (0.1)")
    add("--seed", type=int, default=0)
    add("--json", type=Path, required=True, metavar="FILE", help="the figures; rows of other products stay")
    add("--plot", type=Path, metavar="FILE", help="a PNG of all products in the record")
    arguments = vars(parser.parse_args(argv))
    path, plot = arguments.pop("json"), arguments.pop("plot")
    return run("rounds", lambda: _compare(Plan(**arguments), path, plot))


def _compare(plan: Plan, path: Path, plot: Path | None) -> int:
    if plan.folder.exists():
        raise OptionError(f"{plan.folder}: is there already; expected a new folder")
    rows = list(improve(plan))
    known = json.loads(path.read_text(encoding="utf-8"))["products"] if path.is_file() else {}
    plain = {key: value for key, value in dataclasses.asdict(plan).items() if key not in ("data", "folder", "teacher")}
    known[plan.data.name] = {"plan": plain, "rounds": rows}
    record = {"schema": 1, "command": COMMAND, "machine": dataclasses.asdict(describe_machine()), "products": known}
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if plot:
        draw(known, plot)
    return 0


def improve(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield what the active model does on the pictures that no line has seen, before the labels and after each round.

    Raises StfpmError, and DataError for too few pictures.
    """
    random = np.random.default_rng(plan.seed)
    good = random.permutation(np.array(find_images(plan.data / "train" / GOOD), object)).tolist()
    if len(good) < plan.first + plan.rounds:
        raise DataError(f"{plan.data}: has {len(good)} good pictures; expected more than {plan.first} for the stream")
    samples = random.permutation(np.array(read_category(plan.data).samples, object)).tolist()
    streamed, measured = samples[::2], samples[1::2]
    data = plan.folder / "data" / plan.data.name
    (data / "test").mkdir(parents=True)
    for path in good[: plan.first]:
        _copy(path, data / "train" / GOOD / path.name)
    extend(ExtendOptions(data))
    models = plan.folder / "models"
    checkpoint, model = _train(plan, data, models, 0, None)
    parts = _stream(streamed, good[plan.first :], plan)
    with _running_line(plan, model) as line:
        first = {"round": 0, "labels": 0, "gate": [], "model": model.name}
        yield _measure(model, measured) | first | _known(model, data)
        for number in range(1, plan.rounds + 1):
            truth = line.feed(parts[number - 1], number)
            labelled = _label(line.journal, truth, plan.labels)
            extended = extend(ExtendOptions(data, line.journal, plan.folder / "pictures"))
            student, candidate = _train(plan, data, models, number, checkpoint)
            gate = []
            for one in (candidate, _calibrate(candidate, data, 2 * plan.false_alarm_rate)):
                try:
                    said = send_command(line.journal, new_command(SCRIPT, "activate", one.name), WAIT_S)
                    checkpoint, model = student, one
                    gate.append(said.partition(" (")[0])
                    break
                except OptionError as error:
                    gate.append(f"refused: {error}".partition(" (")[0])
            row = _measure(model, measured) | {"round": number, "labels": labelled, "gate": gate,
                                               "model": model.name, "added": len(extended.added)}  # fmt: skip
            yield row | _known(model, data)
            print(json.dumps(row), file=sys.stderr)


def _stream(samples: Sequence[Sample], good: Sequence[Path], plan: Plan) -> list[list[tuple[Path, str]]]:
    """Return the pictures of each round with their kinds."""
    rounds: list[list[tuple[Path, str]]] = []
    for number in range(plan.rounds):
        parts = [(sample.image, sample.kind) for sample in samples[number :: plan.rounds]]
        parts += [(path, GOOD) for path in good[number :: plan.rounds][: plan.good_a_round]]
        rounds.append(parts)
    return rounds


def _train(plan: Plan, data: Path, models: Path, number: int, parent: Path | None) -> tuple[Path, Path]:
    """Train a model, on from its parent where there is one, and export it; return both files."""
    models.mkdir(parents=True, exist_ok=True)
    checkpoint, model = (models / f"{plan.data.name}-{number}.{suffix}" for suffix in ("safetensors", "onnx"))
    recipe = PLUS if parent is None else dataclasses.replace(PLUS, epochs=plan.epochs, least_steps=0)
    options = TrainOptions(
        data, checkpoint, plan.teacher, recipe=recipe, seed=plan.seed, val_fraction=0.4, folds=0,
        false_alarm_rate=plan.false_alarm_rate, init_from=parent, manifest=data / MANIFEST, by=SCRIPT,
        mixed_precision=True, accept_data=True,
    )  # fmt: skip
    with TerminalReporter() as reporter:
        train_student(options, reporter)
    export_checkpoint(ExportOptions(checkpoint, model), lambda line: None)
    return checkpoint, model


def _calibrate(model: Path, data: Path, false_alarm_rate: float) -> Path:
    """Set the threshold again for a higher rate, by the pictures that set it before; return the new file."""
    output = model.with_name(f"{model.stem}-lower.onnx")
    held_out = read_spec(model).training["images"]["held_out"]
    good = tuple(str(data / "train" / GOOD / name) for name in held_out)
    calibrate(CalibrateOptions(model, good, output, false_alarm_rate, device="cpu"), lambda line: None)
    return output


def _label(journal: Path, truth: dict[str, str], count: int) -> int:
    """Label the most worth of the queue from the ground truth; return how many."""
    queue = review_queue(journal, count)
    for row, _ in queue:
        kind = truth[Path(row.source).name]
        is_good = kind == GOOD
        write_label(journal, new_label(row.seq, "good" if is_good else "defect", SCRIPT, "" if is_good else kind))
    return len(queue)


def _measure(model: Path, samples: Sequence[Sample]) -> dict[str, Any]:
    scores: dict[bool, list[float]] = {True: [], False: []}
    with contextlib.closing(open_engine(model, "cpu")) as engine:
        detector = Detector(engine)
        for sample in samples:
            score = detector.inspect(read_image(sample.image)).score
            assert score is not None, "test pictures can be read"
            scores[sample.is_defective].append(score)
        threshold = detector.threshold
        promised = engine.spec.false_alarm_rate
    return {
        "image_auroc": round(auroc(scores[False], scores[True]), 4),
        "false_alarms": sum(score > threshold for score in scores[False]), "good": len(scores[False]),
        "missed": sum(score <= threshold for score in scores[True]), "defective": len(scores[True]),
        "promised_false_alarm_rate": promised and round(promised, 4),
    }  # fmt: skip


def _known(model: Path, data: Path) -> dict[str, int]:
    """Return how many of the known defects there are, and how many the model passes."""
    pictures = [path for path in find_images(data / "test") if path.parent.name != GOOD]
    with contextlib.closing(open_engine(model, "cpu")) as engine:
        passed = sum(Detector(engine).inspect(read_image(path)).decision != "reject" for path in pictures)
    return {"known_defects": len(pictures), "known_defects_passed": passed}


@dataclasses.dataclass
class _Line:
    """A line in a process of its own that watches a folder."""

    journal: Path
    inbox: Path
    truth: dict[str, str] = dataclasses.field(default_factory=dict)
    """The kinds of all pictures that it got, by file name."""

    def feed(self, parts: Sequence[tuple[Path, str]], number: int) -> dict[str, str]:
        """Copy pictures into the folder, wait for their verdicts, and return the kinds of all by file name."""
        for index, (path, kind) in enumerate(parts):
            name = f"{number}-{index:04d}{path.suffix}"
            self.truth[name] = kind
            _copy(path, self.inbox / name)
        _wait_for(lambda: self._verdicts() >= len(self.truth))
        return self.truth

    def _verdicts(self) -> int:
        with contextlib.closing(JournalReader(self.journal)) as reader:
            newest = reader.newest(1)
        return newest[0].seq if newest else 0


@contextlib.contextmanager
def _running_line(plan: Plan, model: Path) -> Iterator[_Line]:
    folder = plan.folder.absolute()
    (inbox := folder / "inbox").mkdir()
    config = folder / "line.toml"
    config.write_text(
        f'model = "{model.absolute()}"\nthreads = 1\nknown_defects = "{folder / "data" / plan.data.name / "test"}"\n'
        f'journal.path = "{folder / "line.sqlite"}"\n'
        f'pictures = {{folder = "{folder / "pictures"}", save = "all", overlay = false, free_mb = 0, queue = 1000}}\n'
        f'[[camera]]\nname = "top"\nsource = "{inbox}"\nwatch = true\n',
        encoding="utf-8",
    )
    log = (folder / "line.log").open("w")
    command = [sys.executable, "-c", INSPECT, "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with log, subprocess.Popen(command, stderr=log, env=environment) as process:
        try:
            _wait_for(lambda: "running" in (folder / "line.log").read_text() or process.poll() is not None)
            if process.poll() is not None:
                raise DataError(f"{folder / 'line.log'}: the line did not start")
            time.sleep(1.0)
            yield _Line(folder / "line.sqlite", inbox)
        finally:
            process.send_signal(signal.SIGTERM)


def _wait_for(condition: Any) -> None:  # noqa: ANN401 (a function without arguments)
    until_s = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > until_s:
            raise DataError(f"the line has not done in {WAIT_S:.0f} s what it should; see line.log")
        time.sleep(0.1)


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as unfinished:
        shutil.copyfile(source, unfinished)


if __name__ == "__main__":
    sys.exit(main())
