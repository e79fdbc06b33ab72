"""`stfpm-models`: model files, their lineage and their differences; and what a running line does with them."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, get_args

from stfpm_runtime.ability import Case, Expected, measure_ability
from stfpm_runtime.artifact.lineage import SUFFIXES, ModelFile, read_model_file
from stfpm_runtime.cli import printable, run
from stfpm_runtime.detector import Detector
from stfpm_runtime.engines import open_engine
from stfpm_runtime.errors import ArtifactError, DataError
from stfpm_runtime.imaging.images import find_images, read_image
from stfpm_runtime.line.journal.models.shadow import read_shadow_counts
from stfpm_runtime.line.journal.models.states import Action, new_command, newest_by_model, read_states, send_command
from stfpm_runtime.line.journal.reader import counts_by_model

from .known_pictures import GOOD

COMMAND = "stfpm-models"
ANSWER_S = 1900.0
"""The longest time that a line may take for a command, in seconds: TensorRT may build an engine first."""
NEWEST = 1_000_000
"""Verdicts that are counted by model."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `argv` is without the command's name."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="List and compare model files, and say what a running line does with them.",
        epilog="examples: stfpm-models list models; stfpm-models activate line.sqlite bottle2.onnx --by Ada",
    )  # fmt: skip
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str, action: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(action=action)
        return added

    listing = verb("list", "list the models in a folder, with their parents", _list)
    listing.add_argument("folder", type=Path, help="a folder of .onnx and .safetensors files")
    listing.add_argument("--known-defects", type=Path, metavar="DIR", help="pictures that a model must reject")
    listing.add_argument("--good", type=Path, metavar="DIR", help="pictures of good parts that it must pass")
    showing = verb("show", "show what a model was made from, by whom, and what it promises", _show)
    showing.add_argument("model", type=Path)
    comparing = verb("diff", "show in what two models differ", _diff)
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    states = verb("states", "show the states of a line's models, and what each has decided", _states)
    states.add_argument("journal", type=Path, help="the line's journal; the line need not run")
    texts = {
        "check": "measure what a model is able to do, beside the active one",
        "shadow": "let a model judge the same parts as the active one, without effect",
        "approve": "approve a model, as a person",
        "activate": "let a model judge the parts from the next frame on",
        "rollback": "use the model again that was active before",
        "retire": "consider a model no more",
    }
    for name in get_args(Action):
        added = verb(name, texts[name], _order)
        added.add_argument("journal", type=Path, help="the journal of the running line")
        if name != "rollback":
            added.add_argument("model", help="the name of a file in the folder of the active model")
        added.add_argument("--by", required=True, metavar="NAME", help="who wants it, for the journal")
        if name != "check":
            added.add_argument("--reason", default="", metavar="TEXT", help="why it is done, for the journal")
        if name in ("approve", "activate"):
            added.add_argument("--override", default="", metavar="REASON",
                help="why it is done although the gate or a missing approval speaks against it")  # fmt: skip
    for added in (listing, showing, comparing, states):
        added.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    return run(COMMAND, lambda: arguments.action(arguments))


def _list(arguments: argparse.Namespace) -> int:
    if not arguments.folder.is_dir():
        raise DataError(f"{arguments.folder}: no such folder; expected one with models")
    files = []
    found = (path for path in arguments.folder.iterdir() if path.suffix in SUFFIXES)
    for path in sorted(path for path in found if not path.stem.endswith(".unfinished")):
        try:
            files.append(read_model_file(path))
        except ArtifactError as error:
            print(f"{COMMAND}: left out: {error}", file=sys.stderr)
    if not files:
        raise DataError(
            f"{arguments.folder}: contains no model of stfpm-train or stfpm-export; "
            "expected .onnx or .safetensors files"
        )
    pictures: list[tuple[Path, Expected]] = []
    if arguments.known_defects:
        paths = find_images(arguments.known_defects)
        pictures += [(path, "reject") for path in paths if path.parent.name != GOOD]
    if arguments.good:
        pictures += [(path, "pass") for path in find_images(arguments.good)]
    rows = [_row(file, files) | (_ability(file, pictures) if pictures else {}) for file in files]
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    _print_table(rows)
    return 0


def _row(file: ModelFile, files: Sequence[ModelFile]) -> dict[str, Any]:
    names = {other.sha256: other.path.name for other in files}
    training, spec = file.spec.training, file.spec
    parents = [names.get(digest, digest[:12]) for digest in file.parents.values()]
    return {
        "file": file.path.name, "product": spec.name, "precision": spec.precision,
        "trained": str(training.get("time", ""))[:16], "by": training.get("by", ""),
        "parent": ", ".join(parents), "threshold": spec.threshold and round(spec.threshold, 4),
        "promised": spec.false_alarm_rate and round(spec.false_alarm_rate, 4),
    }  # fmt: skip


def _ability(file: ModelFile, pictures: Sequence[tuple[Path, Expected]]) -> dict[str, Any]:
    """Return what an exported model decides about the pictures, and its median time for one in milliseconds."""
    if file.path.suffix != ".onnx":
        return {}
    times: list[float] = []

    def on_case(case: Case, picture: object) -> None:
        timings = case.new.timings
        times.append(timings.preprocess_ms + timings.infer_ms)

    with contextlib.closing(open_engine(file.path)) as engine:
        read = ((str(path), read_image(path, bits=file.spec.bits), expected) for path, expected in pictures)
        ability = measure_ability(Detector(engine), None, read, on_case)
    return {
        "defects passed": f"{len(ability.escaped)} of {len(ability.defects)}",
        "good rejected": f"{len(ability.false_alarms)} of {len(ability.good)}",
        "ms": round(median(times), 2),
    }


def _show(arguments: argparse.Namespace) -> int:
    facts = read_model_file(arguments.model).facts()
    if arguments.json:
        print(json.dumps(facts, indent=1))
        return 0
    for name, value in facts.items():
        if value not in ("", None):
            print(printable(f"{name:24} {_text(value)}"))
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    old, new = (read_model_file(path).facts() for path in (arguments.old, arguments.new))
    changed = {name: (old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)}
    if arguments.json:
        print(json.dumps(changed, indent=1))
        return 0
    for name, values in changed.items():
        before, after = map(_text, values)
        print(printable(f"{name:24} {before} -> {after}"))
    if not changed:
        print("they are the same file")
    return 0


def _text(value: object) -> str:
    return "-" if value in ("", None) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _states(arguments: argparse.Namespace) -> int:
    states = newest_by_model(read_states(arguments.journal))
    counts, shadows = counts_by_model(arguments.journal, NEWEST), read_shadow_counts(arguments.journal)
    rows = []
    for digest, row in states.items():
        passed, rejected, faults = counts.get(digest, (0, 0, 0))
        shadow = shadows.get(digest)
        rows.append({
            "file": Path(row.path).name, "sha256": digest[:12], "state": row.state, "since": row.time, "by": row.who,
            "passed": passed, "rejected": rejected, "faults": faults,
            "shadow": f"{shadow.disagreed} of {shadow.compared} differ" if shadow else "", "note": row.note,
        })  # fmt: skip
    if arguments.json:
        print(json.dumps(rows, indent=1))
    elif rows:
        _print_table(rows)
    else:
        print("the journal knows no models yet")
    return 0


def _order(arguments: argparse.Namespace) -> int:
    file, override, reason = (getattr(arguments, name, "") for name in ("model", "override", "reason"))
    command = new_command(arguments.by, arguments.verb, Path(file).name, override, reason)
    print(printable(send_command(arguments.journal, command, ANSWER_S)))
    return 0


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    columns = [name for name in rows[-1] | rows[0] if any(row.get(name) not in ("", None) for row in rows)]
    cells = [columns, *([("" if row.get(name) is None else str(row[name])) for name in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    for line in cells:
        print(printable("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()))
