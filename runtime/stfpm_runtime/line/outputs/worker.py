"""Delivers the journal's verdicts to one driver, in a thread with a position of its own.

An output that hangs holds up no other. A refusal that will not change does not hold up what comes after it: the verdict
is kept in the journal's file of refused verdicts, see `journal/dead_letters.py`.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from stfpm_runtime.line.journal.cursor import CursorFile, Position
from stfpm_runtime.line.journal.dead_letters import DeadLetters
from stfpm_runtime.line.journal.health import CountedEvent
from stfpm_runtime.line.journal.rows import EVENT_COLUMNS, LogEvent, Record, VerdictRow
from stfpm_runtime.line.journal.tail import POLL_S, JournalTail, UnavailableError
from stfpm_runtime.line.observers.heartbeat import STEP_S, Heartbeat

from .base import Output, OutputDriver

ATTEMPTS = 3
"""How often a verdict is offered to a side that refuses it."""
ANNOUNCED = "drift"
"""The kind of events that are delivered beside the verdicts."""
EVENTS_AFTER = f"SELECT {', '.join(EVENT_COLUMNS)} FROM events WHERE seq > ? AND kind = ? ORDER BY seq LIMIT 100"


class OutputWorker(JournalTail, Output):
    """Keeps one other side up to date. Where there is no cursor yet, it begins with the verdicts made from now on."""

    def __init__(self, journal: Path, driver: OutputDriver, log_event: LogEvent, heartbeat: Heartbeat) -> None:
        """Store what is delivered to whom."""
        super().__init__(
            journal, driver.name, log_event, CursorFile(journal, driver.name) if driver.has_cursor else None
        )
        self._driver, self._heartbeat = driver, heartbeat
        self._dead_letters = DeadLetters(journal, driver.name)
        self.expired = CountedEvent(self.report, f"older than max_age_s = {driver.max_age_s:g} and not written")
        self.refused = CountedEvent(
            self.report, f"refused {ATTEMPTS} times, kept for stfpm-journal --resend {driver.name}"
        )
        self.counted += [self.expired, self.refused]
        self._beat_due_s = 0.0
        self._sent_count = 0
        self._refusals = 0, 0
        """Number of the verdict that was refused last, and how often."""

    def take(self, row: VerdictRow) -> None:
        """Deliver what is new in the journal. Called by the loop's thread."""
        self.notify()

    def connect(self) -> Position | None:
        """Open the driver's connection, and return the position that the other side knows itself."""
        return self._driver.open()

    def disconnect(self) -> None:
        """Close the driver's connection."""
        self._driver.close()

    def is_connected(self) -> bool:
        """Return whether the driver's connection still leads to the other side."""
        return self._driver.is_open()

    def deliver(self, records: list[Record]) -> None:
        """Deliver the verdicts in their order; those that are too old, or refused for good, are counted and passed."""
        try:
            while records:
                if expired := list(itertools.takewhile(self._is_too_old, records)):
                    self.expired.add(expired[0]["seq"], expired[-1]["seq"], len(expired))
                    self.advance(expired[-1])
                    records = records[len(expired) :]
                    continue
                self.backlog.set_age((self.age_ms(records[0]) or 0) / 1e3)
                first = itertools.takewhile(lambda record: not self._is_too_old(record), records[: self._driver.batch])
                batch = list(first)
                refusals = self._tell(batch)
                for record, refusal in zip(batch, refusals, strict=False):
                    if refusal and (reason := self._offer_again(record, refusal)):
                        self._dead_letters.add(record, reason)
                        self.refused.add(record["seq"], record["seq"], detail=reason)
                    elif not refusal:
                        self.recover()
                    self.advance(record)
                self.move(self.position)
                self.beat()
                records = records[len(refusals) :]
        finally:
            self.move(self.position)

    def deliver_others(self, connection: sqlite3.Connection, journal: str) -> None:
        """Deliver again what `stfpm-journal --resend` marked, and then events of drift."""
        for record in self._dead_letters.to_resend():
            if self._is_too_old(record):
                reason = f"older than max_age_s = {self._driver.max_age_s:g}"
            else:
                (reason,) = self._tell([record])
            if reason:
                self._dead_letters.add(record, reason)
                self.refused.add(record["seq"], record["seq"], detail=f"sent again: {reason}")
            else:
                self._dead_letters.remove(record)
                self.recover()
        for row in connection.execute(EVENTS_AFTER, (self.position.event or 0, ANNOUNCED)).fetchall():
            record = {"journal": journal, **dict(zip(EVENT_COLUMNS, row, strict=True))}
            if refusal := self._driver.announce(record):
                self.report(f"event {record['seq']} is refused: {refusal}")
            old = self.position
            self.move(Position(old.journal, old.seq, old.time, int(record["seq"])))

    def beat(self) -> float:
        """Send the loop's heartbeat if it is due, and return the seconds until the next may be due.

        While the loop's count does not rise nothing is sent.
        """
        if not self._driver.heartbeat_s:
            return POLL_S
        if (now_s := time.monotonic()) >= self._beat_due_s:
            if (count := self._heartbeat.count) == self._sent_count:
                self._beat_due_s = now_s + STEP_S
            else:
                self._driver.beat(count)
                self._sent_count, self._beat_due_s = count, now_s + self._driver.heartbeat_s
        return max(0.01, min(POLL_S, self._beat_due_s - time.monotonic()))

    def _tell(self, batch: Sequence[Record]) -> list[str]:
        refusals = self._driver.tell([{**record, "age_ms": self.age_ms(record)} for record in batch])
        if not 0 < len(refusals) <= len(batch):
            raise RuntimeError(f"the driver dealt with {len(refusals)} of {len(batch)} verdicts")
        return refusals

    def _offer_again(self, record: Record, refusal: str) -> str:
        """Offer a refused verdict again; return an empty text once it is taken, else the reason.

        Raises UnavailableError where the line stops before that.
        """
        self.is_refused = True
        seq, attempts = self._refusals
        attempts = (attempts if seq == record["seq"] else 0) + 1  # counted over connections that end with it
        self._refusals = record["seq"], attempts
        while attempts < ATTEMPTS:
            self.problem = f"verdict {record['seq']} is refused ({refusal})"
            until_s = time.monotonic() + self.backoff.next_s()
            while (left_s := until_s - time.monotonic()) > 0:
                if self.stopping.wait(min(left_s, self.beat())):
                    raise UnavailableError(self.problem)
            if self._is_too_old(record):
                break
            (refusal,) = self._tell([record])
            if not refusal:
                self.recover()
                return ""
            attempts += 1
            self._refusals = record["seq"], attempts
        return refusal

    def _is_too_old(self, record: Record) -> bool:
        if not (limit_s := self._driver.max_age_s):
            return False
        age_ms = self.age_ms(record)
        return age_ms is None or age_ms > limit_s * 1e3
