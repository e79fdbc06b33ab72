"""What `stfpm-journal` prints: tables and lists for a person, JSON or CSV."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from stfpm_runtime.cli import printable
from stfpm_runtime.line.journal.history import KEYS, Count, Per
from stfpm_runtime.line.journal.labels import count_confusion, read_labelled
from stfpm_runtime.line.journal.reader import JournalReader, Period
from stfpm_runtime.line.journal.rows import EventRow, VerdictRow, csv_text, local_time, to_record
from stfpm_runtime.score import describe_score


def print_counts(counts: Sequence[Count], as_json: bool, per: Per) -> None:
    """Print a table of counts and yield by what `per` says, or JSON."""
    total = Count(("all",), 0, 0, 0)
    for count in counts:
        total = total.plus(count.passed, count.rejected, count.faults)
    if as_json:
        of_all = {key: value for key, value in total.fields("model").items() if key != "model"}
        print(json.dumps({f"{per}s": [count.fields(per) for count in counts], "all": of_all}, indent=1))
        return
    if not counts:
        print("no verdicts in this period")
        return
    width = 33 // len(KEYS[per]) if per in ("region", "shift") else 18
    print(f"{_names(KEYS[per], width)}{'total':>10}{'passed':>10}{'rejected':>10}{'faults':>10}{'yield':>9}")
    for count in (*counts, *([total] if len(counts) != 1 else [])):
        share = "-" if count.yield_rate is None else f"{count.yield_rate:.1%}"
        key = (local_time(count.key[0])[:16],) if per == "hour" and count is not total else count.key
        names = _names((*key, *[""] * (len(KEYS[per]) - len(key))), width)
        print(f"{names}{count.total:10}{count.passed:10}{count.rejected:10}{count.faults:10}{share:>9}")


def _names(names: Sequence[str], width: int) -> str:
    return "".join(f"{name:{width - 1}} " for name in names)


def print_rejects(rows: Iterable[VerdictRow], folder: Path | None, as_json: bool, journal: str) -> None:
    """List verdicts that are no pass; `folder` is that of the pictures, `journal` the id for JSON."""
    for row in rows:
        pictures = [_picture(folder, name) for name in (row.picture, row.overlay)]
        if as_json:
            print(json.dumps({**to_record(row, journal), "picture": pictures[0], "overlay": pictures[1]}))
            continue
        what = [f"{row.camera}/{row.region}", row.part, _why(row), *pictures]
        line = printable(" ".join(filter(None, what)))
        print(f"{local_time(row.time)} {row.seq:8} {row.decision:7}{line}")


def print_labels(journals: Sequence[JournalReader], period: Period, as_json: bool) -> None:
    """List the labelled verdicts of a period with their newest labels, and the shares of wrong decisions."""
    labelled = [(journal.id, *found) for journal in journals for found in read_labelled(journal.path, period)]
    for journal, row, label in labelled:
        if as_json:
            print(json.dumps({**to_record(row, journal), "label": dataclasses.asdict(label)}))
            continue
        what = [f"{row.camera}/{row.region}", row.part, label.kind, f"by {label.who}", label.note]
        print(
            printable(
                f"{local_time(row.time)} {row.seq:8} {row.decision:7}{label.label:8}{' '.join(filter(None, what))}"
            )
        )
    if not as_json:
        print("\n".join(count_confusion(found[1:] for found in labelled).lines()))


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
    """Print verdicts as CSV."""
    print(csv_text([]), end="")
    for row in rows:
        print(csv_text([row], with_header=False), end="")


def _picture(folder: Path | None, name: str) -> str:
    """Return the path of a picture; an empty text where there is none, or where it was deleted."""
    if folder is None or not name:
        return name
    path = folder / name
    return str(path) if path.is_file() else ""
