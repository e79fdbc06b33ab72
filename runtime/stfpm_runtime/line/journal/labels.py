"""Labels: what a person says that a journalled part really was, as rows in the journal's table `labels`.

A label never changes a verdict. The newest label of a part counts; the earlier ones stay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from stfpm_runtime.binomial import rate_interval
from stfpm_runtime.errors import OptionError

from .chain.links import write_digests
from .counts import has_table
from .reader import Period, opened
from .rows import COLUMNS, VerdictRow, check_texts, utc

Value = Literal["good", "defect", "unclear"]
VALUES: tuple[Value, ...] = get_args(Value)
TABLES = (
    """CREATE TABLE IF NOT EXISTS labels (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, verdict INTEGER NOT NULL,
    label TEXT NOT NULL CHECK (label IN ('good', 'defect', 'unclear')),
    kind TEXT NOT NULL, who TEXT NOT NULL, note TEXT NOT NULL
)""",
    "CREATE INDEX IF NOT EXISTS labels_verdict ON labels (verdict)",
)


@dataclass(frozen=True)
class Label:
    """A row of the table."""

    seq: int
    """0 until it is written."""
    time: str
    verdict: int
    """The number of the part's verdict."""
    label: Value
    kind: str
    """The kind of defect; may be empty."""
    who: str
    note: str = ""


FIELDS = tuple(field.name for field in dataclasses.fields(Label))
INSERT = f"INSERT INTO labels ({', '.join(FIELDS[1:])}) VALUES ({', '.join('?' * (len(FIELDS) - 1))})"


@dataclass(frozen=True)
class Confusion:
    """Counts of labelled verdicts, and of the wrong ones among them; `unclear` parts and faults count in neither."""

    rejected: int
    """Labelled parts that were rejected."""
    rejected_good: int
    """Those of them that were good after all."""
    passed: int
    passed_defects: int
    unclear: int

    def lines(self) -> list[str]:
        """Return a line for each share, with its interval of 95% confidence."""
        rows = [("rejected parts were good", self.rejected_good, self.rejected),
                ("passed parts were defective", self.passed_defects, self.passed)]  # fmt: skip
        lines = []
        for words, wrong, of in rows:
            low, high = rate_interval(wrong, of)
            share = f" ({wrong / of:.1%}, 95% interval {low:.1%} to {high:.1%})" if of else ""
            lines.append(f"{wrong} of {of} labelled {words}{share}")
        return [*lines, *([f"{self.unclear} parts are labelled unclear"] if self.unclear else [])]


def new_label(verdict: int, label: Value, who: str, kind: str = "", note: str = "") -> Label:
    """Return a label of this moment, not written yet. Raises OptionError for texts that a journal may not hold."""
    check_texts(who, kind=kind, note=note)
    if kind and label != "defect":
        raise OptionError(f"got the kind {kind!r} with the label {label}; only a defect has a kind")
    return Label(0, utc(), verdict, label, kind, who, note)


def write_label(journal: Path, label: Label) -> tuple[VerdictRow, list[Label]]:
    """Write a label into a journal, whose line may run; return the part's verdict and its earlier labels.

    Raises OptionError where the journal has no verdict of that number, JournalError where it cannot be written.
    """
    with opened(journal, writing=True) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for statement in TABLES:
            connection.execute(statement)
        row = connection.execute(
            f"SELECT {', '.join(COLUMNS)} FROM verdicts WHERE seq = ?", (label.verdict,)
        ).fetchone()
        if row is None:
            connection.execute("ROLLBACK")
            raise OptionError(f"{journal}: has no verdict {label.verdict}; see its numbers with --rejects or --csv")
        earlier = [Label(*found) for found in connection.execute(
            f"SELECT {', '.join(FIELDS)} FROM labels WHERE verdict = ? ORDER BY seq", (label.verdict,))]  # fmt: skip
        write_digests(connection, "labels", connection.execute(INSERT, dataclasses.astuple(label)[1:]).lastrowid)
        connection.execute("COMMIT")
    return VerdictRow(*row), earlier


def read_labelled(journal: Path, period: Period) -> Iterator[tuple[VerdictRow, Label]]:
    """Yield each labelled verdict of the period with its newest label, by number. Raises JournalError."""
    where, values = period.where()
    columns = [*(f"verdict.{name}" for name in COLUMNS), *(f"label.{name}" for name in FIELDS)]
    sql = (
        f"SELECT {', '.join(columns)} FROM (SELECT * FROM verdicts {where}) AS verdict "
        "JOIN labels AS label ON label.verdict = verdict.seq "
        "WHERE label.seq IN (SELECT max(seq) FROM labels GROUP BY verdict) ORDER BY verdict.seq"
    )
    with opened(journal) as connection:
        if not has_table(connection, "labels"):
            return
        for row in connection.execute(sql, values):
            yield VerdictRow(*row[: len(COLUMNS)]), Label(*row[len(COLUMNS) :])


def read_pictured(journal: Path, count: int) -> list[tuple[VerdictRow, Label | None]]:
    """Return the newest verdicts whose original was kept, each with its newest label, the newest first.

    Raises JournalError.
    """
    return list(_newest(journal, "verdict.picture != ''", count))


def read_unlabelled(journal: Path, count: int) -> list[VerdictRow]:
    """Return those without a label of the newest verdicts with a picture, the newest first. Raises JournalError."""
    found = _newest(journal, "verdict.picture != '' OR verdict.overlay != ''", count)
    return [row for row, label in found if label is None]


def _newest(journal: Path, condition: str, count: int) -> Iterator[tuple[VerdictRow, Label | None]]:
    """Yield the newest verdicts that fulfil a condition, each with its newest label."""
    columns = ", ".join(f"verdict.{name}" for name in COLUMNS)
    newest = f"SELECT {', '.join(FIELDS)} FROM labels WHERE verdict = ? ORDER BY seq DESC LIMIT 1"
    with opened(journal) as connection:
        has_labels = has_table(connection, "labels")
        sql = f"SELECT {columns} FROM verdicts AS verdict WHERE {condition} ORDER BY seq DESC LIMIT ?"
        for row in connection.execute(sql, (count,)):
            found = connection.execute(newest, (row[0],)).fetchone() if has_labels else None
            yield VerdictRow(*row), Label(*found) if found else None


def count_confusion(labelled: Iterable[tuple[VerdictRow, Label]]) -> Confusion:
    """Count the wrong decisions among labelled verdicts."""
    counts = dict.fromkeys((f.name for f in dataclasses.fields(Confusion)), 0)
    for verdict, label in labelled:
        if label.label == "unclear":
            counts["unclear"] += 1
        elif verdict.decision == "reject":
            counts["rejected"] += 1
            counts["rejected_good"] += label.label == "good"
        elif verdict.decision == "pass":
            counts["passed"] += 1
            counts["passed_defects"] += label.label == "defect"
    return Confusion(**counts)
