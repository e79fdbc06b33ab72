"""JSON lines beside the journal: a thread that follows the journal with a cursor.

It reads the journal over a connection of its own, so the loop never waits for it; an outage delays, never loses. Its
cursor is its own last whole line: after a crash the file is completed from the journal, none lost and none double.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

from stfpm_runtime.files import file_identity, private_opener
from stfpm_runtime.line.journal.reader import open_for_reading
from stfpm_runtime.line.journal.rows import COLUMNS

from .cursor import Position, compare, first_undelivered
from .health import Backlog, CountedEvent

LOG = logging.getLogger("stfpm.json_lines")
BATCH = 500
"""Verdicts read and written at a time."""
TAIL_BYTES = 1 << 20
"""How far from its end the last whole line is looked for."""
RETRY_S = 1.0
BEGINNING = b'{"journal": "'
"""Of each line: half a line is known by it."""
FOLLOW = f"SELECT {', '.join(COLUMNS)} FROM verdicts WHERE seq > ? ORDER BY seq LIMIT ?"

LogEvent = Callable[[str, str], None]


class JsonLinesOutput:
    """Writes each verdict of the journal as a line, once; renames the file to FILE.1 when it is `max_bytes` long."""

    def __init__(self, journal: Path, path: Path, max_bytes: float, log_event: LogEvent) -> None:
        self._journal = journal
        self._path = path
        self._max_bytes = max_bytes
        self._log_event = log_event
        self.name = "json_lines"
        self.failure = ""
        """Why verdicts cannot be written; empty where they can."""
        self.deleted = CountedEvent(self._say, "deleted from the journal before they were written")
        self._backlog = Backlog()
        self._woken = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="json lines", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Note that there is a new verdict in the journal. For any thread."""
        self._backlog.begin()
        self._woken.set()

    @property
    def lag_s(self) -> float:
        """Age of the oldest verdict that is not written yet in seconds; 0 where all are."""
        return self._backlog.lag_s

    def stop(self) -> None:
        """Begin to end: what is left is still written, and then the thread ends. Does not wait."""
        self._closing = True
        self._woken.set()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is left for `timeout_s` at most; the next run writes the rest. Closing twice is fine."""
        self.stop()
        self._thread.join(max(0.0, timeout_s))

    def _say(self, text: str) -> None:
        LOG.warning("%s: %s", self._path, text)
        self._log_event("json_lines", text)

    def _work(self) -> None:
        while True:
            closing = self._closing
            try:
                self._follow()
            except Exception as error:  # whatever it is: it is shown, and tried again
                if not self.failure:
                    if not isinstance(error, (OSError, sqlite3.Error, ValueError)):
                        LOG.exception("%s: internal error", self._path)
                    LOG.error("%s: cannot follow the journal (%s); trying again", self._path, error)
                    self._log_event("json_lines", f"cannot follow the journal: {error}")
                self.failure = f"cannot follow the journal: {error}"
            if closing or self._closing:
                return
            self._woken.wait(RETRY_S)

    def _follow(self) -> None:
        """Write all there is, and go on until woken to the end, or the journal or the file are others."""
        with contextlib.closing(open_for_reading(self._journal)) as connection:
            (journal,) = connection.execute("SELECT id FROM meta").fetchone()
            identity = file_identity(self._journal)
            with contextlib.closing(LinesFile(self._path)) as lines:
                cursor = self._begin(connection, journal, lines)
                while True:
                    closing = self._closing
                    self._woken.clear()
                    while rows := connection.execute(FOLLOW, (cursor, BATCH)).fetchall():
                        lines.write([{"journal": journal, **dict(zip(COLUMNS, row, strict=True))} for row in rows])
                        cursor = self._skip_deleted(connection, rows[-1][0])
                        if lines.size >= self._max_bytes:
                            lines.rotate()
                    self._backlog.set_age(None)
                    self.deleted.report()
                    if self.failure:
                        self.failure = ""
                        self._log_event("json_lines", "follow the journal again")
                    if closing or file_identity(self._journal) != identity or not lines.in_place:
                        self.deleted.report(at_once=closing)
                        return
                    self._woken.wait(RETRY_S)
                    cursor = self._skip_deleted(connection, cursor)

    def _begin(self, connection: sqlite3.Connection, journal: str, lines: LinesFile) -> int:
        """Return the number of the last verdict that is written, as the file and this journal have it."""
        last = lines.last()
        if last.get("journal") != journal:
            return self._skip_deleted(connection, 0)
        position, text = compare(connection, journal, Position(journal, int(last["seq"]), str(last.get("time", ""))))
        if text:
            self._say(text)
        return self._skip_deleted(connection, position.seq)

    def _skip_deleted(self, connection: sqlite3.Connection, seq: int) -> int:
        """Report verdicts after `seq` that were deleted from the journal; returns the number of the last of them."""
        first = first_undelivered(connection, seq)
        if seq and first > seq + 1:  # a file that is new to the journal begins with what the journal has
            self.deleted.add(seq + 1, first - 1, first - seq - 1)
        return first - 1


class LinesFile:
    """A file of JSON lines that only grows, and of which a crash leaves whole lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._open()
        self.size = self._file.seek(0, os.SEEK_END)
        """In bytes."""

    @property
    def in_place(self) -> bool:
        """Whether the file is still where it was opened."""
        status = os.fstat(self._file.fileno())
        return file_identity(self._path) == (status.st_dev, status.st_ino)

    def last(self) -> dict[str, Any]:
        """Return the last verdict in the file, or in the one before it, or nothing; cuts off half a line."""
        last, end = _last_line(self._file)
        if end < self.size:
            self._file.truncate(end)
            self.size = self._file.seek(end)
        if not last:
            with contextlib.suppress(FileNotFoundError), FileIO(self._previous) as previous:
                last, _ = _last_line(previous)
        return last

    def write(self, records: list[dict[str, Any]]) -> None:
        """Append them all, or raise OSError and leave as many whole lines as there was room for."""
        data = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode()
        left = memoryview(data)
        while left:  # a disk that fills up takes a part first, and complains then
            left = left[self._file.write(left) :]
        self.size += len(data)

    def rotate(self) -> None:
        """Rename the file to FILE.1, and begin a new one."""
        self._file.close()
        self._path.replace(self._previous)
        self._file = self._open()
        self.size = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def _previous(self) -> Path:
        return self._path.with_name(self._path.name + ".1")

    def _open(self) -> FileIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return FileIO(self._path, "a+", opener=private_opener)


def _last_line(file: FileIO) -> tuple[dict[str, Any], int]:
    """The last line that is whole, empty if there is none, and where it ends.

    Raises ValueError for a file whose end is nothing of ours.
    """
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - TAIL_BYTES))
    tail = file.read(size - start)
    end = len(tail)
    while (newline := tail.rfind(b"\n", 0, end)) >= 0:
        begin = tail.rfind(b"\n", 0, newline) + 1
        with contextlib.suppress(ValueError):
            record = json.loads(tail[begin:newline])
            if isinstance(record, dict) and isinstance(record.get("seq"), int):
                return record, start + newline + 1
        end = newline
    if start > 0 or b"\n" in tail or not BEGINNING.startswith(tail[: len(BEGINNING)]):
        raise ValueError("the file holds no verdicts of ours; move it away, or choose another name")
    return {}, 0
