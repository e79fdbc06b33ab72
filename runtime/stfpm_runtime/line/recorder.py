"""The journal as the loop uses it: it never raises, and what it could not keep is a fault."""

from __future__ import annotations

import dataclasses
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Sequence

from ..errors import JournalError
from ..sources import Event
from .clock import Clock
from .config import JournalOptions
from .entry import Entry, Happening, storable, utc
from .journal import DamagedJournalError, Journal, set_aside
from .thresholds import Order

LOG = logging.getLogger("stfpm.journal")
RETRY_S = 0.5
"""Between attempts to write again."""
LATE = 1000
"""Verdicts that wait in memory for the journal to come back; of those beyond, their number alone."""
EVENTS = 10_000
"""Events likewise."""
UPKEEP_S = 1.0
"""Between looks at what has grown too old or too much."""
HURRY_S = 0.1
"""The same, while there is more than one step to do."""
STEP = 500
"""Verdicts forgotten at a time: a few milliseconds."""


class Recorder:
    """Keeps every verdict in the journal, or makes a fault of it and keeps that as soon as it can.

    Opening raises JournalError; a damaged journal is set aside and a new one begun, and it is said loudly.
    All but `note` belongs to the loop's thread.
    """

    def __init__(self, options: JournalOptions, model: str, clock: Clock | None = None) -> None:
        self.run = 0
        """The number of this run of the loop."""
        self._options = options
        self._model = model
        self._clock = clock or Clock()
        self._late: deque[Entry] = deque()
        self._lost = 0
        self._events: deque[tuple[str, int, str, Event | tuple[str, str]]] = deque(maxlen=EVENTS)
        self._error: JournalError | None = None
        self._retry_s = self._upkeep_s = 0.0
        self._begun_in = ""
        self._journal: Journal | None = self._open()

    @property
    def id(self) -> str:
        """Which journal it is; empty while there is none."""
        return self._journal.id if self._journal else ""

    @property
    def next_seq(self) -> int:
        """The number that the next verdict will have, if it can be kept; else 0."""
        return self._journal.next_seq if self._journal else 0

    @property
    def works(self) -> bool:
        """Whether the last write went well."""
        return self._error is None

    def keep(self, entry: Entry) -> Entry:
        """The verdict as it is in the journal; a fault with `seq` 0 if it could not be kept."""
        try:
            journal = self._working()
            entry = journal.write(dataclasses.replace(entry, run=self.run))
        except JournalError as error:
            return self._keep_late(entry, error)
        except Exception as error:  # a bug: the part is not passed for it, and the line goes on
            LOG.exception("a bug: a verdict could not be journalled")
            return self._keep_late(entry, error)
        return entry

    def note(self, camera: str, event: Event) -> None:
        """Remember what befell a camera; the loop writes it down. For any thread."""
        self._events.append((utc(), time.monotonic_ns(), camera, event))

    def remark(self, kind: str, detail: str = "") -> None:
        """Remember what befell the line as a whole. For any thread."""
        self._events.append((utc(), time.monotonic_ns(), "", (kind, detail)))

    def keep_up(self) -> None:
        """What is to be done between verdicts: write events down, look at the clock, forget what is too old."""
        if jump_s := self._clock.jump_s():
            LOG.warning("the wall clock jumped by %.1f s; the order of the journal is that of its numbers", jump_s)
            self.remark("clock", f"jumped by {jump_s:.1f} s")
        try:
            self._write_events()
            if time.monotonic() >= self._upkeep_s:
                self._upkeep_s = time.monotonic() + UPKEEP_S
                self._working().check_in_place()
                self._working().check_writable()
                self._forget()
        except (JournalError, sqlite3.Error) as error:
            self._fail(error)

    def orders(self) -> list[Order]:
        """Thresholds that were ordered since the last call; none while the journal does not work."""
        try:
            return self._journal.orders() if self._journal else []
        except (JournalError, sqlite3.Error) as error:
            self._fail(error)
            return []

    def held(self) -> list[Order]:
        """Thresholds that held when the line was last run."""
        return self._journal.held() if self._journal else []

    def settle(self, held: Sequence[Order], past: Sequence[int]) -> None:
        """Keep which thresholds hold. While the journal does not work they hold all the same, until the line stops."""
        try:
            self._working().settle(held, past)
        except (JournalError, sqlite3.Error) as error:
            self._fail(error)

    def close(self) -> None:
        """Write what waits, if that is possible, and give the file back."""
        self._retry_s = 0.0
        self.keep_up()
        if self._journal:
            self._journal.close()
        if self._late or self._lost:
            LOG.error("%d faults could not be journalled any more", len(self._late) + self._lost)

    def _open(self) -> Journal:
        """The journal, if need be a new one in the place of a damaged one."""
        options = self._options
        try:
            journal = Journal(options.path, options.synchronous)
        except DamagedJournalError as error:
            aside = set_aside(options.path)
            LOG.error("%s; it was set aside as %s, and a new one is begun", error, aside.name)
            self.remark("journal", f"a damaged one was set aside as {aside.name}")
            journal = Journal(options.path, options.synchronous)
        if journal.id != self._begun_in:
            self.run = journal.begin_run(self._model)
            self._begun_in = journal.id
        return journal

    def _working(self) -> Journal:
        """The journal, opened again after it failed, with all in it that had to wait. Raises JournalError."""
        if self._error is None and self._journal is not None:
            return self._journal
        if time.monotonic() < self._retry_s and self._error is not None:
            raise self._error
        if self._journal is None:
            self._journal = self._open()
        if self._late:
            self._journal.write_late([dataclasses.replace(entry, run=self.run) for entry in self._late])
        lost = f", {self._lost} more were lost" if self._lost else ""
        LOG.warning("the journal can be written again; %d faults were added%s", len(self._late), lost)
        self.remark("journal", f"can be written again; {len(self._late)} faults were added late{lost}")
        self._late.clear()
        self._lost, self._error = 0, None
        return self._journal

    def _keep_late(self, entry: Entry, error: Exception) -> Entry:
        self._fail(error)
        reason = f"the verdict could not be journalled: {error}"
        fault = dataclasses.replace(
            entry, seq=0, decision="fault", score=None, p_value=None, reason=reason, picture="", overlay=""
        )
        if len(self._late) < LATE:
            self._late.append(fault)
        else:
            self._lost += 1
        return fault

    def _fail(self, error: Exception) -> None:
        """The journal does not work: say so once, and try again a little later with a new connection."""
        if self._error is None:
            LOG.error("%s; until then every verdict is a fault", error)
            self.remark("journal", str(error))
        if error is not self._error:
            self._error = error if isinstance(error, JournalError) else JournalError(f"internal error: {error}")
            self._retry_s = time.monotonic() + RETRY_S
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    def _write_events(self) -> None:
        if not self._events:
            return
        journal = self._working()
        waiting = [self._events[number] for number in range(len(self._events))]
        journal.note([_happening(self.run, *item) for item in waiting])
        for _ in waiting:
            self._events.popleft()

    def _forget(self) -> None:
        """One small step towards the limits."""
        options = self._options
        if options.keep_days is None and options.max_mb is None:
            return
        before = None
        if options.keep_days is not None:
            before = utc(self._clock.trusted_s() - options.keep_days * 86_400)
        gone = self._working().forget(before, None if options.max_mb is None else options.max_mb * 1e6, STEP)
        if gone >= STEP:
            self._upkeep_s = time.monotonic() + min(HURRY_S, UPKEEP_S)


def _happening(run: int, moment: str, monotonic_ns: int, camera: str, event: Event | tuple[str, str]) -> Happening:
    source, kind, detail = (event.source, event.kind, event.detail) if isinstance(event, Event) else ("", *event)
    return Happening(0, moment, monotonic_ns, run, camera, storable(source), kind, storable(detail))
