"""Which parts are most worth a person's look: pictured verdicts that nobody has labelled yet."""

from __future__ import annotations

from pathlib import Path

from .labels import read_unlabelled
from .models.shadow import read_disagreements
from .rows import VerdictRow

NEWEST = 5000
"""Pictured verdicts that are looked through."""
SPREAD = 2654435761
"""Multiplies a verdict's number: the remainder orders verdicts as at random, and always in the same way (Knuth)."""
NEAR = 1.5
"""A score of less than so many times the threshold is near it."""


def review_queue(journal: Path, count: int) -> list[tuple[VerdictRow, str]]:
    """Return at most `count` verdicts with the reason why each is worth a look, the most worth first.

    The reasons take turns: a disagreement of shadow and line, the reject and the pass nearest to the threshold, and a
    pass at random. Faults have no score and no place here. Raises JournalError.
    """
    rows = [row for row in read_unlabelled(journal, NEWEST) if row.relative_score is not None]
    rejects = sorted((row for row in rows if row.decision == "reject"), key=_relative)
    passes = sorted((row for row in rows if row.decision == "pass"), key=_relative, reverse=True)
    differing = read_disagreements(journal)
    groups: dict[str, list[VerdictRow]] = {
        "the shadow disagrees": [row for row in rows if row.seq in differing],
        "reject near the threshold": [row for row in rejects if _relative(row) < NEAR],
        "pass near the threshold": passes,
        "random pass": sorted(passes, key=lambda row: row.seq * SPREAD % 2**32),
        "reject": rejects,
    }
    found: dict[int, tuple[VerdictRow, str]] = {}
    waiting = {reason: iter(group) for reason, group in groups.items()}
    while waiting and len(found) < count:
        for reason, group in list(waiting.items()):
            row = next((row for row in group if row.seq not in found), None)
            if row is None:
                del waiting[reason]
            elif len(found) < count:
                found[row.seq] = row, reason
    return list(found.values())


def _relative(row: VerdictRow) -> float:
    return row.relative_score or 0.0
