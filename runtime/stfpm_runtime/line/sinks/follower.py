"""A thread that reads the journal from a cursor on and tells somebody: an outage delays, never loses.

The cursor is a small file beside the journal, written after the other side has acknowledged: what was told twice
because the process died in between is known by its number (`journal` and `seq` together are unique). Order is kept, for
nothing is told before all before it was. A cursor per sink, and a file per cursor: whoever hangs holds up nobody.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ...errors import StfpmError
from ...files import private_opener
from ..entry import COLUMNS, EVENT_COLUMNS
from ..reading import open_for_reading

LOG = logging.getLogger("stfpm.sinks")
BATCH = 500
"""Verdicts read at a time."""
PATIENCE_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Between attempts to reach the other side; the last for ever."""
POLL_S = 0.5
"""How long a verdict may go unnoticed if nobody wakes the thread."""
FOLLOW = f"SELECT {', '.join(COLUMNS)} FROM verdicts WHERE seq > ? ORDER BY seq LIMIT ?"
ANNOUNCED = ("drift",)
"""Kinds of events that are told beside the verdicts."""
FOLLOW_EVENTS = (
    f"SELECT {', '.join(EVENT_COLUMNS)} FROM events "
    f"WHERE seq > ? AND kind IN ({', '.join('?' * len(ANNOUNCED))}) ORDER BY seq LIMIT 100"
)
LAST_EVENT = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'"
LAST = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'verdicts'"

Record = dict[str, Any]
Remark = Callable[[str, str], None]


class SinkError(Exception):
    """The other side cannot be reached, or refuses: try again later. The text has no secrets in it."""


class Sink(Protocol):
    """Tells one other side, over a connection that is opened once and made anew after each SinkError."""

    def open(self) -> None:
        """Connect. Raises SinkError."""
        ...

    def tell(self, records: Sequence[Record]) -> int:
        """Tell the first of these verdicts, in their order; how many of them are acknowledged. Raises SinkError."""
        ...

    def announce(self, record: Record) -> None:
        """Tell an event: `kind`, `detail`, and the rest of its row. Raises SinkError."""
        ...

    def beat(self, count: int) -> None:
        """Say that the line is alive: `count` rises by one each time. Raises SinkError."""
        ...

    def close(self) -> None:
        """Give the connection back. Raises nothing."""
        ...


class Cursor:
    """The number of the last verdict that was acknowledged, on disk."""

    def __init__(self, journal: Path, name: str) -> None:
        self.path = journal.with_name(f"{journal.name}.{name}.cursor")
        self.event: int | None = None
        """Of the last event that was told, as the file said or as it was set; kept with the next `write`."""

    def read(self, journal: str) -> int | None:
        """The number; None where nothing of this journal was ever told."""
        try:
            data = json.loads(self.path.read_text(encoding="ascii"))
            self.event = int(data["event"]) if data["journal"] == journal and data.get("event") is not None else None
            return int(data["seq"]) if data["journal"] == journal else 0
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            LOG.error("%s: damaged; telling the whole journal again", self.path)
            return 0

    def write(self, journal: str, seq: int) -> None:
        """Keep it; an OSError means that some verdicts are told twice after a crash."""
        unfinished = self.path.with_name(self.path.name + ".unfinished")
        with open(unfinished, "w", encoding="ascii", opener=private_opener) as file:
            file.write(json.dumps({"journal": journal, "seq": seq, "event": self.event}))
        unfinished.replace(self.path)


class Follower:
    """Keeps one sink up to date. A sink that is new begins with the verdicts made from now on."""

    def __init__(self, journal: Path, name: str, make: Callable[[], Sink], beat_s: float, remark: Remark) -> None:
        self.name = name
        self._journal = journal
        self._sink = make()
        self._beat_s = beat_s
        self._remark = remark
        self._cursor = Cursor(journal, name)
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._beats = 0
        self._beat_due_s = 0.0
        self._down = False
        self._attempts = 0
        self._begin()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def works(self) -> bool:
        """Whether the other side took what it was last told."""
        return not self._down

    def wake(self) -> None:
        """There is something new in the journal."""
        self._woken.set()

    def close(self, timeout_s: float = 3.0) -> None:
        """Tell what is left, for so long at most: the next run tells the rest."""
        self._closing.set()
        self._woken.set()
        self._thread.join(timeout_s)

    def _begin(self) -> None:
        """Fix the place to begin at before the first verdict, so that a crash right after loses none."""
        with contextlib.closing(open_for_reading(self._journal)) as connection:
            journal = _id(connection)
            seq = self._cursor.read(journal)
            if seq is None or self._cursor.event is None:
                self._cursor.event = int(connection.execute(LAST_EVENT).fetchone()[0])
                self._cursor.write(journal, int(connection.execute(LAST).fetchone()[0]) if seq is None else seq)

    def _work(self) -> None:
        while True:
            closing = self._closing.is_set()
            try:
                self._sink.open()
                self._follow()
            except (SinkError, StfpmError, OSError, sqlite3.Error) as error:
                self._lost(error)
            finally:
                self._sink.close()
            if closing or self._closing.is_set():
                return
            self._closing.wait(PATIENCE_S[min(self._attempts, len(PATIENCE_S) - 1)])
            self._attempts += 1

    def _follow(self) -> None:
        """Tell all there is, and go on until the end, or the other side is gone."""
        with contextlib.closing(open_for_reading(self._journal)) as connection:
            journal = _id(connection)
            seq = self._cursor.read(journal) or 0
            while True:
                closing = self._closing.is_set()
                self._woken.clear()
                while rows := connection.execute(FOLLOW, (seq, BATCH)).fetchall():
                    seq = self._tell(journal, rows)
                    if self._closing.is_set() and not closing:
                        break
                self._announce(connection, journal, seq)
                self._recovered()
                if closing or not self._same_journal(connection, journal):
                    return
                self._beat()
                self._woken.wait(
                    min(POLL_S, max(0.01, self._beat_due_s - time.monotonic())) if self._beat_s else POLL_S
                )

    def _tell(self, journal: str, rows: Sequence[tuple[Any, ...]]) -> int:
        records = [{"journal": journal, **dict(zip(COLUMNS, row, strict=True))} for row in rows]
        while records:
            told = self._sink.tell(records)
            last = int(records[told - 1]["seq"])
            self._cursor.write(journal, last)
            records = records[told:]
            self._recovered()
            self._beat()
        return int(rows[-1][0])

    def _announce(self, connection: sqlite3.Connection, journal: str, seq: int) -> None:
        rows = connection.execute(FOLLOW_EVENTS, (self._cursor.event or 0, *ANNOUNCED)).fetchall()
        for row in rows:
            record = {"journal": journal, **dict(zip(EVENT_COLUMNS, row, strict=True))}
            self._sink.announce(record)
            self._cursor.event = int(record["seq"])
            self._cursor.write(journal, seq)

    def _beat(self) -> None:
        now_s = time.monotonic()
        if self._beat_s and now_s >= self._beat_due_s:
            self._beats += 1
            self._sink.beat(self._beats)
            self._beat_due_s = now_s + self._beat_s

    def _same_journal(self, connection: sqlite3.Connection, journal: str) -> bool:
        """Whether the file is still the one that is open: a damaged journal is set aside, and a new one begun."""
        with contextlib.closing(open_for_reading(self._journal)) as other:
            return _id(other) == journal and _id(connection) == journal

    def _lost(self, error: Exception) -> None:
        if not self._down:
            LOG.warning("%s: %s; trying again", self.name, error)
            self._remark("sink", f"{self.name}: {error}")
        self._down = True

    def _recovered(self) -> None:
        """It has taken something, or there is nothing to take: that it can be connected to is not enough."""
        self._attempts = 0
        if self._down:
            LOG.warning("%s: reached again", self.name)
            self._remark("sink", f"{self.name}: reached again")
        self._down = False


def _id(connection: sqlite3.Connection) -> str:
    return str(connection.execute("SELECT id FROM meta").fetchone()[0])
