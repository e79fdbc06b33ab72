"""Reads a journal while it is written: counts, rejects, events."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stfpm_runtime.errors import JournalError, OptionError

from .counts import SUMS, has_table
from .rows import COLUMNS, EVENT_COLUMNS, EventRow, VerdictRow

SCHEMA = 1
"""Version of the tables, kept as `user_version`. A newer one is refused by name."""
APPLICATION_ID = 0x5374_6670
"""`Stfp`: marks an SQLite file as a journal."""


@dataclass(frozen=True)
class Period:
    """A period, a camera and a part; the times are UTC as the journal writes them, and empty without a bound."""

    since: str = ""
    """The first time of the period, inclusive."""
    until: str = ""
    """The end of the period, exclusive."""
    camera: str = ""
    """Empty: all cameras."""
    part: str = ""
    """The id of a part; empty: all parts. Events have none."""

    def bounds(self) -> list[tuple[str, str]]:
        """Return each condition as SQL with its parameter, which is empty where the condition does not hold."""
        return [("time >= ?", self.since), ("time < ?", self.until), ("camera = ?", self.camera),
                ("part = ? AND part != ''", self.part)]  # fmt: skip

    def where(self, *also: str) -> tuple[str, list[str]]:
        """Return the conditions as SQL, and their parameters."""
        bounds = self.bounds()
        conditions = [*(text for text, value in bounds if value), *also]
        return f"WHERE {' AND '.join(conditions)}" if conditions else "", [value for _, value in bounds if value]


class JournalReader:
    """Reads one journal, without changing it. Every method raises JournalError for a journal that cannot be read."""

    def __init__(self, path: Path) -> None:
        """Open the journal. Raises JournalError where it cannot be read, or has a newer version."""
        _require_file(path)
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

    def rows(self, period: Period, not_passed: bool = False) -> Iterator[VerdictRow]:
        """Yield the verdicts of a period by their numbers; with `not_passed` those that did not pass."""
        where, values = self._where(period, *(["decision != 'pass'"] if not_passed else []))
        for row in self._rows(f"SELECT {', '.join(COLUMNS)} FROM verdicts {where} ORDER BY seq", values):
            yield VerdictRow(*row)

    def knows_camera(self, camera: str) -> bool:
        """Return whether the journal holds a verdict or an event of this camera."""
        tables = ("verdicts", "events")
        return any(
            next(self._rows(f"SELECT 1 FROM {table} WHERE camera = ? LIMIT 1", [camera]), None) for table in tables
        )

    def cameras(self) -> list[str]:
        """Return the names of the cameras that have a verdict or an event."""
        found = self._rows("SELECT DISTINCT camera FROM verdicts UNION SELECT camera FROM events ORDER BY 1", [])
        return [name for (name,) in found if name]

    def newest(self, count: int) -> list[VerdictRow]:
        """Return the last verdicts, the oldest first."""
        rows = self._rows(f"SELECT {', '.join(COLUMNS)} FROM verdicts ORDER BY seq DESC LIMIT ?", [count])
        return [VerdictRow(*row) for row in rows][::-1]

    def entry(self, seq: int) -> VerdictRow | None:
        """Return the verdict of that number; None where there is none."""
        rows = self._rows(f"SELECT {', '.join(COLUMNS)} FROM verdicts WHERE seq = ?", [seq])
        return next((VerdictRow(*row) for row in rows), None)

    def newest_events(self, count: int) -> list[EventRow]:
        """Return the last events, the newest first."""
        rows = self._rows(f"SELECT {', '.join(EVENT_COLUMNS)} FROM events ORDER BY seq DESC LIMIT ?", [count])
        return [EventRow(*row) for row in rows]

    def events(self, period: Period) -> Iterator[EventRow]:
        """Yield the events of a period in their order."""
        where, values = period.where()
        for row in self._rows(f"SELECT {', '.join(EVENT_COLUMNS)} FROM events {where} ORDER BY seq", values):
            yield EventRow(*row)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _where(self, asked: Period, *also: str) -> tuple[str, list[str]]:
        """Return SQL that limits verdicts to those asked for, and its parameters."""
        return asked.where(*also)

    def _rows(self, sql: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        try:
            for row in self._connection.execute(sql, values):  # noqa: UP028 (closes the cursor after the connection)
                yield row
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: cannot be read as a journal ({error})") from None


def open_for_reading(path: Path, check_same_thread: bool = True) -> sqlite3.Connection:
    """Return a connection that changes nothing. Raises sqlite3.Error.

    It is opened with the right to write, where there is one: SQLite may have to recover a journal whose writer was
    killed.
    """
    address = f"file:{quote(str(path.absolute()))}?mode=rw"  # of a write-protected file SQLite makes mode=ro itself
    connection = sqlite3.connect(
        address, uri=True, timeout=5.0, isolation_level=None, check_same_thread=check_same_thread
    )
    with contextlib.suppress(sqlite3.DatabaseError):  # of a file that is no journal: whoever reads it reports it
        _complete_columns(connection)
    connection.execute("PRAGMA query_only = 1")
    return connection


def _complete_columns(connection: sqlite3.Connection) -> None:
    """Let this connection read None from the columns that the journal's version did not have yet."""
    known = {name for _, name, *_ in connection.execute("PRAGMA table_info(verdicts)")}
    if known and (missing := [f"NULL AS {name}" for name in COLUMNS if name not in known]):
        connection.execute(f"CREATE TEMP VIEW verdicts AS SELECT *, {', '.join(missing)} FROM main.verdicts")


def _require_file(path: Path) -> None:
    try:
        is_there, why = path.is_file(), "no such file"
    except OSError as error:  # a folder that may not be entered, a name that is too long
        is_there, why = False, f"cannot be read ({error.strerror})"
    if not is_there:
        raise JournalError(f"{path}: {why}; expected a journal that stfpm-inspect wrote")


@contextlib.contextmanager
def opened(journal: Path, writing: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a journal that exists. Raises JournalError, also for what SQLite raises while it is used."""
    _require_file(journal)
    try:
        with contextlib.closing(open_for_reading(journal)) as connection:
            check_version(connection, journal)
            if writing:
                connection.execute("PRAGMA query_only = 0")
            yield connection
    except sqlite3.Error as error:
        raise JournalError(f"{journal}: cannot be used as a journal ({error}); check the file") from None


def counts_by_model(journal: Path, newest: int) -> dict[str, tuple[int, int, int]]:
    """Return how many of the newest verdicts each model has passed, rejected and not judged. Raises JournalError."""
    sql = f"SELECT model, {SUMS} FROM (SELECT model, decision FROM verdicts ORDER BY seq DESC LIMIT ?) GROUP BY model"
    with opened(journal) as connection:
        return {model: (passed, rejected, faults)
                for model, passed, rejected, faults in connection.execute(sql, (newest,))}  # fmt: skip


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of the tables, 0 for an empty file. Raises JournalError for a newer one, or another file."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (tables or version):
        raise JournalError(
            f"{path}: an SQLite file, but not a journal of stfpm-inspect; choose another file for the journal"
        )
    if version > SCHEMA:
        raise JournalError(
            f"{path}: a journal of version {version}, this stfpm-edge knows up to {SCHEMA}; "
            "upgrade it with: pip install -U stfpm-edge, or choose another file"
        )
    return int(version)


def read_debounces(connection: sqlite3.Connection) -> dict[tuple[int, str], tuple[int, int]]:
    """Return N and M of each debounce by run and camera; none for a journal that an older version wrote."""
    if not has_table(connection, "debounces"):
        return {}
    rows = connection.execute("SELECT run, camera, wanted, window FROM debounces")
    return {(run, camera): (wanted, window) for run, camera, wanted, window in rows}


def check_journals(journals: Sequence[JournalReader], camera: str = "") -> None:
    """Raise OptionError where one is there twice, or where none holds a verdict or an event of this camera."""
    if len({journal.id for journal in journals}) < len(journals):
        raise OptionError("a journal, or a copy of it, is named twice; expected each once, or its verdicts count twice")
    if camera and not any(journal.knows_camera(camera) for journal in journals):
        known = ", ".join(sorted({name for journal in journals for name in journal.cameras()}))
        raise OptionError(f"got camera {camera!r}; expected one that the journal knows: {known or 'none yet'}")
