"""`stfpm-study line.sqlite --reference parts.csv`: a measurement system analysis of an inspection."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from stfpm_runtime.cli import run
from stfpm_runtime.errors import OptionError, name_some
from stfpm_runtime.files import atomic_path, check_writable
from stfpm_runtime.line.journal.command.arguments import moment_of
from stfpm_runtime.line.journal.reader import Period

from .agreement import analyse_agreement
from .journals import is_journal, read_journal
from .page import to_html
from .presentations import COLUMNS, Presentation, Study, new_study, read_presentations, read_references
from .report import Result, to_words
from .variation import analyse_variation

COMMAND = "stfpm-study"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `argv` is without the command's name."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Analyse a study in which the same parts were presented several times: do the decisions agree with "
        "the reference and with one another, and do the scores repeat? (AIAG, Measurement Systems Analysis)",
        epilog="example: stfpm-study line.sqlite --reference parts.csv --since 06:00 --html study.html",
    )
    add = parser.add_argument
    add("inputs", type=Path, nargs="+", metavar="FILE",
        help=f"journals, each of which is an appraiser, and CSV files with {','.join(COLUMNS)}")  # fmt: skip
    add("--reference", type=Path, metavar="CSV",
        help="a CSV file part,reference: which parts of the journals take part, and which are good or defect; without "
        "it all parts take part, and their labels say it")  # fmt: skip
    add("--since", type=moment_of, metavar="WHEN", help="of journals: from this time on, as for stfpm-journal")
    add("--until", type=moment_of, metavar="WHEN", help="of journals: before this time")
    add("--camera", default="", metavar="NAME", help="of journals: this camera only")
    add("--per-region", action="store_true",
        help="of journals: each camera and region is an appraiser (without it they judge a part together)")  # fmt: skip
    add("--only-complete", action="store_true", help="leave out the parts that lack presentations")
    add(
        "--threshold",
        type=float,
        metavar="X",
        help="the threshold of the scores in CSV files; they become relative scores",
    )
    add("--html", type=Path, metavar="FILE", help="write a report with charts, for printing")
    add("--title", default="", metavar="TEXT", help="the report's title: product, line, number of the study")
    add("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    return run(COMMAND, lambda: _study(arguments))


def _study(arguments: argparse.Namespace) -> int:
    if arguments.html:
        check_writable(arguments.html, [*arguments.inputs, *([arguments.reference] if arguments.reference else [])])
    threshold = arguments.threshold
    if threshold is not None and not (threshold > 0 and math.isfinite(threshold)):
        raise OptionError(f"got --threshold {threshold}; expected a number above 0")
    study, is_relative = _read(arguments)
    names = tuple(path.name for path in arguments.inputs)
    result = Result(arguments.title, names, study, analyse_agreement(study),
                    analyse_variation(study, 1.0 if is_relative else None))  # fmt: skip
    print(json.dumps(result.to_json(), indent=1) if arguments.json else to_words(result))
    if arguments.html:
        with atomic_path(arguments.html) as unfinished:
            unfinished.write_text(to_html(result, date.today().isoformat()), encoding="utf-8")
    return 0


def _read(arguments: argparse.Namespace) -> tuple[Study, bool]:
    """Return the study, and whether its scores are relative, so that their threshold is 1. Raises StfpmError."""
    period = Period(arguments.since or "", arguments.until or "", arguments.camera)
    journals = [path for path in arguments.inputs if is_journal(path)]
    references = read_references(arguments.reference) if arguments.reference else None
    found: list[Presentation] = []
    notes: list[str] = []
    for path in arguments.inputs:
        if path in journals:
            name = path.stem if [one.stem for one in journals].count(path.stem) == 1 else str(path)
            more, remarks = read_journal(path, period, references, arguments.per_region, name)
            found += more
            notes += remarks
            continue
        rows = list(read_presentations(path, arguments.threshold))
        if journals and arguments.threshold is None and any(row.score is not None for row in rows):
            raise OptionError(f"{path}: has scores, and those of a journal are relative to the threshold; expected "
                              "--threshold with the threshold of the scores in CSV files")  # fmt: skip
        found += rows
    absent = set(references or ()) - {one.part for one in found}
    if absent:
        notes.append(f"Parts of {arguments.reference.name} that were never presented: {name_some(sorted(absent))}.")
    study = new_study(found, references, arguments.only_complete, notes)
    return study, bool(journals) or arguments.threshold is not None
