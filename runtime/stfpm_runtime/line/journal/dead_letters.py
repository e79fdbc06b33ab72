"""Verdicts that an output refuses for good, kept in the file JOURNAL.refused until they are sent again.

An SQLite file has one writer at a time, so a table inside the journal would make the loop wait for the outputs.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from stfpm_runtime.errors import JournalError, OptionError

from .rows import Record, utc, with_relative_score

TABLE = """
CREATE TABLE IF NOT EXISTS refused (
    output TEXT NOT NULL, journal TEXT NOT NULL, seq INTEGER NOT NULL, time TEXT NOT NULL, reason TEXT NOT NULL,
    record TEXT NOT NULL, resend INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (output, journal, seq)
)
"""


class DeadLetters:
    """Keeps the refused verdicts of one output. Its methods raise sqlite3.Error. For one thread."""

    def __init__(self, journal: Path, output: str) -> None:
        """Store which file, and whose verdicts."""
        self._path = path_of(journal)
        self._output = output

    def add(self, record: Record, reason: str) -> None:
        """Write a verdict and why it was refused; it waits until it is marked to be sent again."""
        values = (self._output, record["journal"], record["seq"], utc(), reason, json.dumps(record))
        with _opened(self._path) as connection:
            connection.execute("INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?, ?, ?, 0)", values)

    def to_resend(self) -> list[Record]:
        """Return the verdicts that are marked to be sent again, in their order."""
        if not self._path.exists():
            return []
        query = "SELECT record FROM refused WHERE output = ? AND resend = 1 ORDER BY time, seq LIMIT 100"
        with _opened(self._path) as connection:
            return [with_relative_score(json.loads(record)) for (record,) in connection.execute(query, (self._output,))]

    def remove(self, record: Record) -> None:
        """Delete a verdict that was delivered after all."""
        where = (self._output, record["journal"], record["seq"])
        with _opened(self._path) as connection:
            connection.execute("DELETE FROM refused WHERE output = ? AND journal = ? AND seq = ?", where)


def mark_for_resending(journal: Path, output: str) -> int:
    """Mark all refused verdicts of an output to be sent again, and return how many there are.

    A running line sends them within a second, another at its next start. Raises OptionError where there are none.
    """
    path = path_of(journal)
    if not journal.exists():
        raise JournalError(f"{journal}: no such file; expected a journal that stfpm-inspect wrote")
    try:
        counts: dict[str, int] = {}
        if path.exists():
            with _opened(path) as connection:
                connection.execute("UPDATE refused SET resend = 1 WHERE output = ?", (output,))
                counts = dict(connection.execute("SELECT output, count(*) FROM refused GROUP BY output"))
    except sqlite3.Error as error:
        raise JournalError(f"{path}: cannot be written ({error}); check its permissions") from None
    if not counts.get(output):
        remedy = f"expected one of the outputs that have some: {', '.join(sorted(counts)) or 'none'}"
        raise OptionError(f"no refused verdicts are kept for {output!r}; {remedy}")
    return counts[output]


def path_of(journal: Path) -> Path:
    """Return the file of a journal's refused verdicts."""
    return journal.with_name(journal.name + ".refused")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file for one transaction."""
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640))
    with contextlib.closing(sqlite3.connect(path, timeout=5.0)) as connection, connection:
        connection.execute(TABLE)
        yield connection
