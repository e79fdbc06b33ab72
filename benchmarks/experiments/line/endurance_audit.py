"""Check, after `experiments.endurance`, that the journal and the outputs account for each part and each verdict."""

from __future__ import annotations

import contextlib
import itertools
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stfpm_runtime.line.journal.reader import open_for_reading

from .endurance_plant import NEVER_PASSED, Part

ACCOUNTED = re.compile(r"(\w+): (?:verdict (\d+)|\d+ verdicts \((\d+) to (\d+)\)) (?:older than|deleted|refused)")
"""Match an event that says which verdicts an output did not get, and why."""
SHOWN = 5


@dataclass(frozen=True)
class Check:
    """One demand, and what breaks it."""

    name: str
    total: int
    """Number of things that were checked."""
    broken: tuple[str, ...]
    """What breaks it; empty where it holds."""

    @property
    def cells(self) -> list[str]:
        """Return the check as a row of a table."""
        shown = ", ".join(self.broken[:SHOWN]) + (" ..." if len(self.broken) > SHOWN else "")
        return [self.name, str(self.total), str(len(self.broken)), shown]


@dataclass(frozen=True)
class Row:
    """What matters of a verdict in the journal."""

    seq: int
    part: str
    decision: str


def audit(journal: Path, parts: Sequence[Part], delivered: dict[str, list[int]], exits: Sequence[str]) -> list[Check]:
    """Return all checks. `delivered` has the numbers of the verdicts that each output got, in their order.

    `exits` are the times that the line ended by itself and should not have.
    """
    with contextlib.closing(open_for_reading(journal)) as connection:
        rows = [Row(*row) for row in connection.execute("SELECT seq, part, decision FROM verdicts ORDER BY seq")]
        events = [str(detail) for (detail,) in connection.execute("SELECT detail FROM events ORDER BY seq")]
        (whole,) = connection.execute("PRAGMA integrity_check").fetchone()
    kinds = {part.name: part.kind for part in parts}
    known, found = {part.name for part in parts}, {row.part for row in rows}
    seqs = [row.seq for row in rows]
    missing = sorted(set(range(1, max(seqs, default=0) + 1)) - set(seqs))
    of_unknown_parts = [row for row in rows if row.part not in known]
    checks = [
        Check("the line ended by itself", len(exits), tuple(exits)),
        Check("the journal is whole", 1, () if whole == "ok" else (str(whole),)),
        Check("verdicts without a gap in their numbers", len(rows), tuple(map(str, missing))),
        Check(
            "accepted triggers have a verdict in the journal",
            sum(part.is_accepted for part in parts),
            tuple(
                f"{part.name} ({part.by})"
                for part in parts
                if part.is_accepted and part.name not in found and not part.may_be_missing
            ),
        ),
        Check("verdicts of no known part are no pass", len(of_unknown_parts),
              tuple(f"{row.seq}: {row.part!r}" for row in of_unknown_parts if row.decision == "pass")),
    ]  # fmt: skip
    for kind in NEVER_PASSED[:-1]:
        of_kind = [row for row in rows if kinds.get(row.part) == kind]
        passed = tuple(f"{row.seq}: {row.part}" for row in of_kind if row.decision == "pass")
        answered_passed = tuple(
            f"{part.name}, by its answer" for part in parts if part.kind == kind and part.answer == "pass"
        )
        checks.append(Check(f"{kind} parts are not passed", len(of_kind), (*passed, *answered_passed)))
    disagree = tuple(
        part.name for part in parts
        if part.answer and not part.may_be_missing
        and part.answer not in {row.decision for row in rows if row.part == part.name}
    )  # fmt: skip
    checks.append(Check("answers are the journal's", sum(bool(part.answer) for part in parts), disagree))
    for output, numbers in delivered.items():
        checks += _delivery(journal, output, numbers, seqs, events)
    return checks


def _delivery(
    journal: Path, output: str, numbers: Sequence[int], seqs: Sequence[int], events: Sequence[str]
) -> list[Check]:
    accounted = _accounted(journal, output, events)
    lost = sorted(set(seqs) - set(numbers) - accounted)
    first = list(dict.fromkeys(numbers))  # later ones are repetitions, as after a kill
    disorder = [str(late) for early, late in itertools.pairwise(first) if late < early]
    unknown = sorted(set(numbers) - set(seqs))
    name = f"{output}: delivered ({len(numbers) - len(first)} again, {len(set(seqs) & accounted)} accounted for)"
    return [
        Check(name, len(seqs), tuple(map(str, lost))),
        Check(f"{output}: in order", len(first), tuple(disorder)),
        Check(f"{output}: nothing that is not in the journal", len(first), tuple(map(str, unknown))),
    ]


def _accounted(journal: Path, output: str, events: Sequence[str]) -> set[int]:
    """Return the verdicts that an event, or the file of refused verdicts, says the output did not get."""
    accounted: set[int] = set()
    for detail in events:
        if (match := ACCOUNTED.match(detail)) and match[1] == output:
            first, last = int(match[2] or match[3]), int(match[2] or match[4])
            accounted |= set(range(first, last + 1))
    refused = journal.with_name(journal.name + ".refused")
    if refused.exists():
        with contextlib.closing(sqlite3.connect(refused)) as connection:
            accounted |= {
                int(seq) for (seq,) in connection.execute("SELECT seq FROM refused WHERE output = ?", (output,))
            }
    return accounted
