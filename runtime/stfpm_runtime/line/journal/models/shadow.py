"""What the shadow model said, as rows in the journal: sums by model, and each verdict that differs from the line's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stfpm_runtime.line.journal.counts import has_table
from stfpm_runtime.line.journal.reader import opened

TABLES = (
    """CREATE TABLE IF NOT EXISTS shadow_counts (
    model TEXT PRIMARY KEY, compared INTEGER NOT NULL, disagreed INTEGER NOT NULL, would_reject INTEGER NOT NULL,
    left_out INTEGER NOT NULL
)""",
    """CREATE TABLE IF NOT EXISTS disagreements (
    verdict INTEGER NOT NULL, model TEXT NOT NULL, decision TEXT NOT NULL, score REAL, threshold REAL NOT NULL,
    PRIMARY KEY (verdict, model)
)""",
)


@dataclass(frozen=True)
class ShadowCounts:
    """Parts that a shadow has judged, and how."""

    compared: int = 0
    disagreed: int = 0
    would_reject: int = 0
    """Parts that the line passed and the shadow did not."""
    left_out: int = 0
    """Parts that came while too many waited."""


@dataclass(frozen=True)
class Disagreement:
    """A verdict of the shadow that differs from the line's."""

    verdict: int
    """The number of the line's."""
    model: str
    """The shadow's SHA-256."""
    decision: str
    score: float | None
    threshold: float


def write_shadow_results(journal: Path, model: str, counts: ShadowCounts, found: Sequence[Disagreement]) -> None:
    """Write a shadow's sums and its new disagreements. Raises JournalError."""
    with opened(journal, writing=True) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for table in TABLES:
            connection.execute(table)
        sql = "INSERT OR REPLACE INTO shadow_counts VALUES (?, ?, ?, ?, ?)"
        connection.execute(sql, (model, *dataclasses.astuple(counts)))
        sql = "INSERT OR REPLACE INTO disagreements VALUES (?, ?, ?, ?, ?)"
        connection.executemany(sql, map(dataclasses.astuple, found))
        connection.execute("DELETE FROM disagreements WHERE verdict < (SELECT min(seq) FROM verdicts)")
        connection.execute("COMMIT")


def read_shadow_counts(journal: Path) -> dict[str, ShadowCounts]:
    """Return the sums by model. Raises JournalError."""
    with opened(journal) as connection:
        if not has_table(connection, "shadow_counts"):
            return {}
        return {model: ShadowCounts(*counts) for model, *counts in connection.execute("SELECT * FROM shadow_counts")}


def read_disagreements(journal: Path) -> set[int]:
    """Return the numbers of the verdicts that differ from a shadow's. Raises JournalError."""
    with opened(journal) as connection:
        if not has_table(connection, "disagreements"):
            return set()
        return {verdict for (verdict,) in connection.execute("SELECT verdict FROM disagreements")}
