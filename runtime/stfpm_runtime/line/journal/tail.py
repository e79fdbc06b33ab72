"""Follows the journal from a position. This is the only code that reads verdicts one after the other for outputs.

An outage delays verdicts and loses none. The position moves on when the other side has acknowledged. A verdict that is
delivered twice because the process ended in between is recognised by `journal` and `seq`, which together are unique.
The order is kept.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stfpm_runtime.errors import OutputError, StfpmError
from stfpm_runtime.files import file_identity
from stfpm_runtime.lifecycle import Backoff, Worker

from .cursor import CursorFile, Position, compare, first_undelivered, newest
from .health import EVENT_INTERVAL_S, Backlog, CountedEvent
from .reader import open_for_reading
from .rows import COLUMNS, LogEvent, Record, seconds_of

LOG = logging.getLogger("stfpm.outputs")
BATCH = 500
"""Verdicts read at a time."""
POLL_S = 0.5
"""The longest time until a new verdict is noticed without `notify`, in seconds."""
STEADY_S = 5.0
"""A connection that has nothing to deliver counts as good after this time, in seconds."""
VERDICTS_AFTER = f"SELECT {', '.join(COLUMNS)} FROM verdicts WHERE seq > ? ORDER BY seq LIMIT ?"
EXPECTED_ERRORS: tuple[type[Exception], ...] = (StfpmError, OSError, sqlite3.Error)
"""Errors whose text is shown. Any other is a bug, and a secret may stand in its text."""


class UnavailableError(Exception):
    """The other side cannot be reached, or refuses for now: try again later. The text has no secrets in it."""


class JournalTail(Worker):
    """Reads the verdicts after a position in a thread of its own, and hands them to `deliver`.

    A subclass overrides `connect`, `deliver` and the other methods that do nothing here; they are called by the thread.
    """

    def __init__(self, journal: Path, name: str, log_event: LogEvent, cursor: CursorFile | None) -> None:
        """Store where to read. Without a `cursor` the other side says in `connect` what it has."""
        super().__init__(name)
        self.name = name
        self.failures = 0
        """Errors since the start."""
        self.journal, self._log_event, self._cursor = journal, log_event, cursor
        self.position = Position("", 0)
        self.deleted = CountedEvent(self.report, "deleted from the journal before delivery")
        self.counted = [self.deleted]
        """Events that are reported with a count."""
        self.backoff = Backoff(0.2, 5.0)
        self.backlog = Backlog()
        self.problem = ""
        """Why the last attempt failed; empty where it did not."""
        self.is_refused = False
        """Whether the other side refused the last verdict that it was offered."""
        self._cursor_lost = CountedEvent(self.report, "delivered, but the cursor could not be written")
        self.counted.append(self._cursor_lost)
        self._woken = threading.Event()
        self._started_ns = time.monotonic_ns()
        self._connected_s = 0.0
        self._is_reported = False
        self._reported_s = -math.inf
        self._run = 0

    def connect(self) -> Position | None:
        """Connect to the other side, and return the last verdict that it has; None where the cursor knows it."""
        raise NotImplementedError

    def disconnect(self) -> None:
        """Give the connection back, if there is one."""

    def is_connected(self) -> bool:
        """Return whether the connection may be used again; False makes a new one at once."""
        return True

    def deliver(self, records: list[Record]) -> None:
        """Deliver verdicts in their order, and call `advance` for what is delivered."""
        raise NotImplementedError

    def deliver_others(self, connection: sqlite3.Connection, journal: str) -> None:
        """Deliver what is not a new verdict. Called whenever all verdicts have been delivered, and while none come."""

    def beat(self) -> float:
        """Send the heartbeat if it is due, and return the seconds until the next may be due."""
        return POLL_S

    @property
    def failure(self) -> str:
        """Return why verdicts cannot be delivered; an empty text where they can. For any thread."""
        if self._thread.ident is not None and not self._thread.is_alive() and not self.stopping.is_set():
            return "its thread ended; restart the line"
        return self.problem

    @property
    def works(self) -> bool:
        """Return whether the last verdict that was offered was taken. For any thread."""
        return not self.failure

    @property
    def lag_s(self) -> float:
        """Return the age of the oldest undelivered verdict in seconds; 0 where everything is delivered."""
        return self.backlog.lag_s

    def notify(self) -> None:
        """Deliver what is new in the journal at once. For any thread."""
        self.backlog.begin()
        self._woken.set()

    def wake(self) -> None:
        """Make the thread notice that it is to stop."""
        self._woken.set()

    def start(self) -> None:
        """Fix the position before the first verdict, so that a crash right after loses none, and start the thread.

        Raises OutputError for a cursor that cannot be written.
        """
        if self._cursor is not None:
            with self._opened() as (connection, journal):
                self._read_cursor(self._cursor, connection, journal)
        super().start()

    def run(self) -> None:
        """Follow the journal until `stopping` is set and what was in it then is delivered or has failed once."""
        while True:
            is_last = self.stopping.is_set()
            try:
                with self._opened() as (connection, journal):
                    if self._cursor is not None:
                        self._check(connection, journal)
                    if (position := self.connect()) is not None:
                        self.position = position
                        self._check(connection, journal)
                    self._connected_s = time.monotonic()
                    self._follow(connection, journal)
            except Exception as error:  # whatever it is: it is shown, and tried again
                self._fail(error)
            finally:
                try:
                    self.disconnect()
                except Exception as error:
                    self._fail(error)
            if is_last or self.stopping.wait(self.backoff.next_s()):
                break
        for event in self.counted:
            event.report(at_once=True)
        if self._cursor is not None:
            self._cursor.close()

    def advance(self, record: Record, write: bool = False) -> None:
        """Move the position behind a verdict; `write` the cursor too."""
        self.move(Position(record["journal"], record["seq"], record["time"], self.position.event), write)

    def move(self, position: Position, write: bool = True) -> None:
        """Set the position, and `write` the cursor."""
        self.position = position
        try:
            if self._cursor is not None and write:
                self._cursor.write(position)
        except OSError as error:  # some verdicts are delivered twice after a crash
            self._cursor_lost.add(position.seq, position.seq, detail=str(error))

    def age_ms(self, record: Record) -> int | None:
        """Return the age of a verdict in ms, or None where it is not known."""
        return age_ms(record, self._run, self._started_ns)

    def report(self, text: str) -> None:
        """Write an event of this output to the log and the journal."""
        LOG.warning("%s: %s", self.name, text)
        self._log_event("output", f"{self.name}: {text}")

    def recover(self) -> None:
        """Report the end of a failure: a verdict was taken, or a connection without any has lasted."""
        self.backoff.reset()
        self.problem, self.is_refused = "", False
        if self._is_reported:
            self._is_reported = False
            self.report("reached again")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[sqlite3.Connection, str]]:
        """Open the journal, and give it with its id."""
        with contextlib.closing(open_for_reading(self.journal)) as connection:
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            yield connection, str(connection.execute("SELECT id FROM meta").fetchone()[0])

    def _read_cursor(self, cursor: CursorFile, connection: sqlite3.Connection, journal: str) -> None:
        """Set the position to the cursor's, or behind all verdicts where there is none. Raises OutputError."""
        text = ""
        try:
            found = cursor.read()
            if found is None:
                found, text = (
                    newest(connection, journal),
                    "has no cursor yet; begins with the verdicts made from now on",
                )
        except ValueError as error:
            found, text = Position(journal, 0), f"{error}; delivers the whole journal again"
        position, problem = compare(connection, journal, found)
        if text or problem:
            self.report(text or problem)
        try:
            cursor.write(position)
        except OSError as error:
            raise OutputError(
                f"{cursor.path}: cannot be written ({error.strerror}); check the folder's permissions"
            ) from None
        self.position = position
        if row := connection.execute(VERDICTS_AFTER, (position.seq, 1)).fetchone():
            self._run = _newest_run(connection)
            self.backlog.set_age((self.age_ms(read_record(journal, row)) or 0) / 1e3)

    def _check(self, connection: sqlite3.Connection, journal: str) -> None:
        """Compare the position with the journal, which may be another one or have lost verdicts."""
        position, text = compare(connection, journal, self.position)
        if text:
            self.report(text)
        self._run = _newest_run(connection)
        if position != self.position:
            self.move(position)
        self._skip_deleted(connection)

    def _skip_deleted(self, connection: sqlite3.Connection) -> None:
        """Report verdicts that were deleted from the journal before they were delivered, and move behind them."""
        seq = self.position.seq
        if (first := first_undelivered(connection, seq)) > seq + 1:
            self.deleted.add(seq + 1, first - 1, first - seq - 1)
            self.move(Position(self.position.journal, first - 1, "", self.position.event))

    def _follow(self, connection: sqlite3.Connection, journal: str) -> None:
        """Deliver everything, until the stop, or until the journal is another file or the connection is gone."""
        identity = file_identity(self.journal)
        while True:
            is_last = self.stopping.is_set()
            self._woken.clear()
            self._skip_deleted(connection)
            while rows := connection.execute(VERDICTS_AFTER, (self.position.seq, BATCH)).fetchall():
                self.deliver([read_record(journal, row) for row in rows])
                self._skip_deleted(connection)
                if self.stopping.is_set() and not is_last:
                    break
            else:
                self.backlog.set_age(None)
            self.deliver_others(connection, journal)
            for event in self.counted:
                event.report()
            if is_last or file_identity(self.journal) != identity or not self.is_connected():
                return
            wait_s = self.beat()
            if time.monotonic() - self._connected_s >= STEADY_S and not self.is_refused:
                self.recover()
            self._sync()
            self._woken.wait(wait_s)

    def _sync(self) -> None:
        try:
            if self._cursor is not None:
                self._cursor.sync()
        except OSError as error:
            self._cursor_lost.add(self.position.seq, self.position.seq, detail=str(error))

    def _fail(self, error: Exception) -> None:
        """Keep why it does not work; the log and an event say so once, and once a minute at most."""
        self.failures += 1
        is_expected = isinstance(error, (UnavailableError, *EXPECTED_ERRORS))
        self.problem = str(error) if is_expected else f"internal error: {type(error).__name__}"
        if not self._is_reported and time.monotonic() - self._reported_s >= EVENT_INTERVAL_S:
            self._is_reported, self._reported_s = True, time.monotonic()
            if not is_expected:  # without its text, in which a secret may stand
                LOG.error("%s: %s\n%s", self.name, self.problem, "".join(traceback.format_tb(error.__traceback__)))
            self.report(f"{self.problem}; trying again")


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
    """Return a verdict's row with its journal's id; a number that JSON cannot hold becomes None."""
    values = (None if isinstance(value, float) and not math.isfinite(value) else value for value in row)
    return {"journal": journal, **dict(zip(COLUMNS, values, strict=True))}


def _newest_run(connection: sqlite3.Connection) -> int:
    """Return the number of the newest run of the line."""
    return int(connection.execute("SELECT coalesce(max(run), 0) FROM runs").fetchone()[0])
