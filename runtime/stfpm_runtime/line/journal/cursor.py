"""The position of an output in the journal: kept in a small file, and compared with a journal that may have changed.

The file is overwritten in place, so a killed process loses nothing; it is flushed to the disk once a second at most,
so a power cut repeats the verdicts of about one second.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from dataclasses import asdict, dataclass
from pathlib import Path

SYNC_S = 1.0
"""The file is flushed to the disk at most this often."""
BYTES = 256
"""Length of the file, filled up with spaces: an overwrite needs no room on a full disk."""
LAST = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?"


@dataclass(frozen=True)
class Position:
    """The last verdict and the last event that were delivered."""

    journal: str
    """Id of the journal; empty matches no journal."""
    seq: int
    """Number of the verdict; 0: none."""
    time: str = ""
    """Time of that verdict, by which a number that was used again is recognised; empty where it is not known."""
    event: int | None = None
    """Number of the event; None where it is not known."""


class CursorFile:
    """Keeps a position on the disk. For one thread."""

    def __init__(self, journal: Path, output: str) -> None:
        """Store the path of the cursor of the output with this name."""
        self.path = journal.with_name(f"{journal.name}.{output}.cursor")
        self._file: int | None = None
        self._synced_s = 0.0
        self._unsynced = False

    def read(self) -> Position | None:
        """Return the position, or None where there is no file. Raises ValueError for a damaged one."""
        try:
            data = json.loads(self.path.read_text(encoding="ascii"))
            event = data.get("event")
            seq, moment = int(data["seq"]), str(data.get("time", ""))
            return Position(str(data["journal"]), seq, moment, None if event is None else int(event))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError("the cursor's file is damaged") from None

    def write(self, position: Position) -> None:
        """Write the position, and flush it if the last flush was long ago. Raises OSError."""
        data = json.dumps(asdict(position)).encode("ascii").ljust(BYTES - 1) + b"\n"
        if self._file is not None and os.fstat(self._file).st_nlink == 0:  # the file was deleted
            self.close()
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o640)
            if os.fstat(self._file).st_size > len(data):
                os.ftruncate(self._file, len(data))
            os.pwrite(self._file, data, 0)
            os.fsync(self._file)
            _sync_folder(self.path.parent)
        os.pwrite(self._file, data, 0)
        self._unsynced = True
        self.sync()

    def sync(self, at_once: bool = False) -> None:
        """Flush the file to the disk, if it is time or `at_once`. Raises OSError."""
        if self._unsynced and self._file is not None and (at_once or time.monotonic() - self._synced_s >= SYNC_S):
            os.fdatasync(self._file)
            self._synced_s, self._unsynced = time.monotonic(), False

    def close(self) -> None:
        """Flush and close the file. May be called twice."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self.sync(at_once=True)
            os.close(self._file)
            self._file = None


def compare(connection: sqlite3.Connection, journal: str, position: Position) -> tuple[Position, str]:
    """Return where to continue in this journal after `position`, and what has to be reported, or an empty text.

    Another journal is delivered from its first verdict. A journal that was restored from a copy gives out numbers
    again: delivery continues after the newest verdict that is not newer than the one that was delivered last.
    """
    last, event = _last(connection, "verdicts"), _last(connection, "events")
    if not position.journal:
        return Position(journal, first_undelivered(connection, 0) - 1, "", event), ""
    if position.journal != journal:
        was = f"journal {position.journal}, delivered up to verdict {position.seq}"
        return Position(journal, 0, "", event), f"begins at the first verdict of journal {journal} (before: {was})"
    if position.event is not None and position.event <= event:
        event = position.event
    row = connection.execute("SELECT time FROM verdicts WHERE seq = ?", (position.seq,)).fetchone()
    if position.seq <= last and (row is None or not position.time or row[0] == position.time):
        return Position(journal, position.seq, position.time, event), ""
    known = "SELECT seq, time FROM verdicts WHERE time <= ? ORDER BY seq DESC LIMIT 1"
    seq, moment = connection.execute(known, (position.time,)).fetchone() or (0, "")
    if not position.time:
        seq = last
    return (
        Position(journal, int(seq), str(moment), event),
        f"the journal was restored from a copy: verdict {position.seq}, delivered last, is not in it; "
        f"continues after verdict {seq}",
    )


def newest(connection: sqlite3.Connection, journal: str) -> Position:
    """Return the position after everything that the journal holds."""
    last = _last(connection, "verdicts")
    row = connection.execute("SELECT time FROM verdicts WHERE seq = ?", (last,)).fetchone()
    return Position(journal, last, row[0] if row else "", _last(connection, "events"))


def first_undelivered(connection: sqlite3.Connection, seq: int) -> int:
    """Return the number of the first verdict after `seq` that the journal holds or will hold.

    More than `seq` + 1: those between were deleted from the journal.
    """
    last = _last(connection, "verdicts")  # asked first: what is written from here on is found below
    (first,) = connection.execute("SELECT min(seq) FROM verdicts WHERE seq > ?", (seq,)).fetchone()
    return int(first) if first is not None else max(last, seq) + 1


def _last(connection: sqlite3.Connection, table: str) -> int:
    """Return the highest number that was ever given out in the table."""
    return int(connection.execute(LAST, (table,)).fetchone()[0])


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
