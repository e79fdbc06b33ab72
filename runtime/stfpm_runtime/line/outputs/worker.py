"""Delivers the journal's verdicts to one driver, in a thread with a position of its own.

An outage delays verdicts and loses none; their order is kept. An output that hangs holds up no other. A refusal that
will not change does not hold up what comes after it: the verdict is kept, see `journal/dead_letters.py`.
"""

from __future__ import annotations

import itertools
import logging
import math
import sqlite3
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from stfpm_runtime.errors import StfpmError, UnavailableError
from stfpm_runtime.files import file_identity
from stfpm_runtime.lifecycle import Backoff
from stfpm_runtime.line.journal.dead_letters import DeadLetters
from stfpm_runtime.line.journal.health import EVENT_INTERVAL_S, Backlog, CountedEvent
from stfpm_runtime.line.journal.rows import LogEvent, Record, VerdictRow
from stfpm_runtime.line.journal.tail import JournalTail
from stfpm_runtime.line.observers.heartbeat import STEP_S, Heartbeat

from .base import Output, OutputDriver

LOG = logging.getLogger("stfpm.outputs")
POLL_S = 0.5
"""The longest time until a new verdict is noticed without `enqueue`, in seconds."""
STEADY_S = 5.0
"""A connection that has nothing to deliver counts as good after this time, in seconds."""
ATTEMPTS = 3
"""How often a verdict is offered to a side that refuses it."""


class OutputWorker(Output):
    """Keeps one other side up to date. Where there is no cursor yet, it begins with the verdicts made from now on."""

    def __init__(self, journal: Path, driver: OutputDriver, log_event: LogEvent, heartbeat: Heartbeat) -> None:
        """Store what is delivered to which driver."""
        super().__init__(driver.name)
        self.name = driver.name
        self.failures = 0
        """Errors since the start."""
        self._journal, self._driver, self._log_event, self._heartbeat = journal, driver, log_event, heartbeat
        self._tail = JournalTail(journal, driver.name, driver.has_cursor, self._report)
        self._dead_letters = DeadLetters(journal, driver.name)
        self._backlog = Backlog()
        self._backoff = Backoff(0.2, 5.0)
        self.deleted = self._tail.deleted
        self.expired = CountedEvent(self._report, f"older than max_age_s = {driver.max_age_s:g} and not written")
        self.refused = CountedEvent(
            self._report, f"refused {ATTEMPTS} times, kept for stfpm-journal --resend {driver.name}"
        )
        self._counted = (self.deleted, self.expired, self.refused, self._tail.cursor_lost)
        self._woken = threading.Event()
        self._beat_due_s = self._connected_s = 0.0
        self._sent_count = 0
        self._refusals = 0, 0
        """Number of the verdict that was refused last, and how often."""
        self._problem = self._head = ""
        self._is_refused = self._is_reported = False
        self._reported_s = -math.inf

    @property
    def failure(self) -> str:
        """Return why verdicts cannot be delivered; an empty text where they can. For any thread."""
        if self._thread.ident is not None and not self._thread.is_alive() and not self.stopping.is_set():
            return "its thread ended; restart the line"
        return self._problem

    @property
    def lag_s(self) -> float:
        """Return the age of the oldest undelivered verdict in seconds; 0 where everything is delivered."""
        return self._backlog.lag_s

    def enqueue(self, row: VerdictRow | None = None) -> None:
        """Deliver what is new in the journal at once. For any thread."""
        self._backlog.begin()
        self._woken.set()

    def wake(self) -> None:
        """Make the thread notice that it is to stop."""
        self._woken.set()

    def start(self) -> None:
        """Fix the position before the first verdict, so that a crash right after loses none, and start the thread.

        Raises OutputError for a cursor that cannot be written.
        """
        self._tail.read_cursor()
        if self._driver.has_cursor:
            with self._tail.opened() as connection:
                for record in self._tail.read_verdicts(connection, 1):
                    self._backlog.set_age(self._age_s(record))
        super().start()

    def run(self) -> None:
        """Deliver until the stop; what is in the journal then is still delivered, or has failed once."""
        while True:
            is_last = self.stopping.is_set()
            try:
                with self._tail.opened() as connection:
                    if self._driver.has_cursor:
                        self._tail.check(connection)
                        self._tail.read_verdicts(connection, 1)  # reports deleted verdicts also while nothing answers
                    if (position := self._driver.open()) is not None:
                        self._tail.position = position
                        self._tail.check(connection)
                    self._connected_s = time.monotonic()
                    self._follow(connection)
            except Exception as error:  # whatever it is: it is shown, and tried again
                self._fail(error)
            finally:
                try:
                    self._driver.close()
                except Exception as error:
                    self._fail(error)
            if is_last or self.stopping.is_set():
                break
            self.stopping.wait(self._backoff.next_s())  # a stop meanwhile is followed by a last attempt
        for event in self._counted:
            event.report(at_once=True)
        self._tail.close()

    def _follow(self, connection: sqlite3.Connection) -> None:
        """Deliver everything, until the stop, or until the journal is another file or the connection is gone."""
        identity = file_identity(self._journal)
        while True:
            is_last = self.stopping.is_set()
            self._woken.clear()
            while records := self._tail.read_verdicts(connection):
                self._deliver(records)
                if self.stopping.is_set() and not is_last:
                    break
            else:
                self._backlog.set_age(None)
            if self._driver.has_cursor:  # a file refuses nothing
                self._resend()
            for record in self._tail.read_events(connection, "drift"):
                if refusal := self._driver.send_event(record):
                    self._report(f"event {record['seq']} is refused: {refusal}")
                self._tail.advance_past_event(record)
            if (head := self._tail.newest_head(connection)) and head != self._head:
                self._driver.send_head(head)
                self._head = head
            for event in self._counted:
                event.report()
            if is_last or file_identity(self._journal) != identity or not self._driver.is_open():
                return
            wait_s = self._beat()
            if time.monotonic() - self._connected_s >= STEADY_S and not self._is_refused:
                self._recover()
            self._tail.move(None)
            self._woken.wait(wait_s)

    def _deliver(self, records: list[Record]) -> None:
        """Deliver the verdicts in their order; those that are too old, or refused for good, are counted and passed."""
        try:
            while records:
                if expired := list(itertools.takewhile(self._is_too_old, records)):
                    self.expired.add(expired[0]["seq"], expired[-1]["seq"], len(expired))
                    self._tail.advance_past_verdict(expired[-1])
                    records = records[len(expired) :]
                    continue
                self._backlog.set_age(self._age_s(records[0]))
                offered = records[: self._driver.batch]
                batch = list(itertools.takewhile(lambda record: not self._is_too_old(record), offered))
                refusals = self._tell(batch)
                for record, refusal in zip(batch, refusals, strict=False):
                    if refusal and (reason := self._offer_again(record, refusal, is_alone=len(batch) == 1)):
                        self._dead_letters.add(record, reason)
                        self.refused.add(record["seq"], record["seq"], detail=reason)
                    elif not refusal:
                        self._recover()
                    self._tail.advance_past_verdict(record)
                self._tail.move(self._tail.position)
                self._beat()
                records = records[len(refusals) :]
        finally:
            self._tail.move(self._tail.position)

    def _tell(self, batch: Sequence[Record]) -> list[str]:
        refusals = self._driver.send_verdicts([{**record, "age_ms": self._tail.age_ms(record)} for record in batch])
        if not 0 < len(refusals) <= len(batch):
            raise RuntimeError(f"the driver dealt with {len(refusals)} of {len(batch)} verdicts")
        return refusals

    def _offer_again(self, record: Record, refusal: str, is_alone: bool) -> str:
        """Offer a refused verdict again; return an empty text once it is taken, else the reason.

        Where it was not alone, another verdict of its batch may be the reason, and it is offered alone without a wait.
        Raises UnavailableError where the line stops before that.
        """
        self._is_refused = True
        seq, attempts = self._refusals
        attempts = (attempts if seq == record["seq"] else 0) + 1  # counted over connections that end with it
        self._refusals = record["seq"], attempts
        while attempts < ATTEMPTS:
            self._problem = f"verdict {record['seq']} is refused ({refusal})"
            until_s = time.monotonic() + (self._backoff.next_s() if is_alone else 0)
            is_alone = True
            while (left_s := until_s - time.monotonic()) > 0:
                if self.stopping.wait(min(left_s, self._beat())):
                    raise UnavailableError(self._problem)
            if self._is_too_old(record):
                break
            (refusal,) = self._tell([record])
            if not refusal:
                self._recover()
                return ""
            attempts += 1
            self._refusals = record["seq"], attempts
        return refusal

    def _resend(self) -> None:
        """Deliver again what `stfpm-journal --resend` marked."""
        for record in self._dead_letters.to_resend():
            reason = f"older than max_age_s = {self._driver.max_age_s:g}"
            if not self._is_too_old(record):
                (reason,) = self._tell([record])
            if reason:
                self._dead_letters.add(record, reason)
                self.refused.add(record["seq"], record["seq"], detail=f"sent again: {reason}")
            else:
                self._dead_letters.remove(record)
                self._recover()

    def _beat(self) -> float:
        """Send the loop's heartbeat if it is due, and return the seconds until the next may be due.

        While the loop's count does not rise nothing is sent.
        """
        if not self._driver.heartbeat_s:
            return POLL_S
        if (now_s := time.monotonic()) >= self._beat_due_s:
            if (count := self._heartbeat.count) == self._sent_count:
                self._beat_due_s = now_s + STEP_S
            else:
                self._driver.send_heartbeat(count)
                self._sent_count, self._beat_due_s = count, now_s + self._driver.heartbeat_s
        return max(0.01, min(POLL_S, self._beat_due_s - time.monotonic()))

    def _is_too_old(self, record: Record) -> bool:
        if not (limit_s := self._driver.max_age_s):
            return False
        age_ms = self._tail.age_ms(record)
        return age_ms is None or age_ms > limit_s * 1e3

    def _age_s(self, record: Record) -> float:
        return (self._tail.age_ms(record) or 0) / 1e3

    def _report(self, text: str) -> None:
        """Write an event of this output to the log and the journal."""
        LOG.warning("%s: %s", self.name, text)
        self._log_event("output", f"{self.name}: {text}")

    def _fail(self, error: Exception) -> None:
        """Keep why it does not work; the log and an event say so once, and once a minute at most."""
        self.failures += 1
        is_expected = isinstance(error, (StfpmError, OSError, sqlite3.Error))
        self._problem = str(error) if is_expected else f"internal error: {type(error).__name__}"
        if not self._is_reported and time.monotonic() - self._reported_s >= EVENT_INTERVAL_S:
            self._is_reported, self._reported_s = True, time.monotonic()
            if not is_expected:  # without its text, in which a secret may stand
                LOG.error("%s: %s\n%s", self.name, self._problem, "".join(traceback.format_tb(error.__traceback__)))
            self._report(f"{self._problem}; trying again")

    def _recover(self) -> None:
        """Report the end of a failure: a verdict was taken, or a connection without any has lasted."""
        self._backoff.reset()
        self._problem, self._is_refused = "", False
        if self._is_reported:
            self._is_reported = False
            self._report("reached again")
