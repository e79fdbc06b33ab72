"""Reads the journal from a position on. This is the only code that reads verdicts one after the other for outputs.

The position moves on when the other side has acknowledged. A verdict that is delivered twice because the process ended
in between is recognised by `journal` and `seq`, which together are unique.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stfpm_runtime.errors import OutputError

from .cursor import CursorFile, Position, compare, first_undelivered, newest
from .health import CountedEvent
from .reader import open_for_reading
from .rows import COLUMNS, EVENT_COLUMNS, Record, seconds_of, with_relative_score

BATCH = 500
"""Verdicts read at a time."""
VERDICTS_AFTER = f"SELECT {', '.join(COLUMNS)}, lower(hex(hash)) FROM verdicts WHERE seq > ? ORDER BY seq LIMIT ?"
EVENTS_AFTER = f"SELECT {', '.join(EVENT_COLUMNS)} FROM events WHERE seq > ? AND kind = ? ORDER BY seq LIMIT 100"


class JournalTail:
    """Keeps the position of one output in a journal, and reads what comes after it. For one thread.

    Its methods raise sqlite3.Error for a journal that cannot be read.
    """

    def __init__(self, journal: Path, output: str, has_cursor: bool, report: Callable[[str], None]) -> None:
        """Store where to read. Without a cursor file the caller sets `position` before `check`."""
        self.position = Position("", 0)
        self.deleted = CountedEvent(report, "deleted from the journal before delivery")
        self.cursor_lost = CountedEvent(report, "delivered, but the cursor could not be written")
        self._journal, self._report = journal, report
        self._cursor = CursorFile(journal, output) if has_cursor else None
        self._id = ""
        self._run = 0
        self._started_ns = time.monotonic_ns()

    @contextlib.contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """Open the journal for reading."""
        with contextlib.closing(open_for_reading(self._journal)) as connection:
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            self._id = str(connection.execute("SELECT id FROM meta").fetchone()[0])
            self._run = int(connection.execute("SELECT coalesce(max(run), 0) FROM runs").fetchone()[0])
            yield connection

    def read_cursor(self) -> None:
        """Set the position to the cursor's, or behind all verdicts where there is none. Raises OutputError."""
        if self._cursor is None:
            return
        with self.opened() as connection:
            text = ""
            try:
                found = self._cursor.read()
                if found is None:
                    found = newest(connection, self._id)
                    text = "has no cursor yet; begins with the verdicts made from now on"
            except ValueError as error:
                found, text = Position(self._id, 0), f"{error}; delivers the whole journal again"
            self.position, problem = compare(connection, self._id, found)
        if text or problem:
            self._report(text or problem)
        try:
            self._cursor.write(self.position)
        except OSError as error:
            remedy = "check the folder's permissions"
            raise OutputError(f"{self._cursor.path}: cannot be written ({error.strerror}); {remedy}") from None

    def check(self, connection: sqlite3.Connection) -> None:
        """Compare the position with the journal, which may be another one or have lost verdicts, and report that."""
        position, text = compare(connection, self._id, self.position)
        if text:
            self._report(text)
        if position != self.position:
            self.move(position)

    def read_verdicts(self, connection: sqlite3.Connection, limit: int = BATCH) -> list[Record]:
        """Return the next verdicts; those that were deleted before they were delivered are reported and skipped."""
        seq = self.position.seq
        if (first := first_undelivered(connection, seq)) > seq + 1:
            self.deleted.add(seq + 1, first - 1, first - seq - 1)
            self.move(Position(self._id, first - 1, "", self.position.event))
        rows = connection.execute(VERDICTS_AFTER, (self.position.seq, limit)).fetchall()
        return [read_record(self._id, row) for row in rows]

    def read_events(self, connection: sqlite3.Connection, kind: str) -> list[Record]:
        """Return the next events of a kind."""
        rows = connection.execute(EVENTS_AFTER, (self.position.event or 0, kind)).fetchall()
        return [{"journal": self._id, **dict(zip(EVENT_COLUMNS, row, strict=True))} for row in rows]

    def newest_head(self, connection: sqlite3.Connection) -> str:
        """Return the newest head of the chain as JSON; an empty text where there is none."""
        row = connection.execute("SELECT body FROM heads ORDER BY seq DESC LIMIT 1").fetchone()
        return str(row[0]) if row else ""

    def advance_past_verdict(self, record: Record) -> None:
        """Move the position behind a verdict; `move` writes it down."""
        self.position = Position(record["journal"], record["seq"], record["time"], self.position.event)

    def advance_past_event(self, record: Record) -> None:
        """Move the position behind an event, and write it down."""
        self.move(Position(self.position.journal, self.position.seq, self.position.time, int(record["seq"])))

    def move(self, position: Position | None) -> None:
        """Set the position and write it down; None flushes the cursor if that is due."""
        self.position = position or self.position
        try:
            if self._cursor is not None and position is not None:
                self._cursor.write(position)
            elif self._cursor is not None:
                self._cursor.sync()
        except OSError as error:  # some verdicts are delivered twice after a crash
            self.cursor_lost.add(self.position.seq, self.position.seq, detail=str(error))

    def age_ms(self, record: Record) -> int | None:
        """Return the age of a verdict in ms, or None where it is not known. For a verdict of any journal."""
        is_other = (
            record["journal"] != self._id
        )  # a refused one of an earlier journal, whose runs have the same numbers
        return age_ms(record, -1 if is_other else self._run, self._started_ns)

    def close(self) -> None:
        """Close the cursor's file."""
        if self._cursor is not None:
            self._cursor.close()


def age_ms(record: Record, run: int, started_ns: int) -> int | None:
    """Return the age of a verdict in ms, or None where it is not known.

    Verdicts of this `run` have the machine's own clock, which does not jump. Those of earlier runs have the wall clock,
    and are not younger than this run, which began at `started_ns` of the machine's clock. If the wall clock was set
    back since, their age is not known.
    """
    now_ns = time.monotonic_ns()
    if record["run"] == run:
        return max(0, now_ns - int(record["monotonic_ns"])) // 1_000_000
    try:
        age_s = time.time() - seconds_of(record["time"])
    except ValueError:
        return None
    return None if age_s < 0 else int(1e3 * max(age_s, (now_ns - started_ns) / 1e9))


def read_record(journal: str, row: Sequence[Any]) -> Record:
    """Return a verdict's row as `record` does, with its hash; a number that JSON cannot hold becomes None."""
    values = (None if isinstance(value, float) and not math.isfinite(value) else value for value in row)
    return with_relative_score({"journal": journal, **dict(zip((*COLUMNS, "hash"), values, strict=True))})
