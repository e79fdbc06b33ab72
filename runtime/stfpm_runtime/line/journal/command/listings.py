"""What `stfpm-journal` prints: tables and lists for a person, JSON or CSV."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from stfpm_runtime.cli import printable
from stfpm_runtime.line.journal.labels import count_confusion, read_labelled
from stfpm_runtime.line.journal.reader import Count, Per, Period
from stfpm_runtime.line.journal.rows import COLUMNS, EventRow, VerdictRow, record, values_of
from stfpm_runtime.score import describe_score

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a formula of a spreadsheet begins with."""


def print_counts(counts: Sequence[Count], as_json: bool, per: Per | None = None) -> None:
    """Print a table of counts and yield of cameras and regions, or of what `per` says; or JSON."""
    numbers = [(count.passed, count.rejected, count.faults) for count in counts]
    total = Count("all", "", *map(sum, zip(*numbers, strict=True))) if counts else Count("all", "", 0, 0, 0)
    if as_json:
        rows = [
            {**dataclasses.asdict(count), "total": count.total, "yield": count.yielded} for count in (*counts, total)
        ]
        of_all = {key: rows[-1][key] for key in list(rows[-1])[2:]}
        regions = [{per: row["camera"]} | {key: row[key] for key in of_all} for row in rows] if per else rows
        print(json.dumps({f"{per}s" if per else "regions": regions[:-1], "all": of_all}, indent=1))
        return
    if not counts:
        print("no verdicts in this period")
        return
    names = f"{per:18}" if per else f"{'camera':16}{'region':16}"
    print(f"{names}{'total':>10}{'passed':>10}{'rejected':>10}{'faults':>10}{'yield':>9}")
    for count in (*counts, *([total] if len(counts) != 1 else [])):
        share = "-" if count.yielded is None else f"{count.yielded:.1%}"
        columns = f"{count.total:10}{count.passed:10}{count.rejected:10}{count.faults:10}"
        names = f"{count.camera:17}" if per else f"{count.camera:15} {count.region:15}"
        print(f"{names} {columns}{share:>9}")


def print_rejects(rows: Iterable[VerdictRow], folder: Path | None, as_json: bool, journal: str) -> None:
    """List verdicts that are no pass; `folder` is that of the pictures, `journal` the id for JSON."""
    for row in rows:
        pictures = [_picture(folder, name) for name in (row.picture, row.overlay)]
        if as_json:
            print(json.dumps({**record(row, journal), "picture": pictures[0], "overlay": pictures[1]}))
            continue
        what = [f"{row.camera}/{row.region}", row.part, _why(row), *pictures]
        line = printable(" ".join(filter(None, what)))
        print(f"{local_time(row.time)} {row.seq:8} {row.decision:7}{line}")


def print_labels(path: Path, period: Period, as_json: bool, journal: str) -> None:
    """List the labelled verdicts of a period with their newest labels, and the shares of wrong decisions."""
    labelled = list(read_labelled(path, period))
    for row, label in labelled:
        if as_json:
            print(json.dumps({**record(row, journal), "label": dataclasses.asdict(label)}))
            continue
        what = [f"{row.camera}/{row.region}", row.part, label.kind, f"by {label.who}", label.note]
        print(
            printable(
                f"{local_time(row.time)} {row.seq:8} {row.decision:7}{label.label:8}{' '.join(filter(None, what))}"
            )
        )
    if not as_json:
        print("\n".join(count_confusion(labelled).lines()))


def _why(row: VerdictRow) -> str:
    """Return in words what the decision follows from."""
    return "; ".join(filter(None, (describe_score(row.score, row.threshold), row.reason)))


def print_events(events: Iterable[EventRow], as_json: bool) -> None:
    """List events."""
    for event in events:
        if as_json:
            print(json.dumps(dataclasses.asdict(event)))
        else:
            print(printable(f"{local_time(event.time)} {event.camera or 'line'}: {event.kind} {event.detail}"))


def print_csv(rows: Iterable[VerdictRow]) -> None:
    """Print every verdict as CSV."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*COLUMNS, "relative_score"])
    for row in rows:
        writer.writerow([_cell(value) for value in (*values_of(row), row.relative_score)])


def _cell(value: object) -> object:
    """Return a CSV cell; text that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _picture(folder: Path | None, name: str) -> str:
    """Return the path of a picture; an empty text where there is none, or where it was deleted."""
    if folder is None or not name:
        return name
    path = folder / name
    return str(path) if path.is_file() else ""


def local_time(moment: str) -> str:
    """Return a moment of the journal in the local time."""
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).astimezone().strftime("%Y-%m-%d %H:%M:%S")
