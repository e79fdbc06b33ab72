"""The journal: an SQLite file that holds every verdict before any output sends it.

In WAL mode neither readers nor the writer wait for each other. With `synchronous = FULL` a commit is on the disk when
it returns, so that a verdict that was sent (to a PLC, for example) is still there after a power cut; with NORMAL the
last ones would be lost, and their numbers given out again. FULL costs one fdatasync a verdict: 0.2 ms on an SSD, 5 to
20 ms on a slow SD card, for which NORMAL is meant. A killed process loses nothing in either case.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from stfpm_runtime.errors import JournalError
from stfpm_runtime.files import file_identity, private_opener

from .chain.links import INSERT_PICTURE, PictureRow, Signer, begin, fields, link, write_digests, write_head
from .chain.pruning import aged_rows, oldest_rows, prune
from .counts import prepare
from .file import lock
from .reader import APPLICATION_ID, SCHEMA, check_version
from .rows import COLUMNS, EVENT_COLUMNS, EventRow, VerdictRow, event_values_of, utc, values_of
from .threshold_changes import TABLE as THRESHOLDS
from .threshold_changes import State, ThresholdChange, read_changes

Synchronous = Literal["full", "normal"]
WAL_BYTES = 8 << 20
"""The size that the file FILE-wal is cut back to."""
TABLES = """
CREATE TABLE meta (id TEXT NOT NULL);
CREATE TABLE runs (run INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, model TEXT NOT NULL);
CREATE TABLE verdicts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, monotonic_ns INTEGER NOT NULL, run INTEGER NOT NULL,
    camera TEXT NOT NULL, region TEXT NOT NULL, source TEXT NOT NULL, frame INTEGER, part TEXT NOT NULL,
    decision TEXT NOT NULL CHECK (decision IN ('pass', 'reject', 'fault')), score REAL, p_value REAL,
    threshold REAL NOT NULL, reason TEXT NOT NULL, model TEXT NOT NULL, dropped INTEGER NOT NULL,
    wait_ms REAL NOT NULL, preprocess_ms REAL NOT NULL, infer_ms REAL NOT NULL, latency_ms REAL NOT NULL,
    picture TEXT NOT NULL, overlay TEXT NOT NULL,
    CHECK ((score IS NULL) = (decision = 'fault'))
);
CREATE INDEX verdicts_time ON verdicts (time);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, monotonic_ns INTEGER NOT NULL, run INTEGER NOT NULL,
    camera TEXT NOT NULL, source TEXT NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL
);
"""
DEBOUNCES = """
CREATE TABLE IF NOT EXISTS debounces (
    run INTEGER NOT NULL, camera TEXT NOT NULL, wanted INTEGER NOT NULL, window INTEGER NOT NULL,
    PRIMARY KEY (run, camera)
)
"""
"""The setting `debounce` of each camera that has one, by the run of the line."""
INDEXES = (
    "CREATE INDEX IF NOT EXISTS verdicts_pictured ON verdicts (seq) WHERE picture != '' OR overlay != ''",
    "CREATE INDEX IF NOT EXISTS verdicts_part ON verdicts (part) WHERE part != ''",
)
"""They find the few verdicts with pictures, and those of a part, among millions."""
INSERT = f"INSERT INTO verdicts ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
INSERT_EVENT = f"INSERT INTO events ({', '.join(EVENT_COLUMNS)}) VALUES ({', '.join('?' * len(EVENT_COLUMNS))})"


class DamagedJournalError(JournalError):
    """The file is not a journal any more, for example because its pages were overwritten; it can be set aside."""


class Journal:
    """Writes verdicts and events, each write a transaction. For one thread, and one process at a time.

    Raises JournalError where it cannot be opened or written, DamagedJournalError where its contents make no sense.
    """

    def __init__(self, path: Path, synchronous: Synchronous = "full", signer: Signer | None = None) -> None:
        self.path, self._signer = path, signer
        self._lock = lock(path)
        try:
            with _translated_errors(path):
                self._connection = _connect(path, synchronous)
                self.id: str = self._connection.execute("SELECT id FROM meta").fetchone()[0]
                """Random, made with the file: a number is unique together with it."""
                self._file = file_identity(path)
                self._last = self._last_number("verdicts")
                self._last_event = self._last_number("events")
                self._version = -1
            with self.transaction() as connection:
                begin(connection, self.id, signer)
                self._listed = fields(connection, "verdicts")
        except JournalError:
            self._lock.close()
            raise

    def begin_run(self, model: str, debounces: Mapping[str, tuple[int, int]] = MappingProxyType({})) -> int:
        """Begin a run of the loop with the model of this SHA-256 and its cameras' debounces; return its number."""
        with self.transaction() as connection:
            run = connection.execute("INSERT INTO runs (time, model) VALUES (?, ?)", (utc(), model)).lastrowid or 0
            rows = [(run, camera, *debounce) for camera, debounce in debounces.items()]
            connection.executemany("INSERT INTO debounces VALUES (?, ?, ?, ?)", rows)
            write_digests(connection, "runs", run)
            write_digests(connection, "debounces", *(f"{run} {camera}" for camera in debounces))
        return run

    @property
    def next_seq(self) -> int:
        """Return the number that the next verdict will have."""
        return self._last + 1

    def write(self, row: VerdictRow) -> VerdictRow:
        """Write a verdict in one transaction, and return it with its number."""
        row = dataclasses.replace(row, seq=self._last + 1)
        with self.transaction() as connection:
            connection.execute(INSERT, values_of(row))
            link(connection, "verdicts", row.seq, row.seq, self._listed)
        self._last = row.seq
        return row

    def write_late(self, rows: Sequence[VerdictRow]) -> None:
        """Write verdicts that could not be written when they were made, all in one transaction."""
        numbered = [dataclasses.replace(row, seq=seq) for seq, row in enumerate(rows, self._last + 1)]
        with self.transaction() as connection:
            connection.executemany(INSERT, map(values_of, numbered))
            link(connection, "verdicts", self._last + 1, self._last + len(numbered))
        self._last += len(numbered)

    def write_events(self, rows: Sequence[EventRow], pictures: Sequence[PictureRow] = ()) -> None:
        """Write events and what became of pictures, all in one transaction."""
        numbered = [dataclasses.replace(row, seq=seq) for seq, row in enumerate(rows, self._last_event + 1)]
        with self.transaction() as connection:
            connection.executemany(INSERT_EVENT, map(event_values_of, numbered))
            link(connection, "events", self._last_event + 1, self._last_event + len(numbered))
            for picture in pictures:
                seq = connection.execute(INSERT_PICTURE, picture).lastrowid or 0
                link(connection, "pictures", seq, seq)
        self._last_event += len(numbered)

    def threshold_changes(self, state: State) -> list[ThresholdChange]:
        """Return the changes in that state; new ones are read only where another connection has written since."""
        with _translated_errors(self.path):
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if state == "ordered" and version == self._version:
                return []
            changes = read_changes(self._connection, state)
            if state == "ordered":
                self._version = version
        return changes

    def times_around(self, before: str) -> tuple[str, str, str]:
        """Return the times of three verdicts: the oldest, the newest before that moment, the oldest from then on.

        An empty text stands for one that does not exist. It costs three look-ups in the index.
        """
        sql = (
            "SELECT coalesce((SELECT min(time) FROM verdicts), ''), "
            "coalesce((SELECT max(time) FROM verdicts WHERE time < ?), ''), "
            "coalesce((SELECT min(time) FROM verdicts WHERE time >= ?), '')"
        )
        with _translated_errors(self.path):
            oldest, last, first = self._connection.execute(sql, (before, before)).fetchone()
        return str(oldest), str(last), str(first)

    def newest_time(self) -> str:
        """Return the time of the last verdict; an empty text where there is none."""
        with _translated_errors(self.path):
            row = self._connection.execute("SELECT time FROM verdicts ORDER BY seq DESC LIMIT 1").fetchone()
        return str(row[0]) if row else ""

    def delete_oldest(
        self, before: str | None, max_bytes: float | None, limit: int = 500, now: str | None = None
    ) -> int:
        """Delete up to `limit` of the oldest verdicts and events: those before a time, or too many for `max_bytes`.

        Returns how many were deleted. The step is so small that it does not delay the line. The file keeps its size:
        what is free in it is used again. `now` is the present time.
        """
        with self.transaction() as connection:
            deleted = 0
            if before is not None:
                deleted = prune(connection, aged_rows(connection, before, now or utc(), limit), self._signer)
            if max_bytes is not None and self._used_bytes() > max_bytes:
                deleted += prune(connection, oldest_rows(connection, limit), self._signer)
        return deleted

    def write_head(self) -> str:
        """Write the newest hashes as a head of the chain; return in words where the key is not that of the last one."""
        with self.transaction() as connection:
            return write_head(connection, self._signer)

    def check_in_place(self) -> None:
        """Raise JournalError if the file was moved or deleted: SQLite would go on writing without an error."""
        if file_identity(self.path) != self._file:
            raise JournalError(
                f"{self.path}: the journal was moved or deleted while it was written; leave it in its place"
            )

    def check_writable(self) -> None:
        """Raise JournalError if nothing can be written, because another process holds the file. Writes nothing."""
        with self.transaction():
            pass

    def close(self) -> None:
        """Close the file. May be called twice."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        self._lock.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for one transaction. Raises JournalError where it cannot be written."""
        with _translated_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself, on a full disk
                    self._connection.execute("ROLLBACK")
                raise

    def _last_number(self, table: str) -> int:
        """Return the highest number ever given out, rows that were deleted since included."""
        row = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return int(row[0]) if row else 0

    def _used_bytes(self) -> int:
        pages, free, size = (
            int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size


def _connect(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    with contextlib.suppress(OSError):  # FILE-wal and FILE-shm get the mode of FILE from SQLite
        os.close(private_opener(str(path), os.O_RDWR | os.O_CREAT))
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None)
    try:
        version = check_version(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        if version == 0:
            connection.executescript(
                f"BEGIN; {TABLES} INSERT INTO meta VALUES ('{secrets.token_hex(4)}');"
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA}; COMMIT;"
            )
        connection.execute(THRESHOLDS)
        connection.execute(DEBOUNCES)
        for index in INDEXES:
            connection.execute(index)
        prepare(connection)
        connection.execute("SELECT seq FROM verdicts ORDER BY seq DESC LIMIT 1").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    """Raise JournalError for SQLite's errors."""
    try:
        yield
    except sqlite3.OperationalError as error:  # of the disk, permissions, another writer
        remedy = "free space, check the folder's permissions, or choose another file"
        raise JournalError(f"{path}: the journal cannot be written ({error}); {remedy}") from None
    except (sqlite3.DatabaseError, TypeError) as error:  # TypeError: there is no row in meta
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.InterfaceError):
            raise  # a bug
        expected = "expected one that stfpm-inspect wrote"
        raise DamagedJournalError(f"{path}: the journal is damaged ({error}); {expected}") from None
