"""Which rows of the chain protect a stretch of verdicts and events: from the head before it to the one that covers it.

A head is written each minute, so there are few rows beside those of the stretch.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from .links import row_number

Range = tuple[int, int]
"""The numbers of a first and a last row."""
NEWEST = 2**62
"""A number above those of all rows."""
WHOLE: Range = (0, NEWEST)


@dataclass(frozen=True)
class Stretch:
    """Rows of a journal that are verified without the others."""

    verdicts: Range
    events: Range | None = None
    """None: there are no events."""

    def ranges(self, connection: sqlite3.Connection) -> dict[str, Range]:
        """Return which rows of each chained table are verified; a table that is left out is verified as a whole.

        A range begins with the row that the head before the stretch names, and ends behind the stretch: rows that were
        deleted from an end, or moved over it by another time, are then found.
        """
        first, last = self.verdicts
        sql = "SELECT seq, body FROM heads WHERE verdict {} ? ORDER BY seq {}"
        earlier = connection.execute(sql.format("<", "DESC LIMIT 1"), (first,))
        before = next((_links(row) for row in earlier), {})
        least = self.events[1] if self.events else 0
        later = map(_links, connection.execute(sql.format(">=", ""), (last,)))
        covering = next((links for links in later if links.get("events", -1) >= least), {})
        pictures = connection.execute(
            "SELECT min(seq), max(seq) FROM pictures WHERE verdict BETWEEN ? AND ?", self.verdicts
        ).fetchone()
        found = {"heads": (before.get("heads", 0), covering.get("heads", NEWEST))}
        for table, listed in (("verdicts", self.verdicts), ("events", self.events), ("pictures", pictures)):
            low, high = before.get(table, 0), covering.get(table, NEWEST)
            if listed and listed[0] is not None:
                sql = f"SELECT coalesce(min(seq), ?) FROM {table} WHERE seq > ?"
                (following,) = connection.execute(sql, (listed[1], listed[1])).fetchone()
                low, high = min(low, listed[0]), max(high, following)
            found[table] = low, high
        return found


def _links(head: Sequence[object]) -> dict[str, int]:
    """Return the newest number of each table at a head, and its own; empty where the head makes no sense."""
    try:
        links = {table: row_number(seq) for table, (seq, _) in json.loads(str(head[1]))["heads"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return links | {"heads": int(str(head[0]))}
