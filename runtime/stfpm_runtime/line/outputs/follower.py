"""A thread that reads the journal from a cursor on and delivers its verdicts to a sink.

An outage delays verdicts and loses none. The cursor moves on when the other side has acknowledged; what was delivered
twice because the process died in between is known by its number (`journal` and `seq` together are unique). Order is
kept. A refusal that will not change does not hold up what comes after it: see `dead_letters.py`. Each sink has a thread
and a cursor of its own, so one that hangs holds up no other.
"""

from __future__ import annotations

import contextlib
import itertools
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
from stfpm_runtime.line.journal.reader import open_for_reading
from stfpm_runtime.line.journal.rows import COLUMNS, EVENT_COLUMNS, LogEvent, Record
from stfpm_runtime.line.observers.heartbeat import STEP_S, Heartbeat

from .age import age_ms
from .base import OutputPlan
from .base import OutputUnavailableError as OutputUnavailableError
from .cursor import CursorFile, Position, compare, cursor_path, first_undelivered, newest
from .dead_letters import DeadLetters
from .health import EVENT_INTERVAL_S, Backlog, CountedEvent

LOG = logging.getLogger("stfpm.sinks")
BATCH = 500
"""Verdicts read at a time."""
PATIENCE_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Between attempts to reach the other side; the last for ever."""
ATTEMPTS = 3
"""How often a verdict is offered to a side that refuses it."""
POLL_S = 0.5
"""How long a verdict may go unnoticed if nobody wakes the thread."""
STEADY_S = 5.0
"""A connection that has nothing to deliver counts as good after this time."""
FOLLOW = f"SELECT {', '.join(COLUMNS)} FROM verdicts WHERE seq > ? ORDER BY seq LIMIT ?"
ANNOUNCED = ("drift",)
"""Kinds of events that are delivered beside the verdicts."""
FOLLOW_EVENTS = (
    f"SELECT {', '.join(EVENT_COLUMNS)} FROM events "
    f"WHERE seq > ? AND kind IN ({', '.join('?' * len(ANNOUNCED))}) ORDER BY seq LIMIT 100"
)


class OutputWorker:
    """Keeps one sink up to date. A sink that is new begins with the verdicts made from now on."""

    def __init__(self, journal: Path, plan: OutputPlan, log_event: LogEvent, heartbeat: Heartbeat) -> None:
        self.name = plan.name
        self.failures = 0
        """Errors since the start."""
        self._journal, self._plan, self._log_event, self._heartbeat = journal, plan, log_event, heartbeat
        self._sink = plan.make()
        self._file = CursorFile(cursor_path(journal, plan.name))
        self._dead_letters = DeadLetters(journal, plan.name)
        self._backlog = Backlog()
        self.deleted = CountedEvent(self._say, "deleted from the journal before delivery")
        self.expired = CountedEvent(self._say, f"older than max_age_s = {plan.max_age_s:g} and not written")
        self.refused = CountedEvent(self._say, f"refused {ATTEMPTS} times, kept for stfpm-journal --resend {plan.name}")
        self._cursor_lost = CountedEvent(self._say, "delivered, but the cursor could not be written")
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._started_ns = time.monotonic_ns()
        self._beat_due_s = self._opened_s = 0.0
        self._sent_count = 0
        self._attempts = 0
        self._insisted = 0, 0
        """Number of the verdict that was refused last, and how often."""
        self._failure = ""
        self._is_refusing = self._is_reported = False
        self._reported_s = -math.inf
        self._run = 0
        self._position = self._begin()
        self._thread = threading.Thread(target=self._work, name=plan.name, daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str:
        """Why verdicts cannot be delivered; empty where they can."""
        if not self._thread.is_alive() and not self._closing.is_set():
            return "its thread ended; restart the line"
        return self._failure

    @property
    def lag_s(self) -> float:
        """Age of the oldest undelivered verdict in seconds; 0 where everything is delivered."""
        return self._backlog.lag_s

    @property
    def works(self) -> bool:
        """Whether the last verdict that was offered was taken."""
        return not self.failure

    def wake(self) -> None:
        """Note that there is a new verdict in the journal. For any thread."""
        self._backlog.begin()
        self._woken.set()

    def stop(self) -> None:
        """Begin to end: what is left is still delivered, and then the thread ends. Does not wait."""
        self._closing.set()
        self._woken.set()

    def close(self, timeout_s: float = 3.0) -> None:
        """Deliver what is left for `timeout_s` at most; the next run delivers the rest. Closing twice is fine."""
        self.stop()
        self._thread.join(max(0.0, timeout_s))

    def _begin(self) -> Position:
        """Fix the place to begin at before the first verdict, so that a crash right after loses none."""
        with self._reading() as (connection, journal):
            try:
                found = self._file.read()
            except ValueError as error:
                position, text = compare(connection, journal, Position(journal, 0))
                text = f"{error}; delivers the whole journal again"
            else:
                position, text = (
                    (newest(connection, journal), "has no cursor yet; begins with the verdicts made from now on")
                    if found is None
                    else compare(connection, journal, found)
                )
            if text:
                self._say(text)
            try:
                self._file.write(position)
            except OSError as error:
                path = self._file.path
                raise OutputError(
                    f"{path}: cannot be written ({error.strerror}); check the folder's permissions"
                ) from None
            row = connection.execute(FOLLOW, (position.seq, 1)).fetchone()
            if row is not None:
                self._run = _run(connection)
                self._backlog.set_age((self._age_ms(_record(journal, row)) or 0) / 1e3)
        return position

    def _work(self) -> None:
        while True:
            closing = self._closing.is_set()
            try:
                with self._reading() as (connection, journal):
                    self._check(connection, journal)
                    self._sink.open()
                    self._opened_s = time.monotonic()
                    self._follow(connection, journal)
            except Exception as error:  # whatever it is: it is shown, and tried again
                self._lost(error)
            finally:
                self._close_sink()
            if closing or self._closing.is_set():
                break
            self._closing.wait(self._patience_s())
        for event in (self.deleted, self.expired, self.refused, self._cursor_lost):
            event.report(at_once=True)
        self._file.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, str]]:
        """Open the journal, and give it with its id."""
        with contextlib.closing(open_for_reading(self._journal)) as connection:
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            yield connection, str(connection.execute("SELECT id FROM meta").fetchone()[0])

    def _check(self, connection: sqlite3.Connection, journal: str) -> None:
        """Compare the position with the journal, which may be another one or have lost verdicts."""
        position, text = compare(connection, journal, self._position)
        if text:
            self._say(text)
        self._run = _run(connection)
        self._move(position)
        self._skip_deleted(connection)

    def _skip_deleted(self, connection: sqlite3.Connection) -> None:
        """Report verdicts that were deleted from the journal before they were delivered."""
        seq = self._position.seq
        if (first := first_undelivered(connection, seq)) > seq + 1:
            self.deleted.add(seq + 1, first - 1, first - seq - 1)
            self._move(Position(self._position.journal, first - 1, "", self._position.event))

    def _follow(self, connection: sqlite3.Connection, journal: str) -> None:
        """Deliver everything, and go on until the end, the other side is gone, or the journal is another file."""
        identity = file_identity(self._journal)
        while True:
            closing = self._closing.is_set()
            self._woken.clear()
            self._skip_deleted(connection)
            while rows := connection.execute(FOLLOW, (self._position.seq, BATCH)).fetchall():
                self._deliver([_record(journal, row) for row in rows])
                self._skip_deleted(connection)
                if self._closing.is_set() and not closing:
                    break
            else:
                self._backlog.set_age(None)
            self._resend()
            self._announce(connection, journal)
            for event in (self.deleted, self.expired, self.refused, self._cursor_lost):
                event.report()
            if closing or file_identity(self._journal) != identity:
                return
            self._beat()
            if time.monotonic() - self._opened_s >= STEADY_S and not self._is_refusing:
                self._recovered()
            self._save(None)
            self._woken.wait(min(POLL_S, self._until_beat_s()))

    def _deliver(self, records: list[Record]) -> None:
        """Deliver the verdicts in their order; those that are too old, or refused for good, are counted and passed."""
        try:
            while records:
                if expired := list(itertools.takewhile(self._is_too_old, records)):
                    self.expired.add(expired[0]["seq"], expired[-1]["seq"], len(expired))
                    self._pass(expired[-1])
                    records = records[len(expired) :]
                    continue
                self._backlog.set_age((self._age_ms(records[0]) or 0) / 1e3)
                batch = list(
                    itertools.takewhile(lambda record: not self._is_too_old(record), records[: self._sink.batch])
                )
                refusals = self._tell(batch)
                for record, refusal in zip(batch, refusals, strict=False):
                    if refusal and (reason := self._insist(record, refusal)):
                        self._dead_letters.add(record, reason)
                        self.refused.add(record["seq"], record["seq"], detail=reason)
                    elif not refusal:
                        self._recovered()
                    self._pass(record)
                self._save(self._position)
                self._beat()
                records = records[len(refusals) :]
        finally:
            self._save(self._position)

    def _tell(self, batch: Sequence[Record]) -> list[str]:
        refusals = self._sink.tell([{**record, "age_ms": self._age_ms(record)} for record in batch])
        if not 0 < len(refusals) <= len(batch):
            raise RuntimeError(f"the sink dealt with {len(refusals)} of {len(batch)} verdicts")
        return refusals

    def _insist(self, record: Record, refusal: str) -> str:
        """Offer a refused verdict again; returns an empty text once it is taken, else the reason. Raises SinkError."""
        self._is_refusing = True
        seq, attempts = self._insisted
        self._insisted = (
            record["seq"],
            (attempts if seq == record["seq"] else 0) + 1,
        )  # over connections that end with it
        while self._insisted[1] < ATTEMPTS:
            self._failure = f"verdict {record['seq']} is refused ({refusal})"
            until_s = time.monotonic() + self._patience_s()
            while (left_s := until_s - time.monotonic()) > 0:
                if self._closing.wait(min(left_s, self._until_beat_s())):
                    raise OutputUnavailableError(f"verdict {record['seq']} is refused ({refusal})")
                self._beat()
            if self._is_too_old(record):
                break
            (refusal,) = self._tell([record])
            if not refusal:
                self._recovered()
                return ""
            self._insisted = record["seq"], self._insisted[1] + 1
        return refusal

    def _resend(self) -> None:
        """Deliver again what somebody marked with `stfpm-journal --resend`."""
        for record in self._dead_letters.to_resend():
            if self._is_too_old(record):
                reason = f"older than max_age_s = {self._plan.max_age_s:g}"
            else:
                (reason,) = self._tell([record])
            if reason:
                self._dead_letters.add(record, reason)
                self.refused.add(record["seq"], record["seq"], detail=f"sent again: {reason}")
            else:
                self._dead_letters.remove(record)
                self._recovered()

    def _announce(self, connection: sqlite3.Connection, journal: str) -> None:
        for row in connection.execute(FOLLOW_EVENTS, (self._position.event or 0, *ANNOUNCED)).fetchall():
            record = {"journal": journal, **dict(zip(EVENT_COLUMNS, row, strict=True))}
            if refusal := self._sink.announce(record):
                self._say(f"event {record['seq']} is refused: {refusal}")
            old = self._position
            self._save(Position(old.journal, old.seq, old.time, int(record["seq"])))

    def _beat(self) -> None:
        """Send the loop's heartbeat if it is due; while it stands still nothing is sent."""
        now_s = time.monotonic()
        if not self._plan.heartbeat_s or now_s < self._beat_due_s:
            return
        if (count := self._heartbeat.count) == self._sent_count:
            self._beat_due_s = now_s + STEP_S
            return
        self._sink.beat(count)
        self._sent_count = count
        self._beat_due_s = now_s + self._plan.heartbeat_s

    def _until_beat_s(self) -> float:
        """Seconds to wait until a heartbeat may be due."""
        return max(0.01, min(POLL_S, self._beat_due_s - time.monotonic())) if self._plan.heartbeat_s else POLL_S

    def _pass(self, record: Record) -> None:
        """Count the verdict as dealt with; `_save` writes it down."""
        self._position = Position(record["journal"], record["seq"], record["time"], self._position.event)

    def _move(self, position: Position) -> None:
        if position != self._position:
            self._save(position)

    def _save(self, position: Position | None) -> None:
        """Write the cursor, or with None flush it if that is due."""
        self._position = position or self._position
        try:
            if position:
                self._file.write(position)
            else:
                self._file.sync()
        except OSError as error:  # some verdicts are delivered twice after a crash
            self._cursor_lost.add(self._position.seq, self._position.seq, detail=str(error))

    def _is_too_old(self, record: Record) -> bool:
        limit_s = self._plan.max_age_s
        age_ms = self._age_ms(record) if limit_s else 0
        return bool(limit_s) and (age_ms is None or age_ms > limit_s * 1e3)

    def _age_ms(self, record: Record) -> int | None:
        return age_ms(record, self._run, self._started_ns)

    def _patience_s(self) -> float:
        """Seconds until the next attempt; they grow until a verdict has been taken."""
        self._attempts += 1
        return PATIENCE_S[min(self._attempts, len(PATIENCE_S)) - 1]

    def _close_sink(self) -> None:
        try:
            self._sink.close()
        except Exception as error:
            self._lost(error)

    def _say(self, text: str) -> None:
        """Report an event of this sink in the log and in the journal."""
        LOG.warning("%s: %s", self.name, text)
        self._log_event("sink", f"{self.name}: {text}")

    def _lost(self, error: Exception) -> None:
        """Keep why it does not work; the log and an event say so once, and once a minute at most."""
        self.failures += 1
        expected = isinstance(error, (OutputUnavailableError, StfpmError, OSError, sqlite3.Error))
        self._failure = str(error) if expected else f"internal error: {type(error).__name__}"
        if not self._is_reported and time.monotonic() - self._reported_s >= EVENT_INTERVAL_S:
            self._is_reported, self._reported_s = True, time.monotonic()
            if not expected:  # without its text, in which a secret may stand
                LOG.error("%s: %s\n%s", self.name, self._failure, "".join(traceback.format_tb(error.__traceback__)))
            self._say(f"{self._failure}; trying again")

    def _recovered(self) -> None:
        """Note that a verdict was taken, or that a connection without anything to deliver has lasted."""
        self._attempts, self._failure, self._is_refusing = 0, "", False
        if self._is_reported:
            self._is_reported = False
            self._say("reached again")


def _record(journal: str, row: Sequence[Any]) -> Record:
    """Return a verdict's row with its journal's id; a number that JSON cannot hold becomes None."""
    values = (None if isinstance(value, float) and not math.isfinite(value) else value for value in row)
    return {"journal": journal, **dict(zip(COLUMNS, values, strict=True))}


def _run(connection: sqlite3.Connection) -> int:
    """Return the number of the newest run of the line."""
    return int(connection.execute("SELECT coalesce(max(run), 0) FROM runs").fetchone()[0])
