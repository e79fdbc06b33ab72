"""Reading a journal while it is written: counts, rejects, events. Nothing here can change it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stfpm_runtime.errors import JournalError, OptionError

from .rows import COLUMNS, EVENT_COLUMNS, EventRow, VerdictRow
from .writer import check_version


@dataclass(frozen=True)
class Period:
    """Which verdicts; the times are UTC as the journal writes them, and empty where there is no bound."""

    since: str = ""
    """Included."""
    until: str = ""
    """Excluded."""
    camera: str = ""
    """Of this camera alone."""

    def where(self, *also: str) -> tuple[str, list[str]]:
        """The conditions as SQL, and their parameters."""
        bounds = [("time >= ?", self.since), ("time < ?", self.until), ("camera = ?", self.camera)]
        conditions = [*(text for text, value in bounds if value), *also]
        return f"WHERE {' AND '.join(conditions)}" if conditions else "", [value for _, value in bounds if value]


@dataclass(frozen=True)
class Count:
    """How many verdicts a region of a camera had."""

    camera: str
    region: str
    passed: int
    rejected: int
    faults: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.passed + self.rejected + self.faults

    @property
    def yielded(self) -> float | None:
        """The share that passed, faults being none of them; None without verdicts."""
        return self.passed / self.total if self.total else None


class JournalReader:
    """A journal for reading. Raises JournalError where it cannot be read, or is of a newer version."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise JournalError(f"{path}: no such file; expected a journal that stfpm-inspect wrote")
        self.path = path
        try:
            self._connection = open_for_reading(path)
        except sqlite3.Error as error:
            raise JournalError(f"{path}: cannot be read ({error}); check its permissions") from None
        try:
            if check_version(self._connection, path) == 0:
                raise JournalError(f"{path}: the file is empty; expected a journal that stfpm-inspect wrote")
            self.id: str = self._connection.execute("SELECT id FROM meta").fetchone()[0]
        except (JournalError, sqlite3.Error) as error:
            self._connection.close()
            if isinstance(error, JournalError):
                raise
            raise JournalError(f"{path}: cannot be read as a journal ({error})") from None

    def counts(self, period: Period) -> list[Count]:
        """Of each region of each camera that has any verdicts in the period."""
        where, values = period.where()
        sums = ", ".join(f"sum(decision = '{decision}')" for decision in ("pass", "reject", "fault"))
        sql = f"SELECT camera, region, {sums} FROM verdicts {where} GROUP BY camera, region ORDER BY camera, region"
        return [Count(*row) for row in self._rows(sql, values)]

    def entries(self, period: Period, not_passed: bool = False) -> Iterator[VerdictRow]:
        """Verdicts in the order of their numbers; of those that were not passed alone, where asked for."""
        where, values = period.where(*(["decision != 'pass'"] if not_passed else []))
        for row in self._rows(f"SELECT {', '.join(COLUMNS)} FROM verdicts {where} ORDER BY seq", values):
            yield VerdictRow(*row)

    def check_camera(self, camera: str) -> None:
        """Raise OptionError where the journal holds neither a verdict nor an event of this camera."""
        for table in ("verdicts", "events"):
            if next(self._rows(f"SELECT 1 FROM {table} WHERE camera = ? LIMIT 1", [camera]), None):
                return
        found = self._rows("SELECT DISTINCT camera FROM verdicts UNION SELECT camera FROM events ORDER BY 1", [])
        known = ", ".join(name for (name,) in found if name)
        raise OptionError(f"got camera {camera!r}; expected one that the journal knows: {known or 'none yet'}")

    def newest(self, count: int) -> list[VerdictRow]:
        """The last verdicts, the oldest first."""
        rows = self._rows(f"SELECT {', '.join(COLUMNS)} FROM verdicts ORDER BY seq DESC LIMIT ?", [count])
        return [VerdictRow(*row) for row in rows][::-1]

    def entry(self, seq: int) -> VerdictRow | None:
        """The verdict of that number; None where there is none."""
        rows = self._rows(f"SELECT {', '.join(COLUMNS)} FROM verdicts WHERE seq = ?", [seq])
        return next((VerdictRow(*row) for row in rows), None)

    def newest_events(self, count: int) -> list[EventRow]:
        """The last events, the newest first."""
        rows = self._rows(f"SELECT {', '.join(EVENT_COLUMNS)} FROM events ORDER BY seq DESC LIMIT ?", [count])
        return [EventRow(*row) for row in rows]

    def events(self, period: Period) -> Iterator[EventRow]:
        """What befell cameras and line, in order."""
        where, values = period.where()
        for row in self._rows(f"SELECT {', '.join(EVENT_COLUMNS)} FROM events {where} ORDER BY seq", values):
            yield EventRow(*row)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _rows(self, sql: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        try:
            for row in self._connection.execute(sql, values):  # noqa: UP028 (closes the cursor after the connection)
                yield row
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: cannot be read as a journal ({error})") from None


def open_for_reading(path: Path, check_same_thread: bool = True) -> sqlite3.Connection:
    """A connection that changes nothing. Raises sqlite3.Error.

    SQLite may have to recover a journal whose writer was killed, which takes the right to write, where we have it.
    """
    address = f"file:{quote(str(path.absolute()))}?mode=rw"  # of a write-protected file SQLite makes mode=ro itself
    connection = sqlite3.connect(
        address, uri=True, timeout=5.0, isolation_level=None, check_same_thread=check_same_thread
    )
    connection.execute("PRAGMA query_only = 1")
    return connection
