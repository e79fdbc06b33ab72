"""The journal as the loop uses it: it never raises, and a verdict that could not be written is a fault."""

from __future__ import annotations

import dataclasses
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from stfpm_runtime.errors import JournalError

from .chain.links import PictureRow, Signer
from .file import set_aside
from .models.active import ActiveModelRow, write_active_model, write_asked_recipe
from .retention import Clock, Retention, last_written_s
from .rows import EventRow, VerdictRow, fault_of, storable, utc
from .threshold_changes import State, ThresholdChange, updated, write_changes
from .writer import DamagedJournalError, Journal, Synchronous

LOG = logging.getLogger("stfpm.journal")
RETRY_S = 0.5
"""Between attempts to write again, in seconds."""
MAX_LATE_VERDICTS = 1000
"""The most verdicts that are kept in memory while the journal cannot be written; further ones are only counted."""
EVENTS = 10_000
"""Events that wait in memory."""
MAINTENANCE_S = 1.0
"""Between checks of the file and of its limits, in seconds."""
HEAD_S = 60.0
"""Between heads of the chain, in seconds."""
HURRY_S = 0.1
"""The pause between checks while there is more to delete than one step deletes, in seconds."""


class Recorder:
    """Writes every verdict into the journal, or makes a fault of it and writes that as soon as it can.

    All belongs to the loop's thread, unless it says that it is for any.
    """

    def __init__(
        self,
        path: Path,
        model: str,
        synchronous: Synchronous = "full",
        keep_days: float | None = None,
        max_mb: float | None = None,
        clock: Clock | None = None,
        debounces: Mapping[str, tuple[int, int]] = MappingProxyType({}),
        signer: Signer | None = None,
    ) -> None:
        """Open the journal for a run with the model of this SHA-256. Raises JournalError.

        A damaged journal is set aside and a new one begun, which is an event. `keep_days` and `max_mb` limit what is
        kept; None: no limit. `debounces` are N and M by camera. `signer` signs heads of the chain; None: nobody does.
        """
        self.run = 0
        """The number of this run of the loop."""
        self._path, self._synchronous = path, synchronous
        self._model, self._debounces, self._signer = model, debounces, signer
        self._clock = clock or Clock()
        self._retention = Retention(keep_days, max_mb, self._clock, self.log_event)
        self._late: deque[VerdictRow] = deque()
        self._lost = 0
        self._events: deque[tuple[str, int, str, str, str, str]] = deque(maxlen=EVENTS)
        self._pictures: deque[PictureRow] = deque(maxlen=EVENTS)
        self._error: JournalError | None = None
        self._retry_s = self._maintenance_s = self._head_s = 0.0
        self._begun_in, self._read_error = "", ""
        self._states: dict[str, Callable[[sqlite3.Connection], None]] = {}
        """Writes what the line uses, by its kind."""
        self._unwritten: set[str] = set()
        self._thresholds: list[ThresholdChange] = []
        """Those set by hand, also for a journal that is begun later."""
        self._journal: Journal | None = self._open()
        self.threshold_changes("holds")

    @property
    def id(self) -> str:
        """Return the journal's id; an empty text while there is none."""
        return self._journal.id if self._journal else ""

    @property
    def next_seq(self) -> int:
        """Return the number that the next verdict will have, if it can be written; else 0."""
        return self._journal.next_seq if self._journal else 0

    @property
    def works(self) -> bool:
        """Return whether the last write succeeded."""
        return self._error is None

    @property
    def thresholds_in_force(self) -> Sequence[ThresholdChange]:
        """Return the thresholds set by hand that are in force, or wait for their recipe. For any thread."""
        return self._thresholds

    def keep(self, row: VerdictRow) -> VerdictRow:
        """Write a verdict, and return it as it is in the journal; a fault with `seq` 0 if it could not be written."""
        try:
            return self._working().write(dataclasses.replace(row, run=self.run))
        except JournalError as error:
            return self._keep_late(row, error)
        except Exception as error:  # the row cannot be written: the part is a fault, and the line goes on
            LOG.exception("internal error: a verdict could not be written into the journal")
            text = f"{type(error).__name__}: {error}"
        self.log_event("journal", f"a verdict could not be written as it was, and is a fault: {text}")
        try:
            fault = fault_of(row, f"the verdict could not be journalled: {text}")
            return self._working().write(dataclasses.replace(fault, run=self.run))
        except Exception as error:
            return self._keep_late(row, error)

    def log_event(self, kind: str, detail: str = "", camera: str = "", source: str = "") -> None:
        """Store an event, which the loop writes down; without a camera it concerns the whole line. For any thread."""
        self._events.append((utc(), time.monotonic_ns(), camera, source, kind, detail))

    def log_picture(self, name: str, sha256: str) -> None:
        """Store the SHA-256 of a picture that was written; an empty one where it was deleted. For any thread.

        Nothing is stored of another journal's picture: its name holds the journal's id and the number of its verdict.
        """
        journal, number = (*name.rpartition("/")[2].split("-"), "", "")[:2]
        if journal == self._begun_in and number.isdecimal():
            self._pictures.append((utc(), int(number[:18]), storable(name), sha256))

    def do_maintenance(self) -> None:
        """Write events, compare the clocks, check the file, and delete what is too old. Called between verdicts."""
        try:
            if jump_s := self._clock.jump_s():
                LOG.warning("the wall clock jumped by %.1f s; the order of the journal is that of its numbers", jump_s)
                self.log_event("clock", f"jumped by {jump_s:.1f} s")
            self._write_events()
            if time.monotonic() >= self._maintenance_s:
                self._maintenance_s = time.monotonic() + MAINTENANCE_S
                journal = self._working()
                for kind in tuple(self._unwritten):
                    self._write_state(kind, self._states[kind])
                journal.check_in_place()
                journal.check_writable()
                if self._retention.step(journal):
                    self._maintenance_s = time.monotonic() + min(HURRY_S, MAINTENANCE_S)
                if time.monotonic() >= self._head_s:
                    self._head_s = time.monotonic() + HEAD_S
                    if text := journal.write_head():
                        LOG.warning("the journal: %s", text)
                        self.log_event("journal", text)
        except (JournalError, sqlite3.Error) as error:
            self._fail(error)

    def threshold_changes(self, state: State) -> list[ThresholdChange]:
        """Return the changes in that state, `ordered` ones once; those known to be in force while they cannot be read.

        That is one event, and does not stop the journal.
        """
        known = self._thresholds if state == "holds" else []
        try:
            changes = self._journal.threshold_changes(state) if self._journal else known
            if state == "holds":
                self._thresholds = changes
            return changes
        except (JournalError, sqlite3.Error) as error:
            if str(error) != self._read_error:
                self._read_error = str(error)
                LOG.error("thresholds cannot be read: %s", error)
                self.log_event("threshold", f"cannot be read: {error}")
            return known

    def write_threshold_changes(self, in_force: Sequence[ThresholdChange], ended: Sequence[int]) -> None:
        """Write which changes are in force, and the numbers of those that ended.

        While the journal does not work they are in force all the same, until the line stops. A journal that is begun
        later gets those that are in force.
        """
        self._thresholds = updated(self._thresholds, in_force, ended)
        try:
            with self._working().transaction() as connection:
                write_changes(connection, in_force, ended)
        except (JournalError, sqlite3.Error) as error:
            self._fail(error)

    def use_model(self, active: ActiveModelRow) -> None:
        """Write which model is used from now on, also into a journal that is begun later, as soon as possible."""
        self._write_state("model", lambda connection: write_active_model(connection, active))

    def use_recipe(self, number: int, who: str) -> None:
        """Write which recipe was asked for, in the same way; 0: none."""
        self._write_state("recipe", lambda connection: write_asked_recipe(connection, number, who))

    def close(self) -> None:
        """Write what waits, if that is possible, and close the file."""
        for _ in range(2):  # the first may add an event, which the second writes, and covers by a head
            self._retry_s = self._maintenance_s = self._head_s = 0.0
            self.do_maintenance()
            if not self._events:
                break
        if self._journal:
            self._journal.close()
        if self._late or self._lost:
            LOG.error("%d faults could not be journalled any more", len(self._late) + self._lost)

    def _write_state(self, kind: str, write: Callable[[sqlite3.Connection], None]) -> None:
        is_first_attempt = self._states.get(kind) is not write
        self._states[kind] = write
        self._unwritten.add(kind)
        try:
            with self._working().transaction() as connection:
                write(connection)
            self._unwritten.remove(kind)
        except (JournalError, sqlite3.Error) as error:
            if is_first_attempt:
                LOG.error("the journal does not keep yet which %s is used; a restart may use another: %s", kind, error)
                self.log_event(kind, f"the journal does not keep yet which {kind} is used: {error}")

    def _open(self) -> Journal:
        """Open the journal, or a new one in the place of a damaged one. Raises JournalError."""
        written_s = last_written_s(self._path)
        try:
            journal = Journal(self._path, self._synchronous, self._signer)
        except DamagedJournalError as error:
            aside = set_aside(self._path)
            LOG.error("%s; it was set aside as %s, and a new one is begun", error, aside.name)
            lost = "" if self._begun_in else ", with the thresholds set by hand and the chosen model"
            self.log_event("journal", f"a damaged one was set aside as {aside.name}{lost}")
            journal = Journal(self._path, self._synchronous, self._signer)
        if journal.id != self._begun_in:
            self._retention.compare_clock(journal, written_s)
            self.run = journal.begin_run(self._model, self._debounces)
            self._thresholds = updated([], self._thresholds, [])  # their numbers were those of the journal before
            with journal.transaction() as connection:
                write_changes(connection, self._thresholds, [])
                for write in self._states.values():
                    write(connection)
            self._begun_in = journal.id
        return journal

    def _working(self) -> Journal:
        """Return the journal, opened again after a failure, with all in it that had to wait. Raises JournalError."""
        if self._error is None and self._journal is not None:
            return self._journal
        if time.monotonic() < self._retry_s and self._error is not None:
            raise self._error
        if self._journal is None:
            self._journal = self._open()
        if self._late:
            self._journal.write_late([dataclasses.replace(row, run=self.run) for row in self._late])
        lost = f", {self._lost} more were lost" if self._lost else ""
        LOG.warning("the journal can be written again; %d faults were added%s", len(self._late), lost)
        self.log_event("journal", f"can be written again; {len(self._late)} faults were added late{lost}")
        self._late.clear()
        self._lost, self._error = 0, None
        return self._journal

    def _keep_late(self, row: VerdictRow, error: Exception) -> VerdictRow:
        """Return the verdict as a fault, which waits in memory until the journal works again."""
        self._fail(error)
        fault = dataclasses.replace(fault_of(row, f"the verdict could not be journalled: {error}"), seq=0)
        if len(self._late) < MAX_LATE_VERDICTS:
            self._late.append(fault)
        else:
            self._lost += 1
        return fault

    def _fail(self, error: Exception) -> None:
        """Report once that the journal does not work; a new connection is tried a little later."""
        if self._error is None:
            LOG.error("%s; until then every verdict is a fault", error)
            self.log_event("journal", str(error))
        if error is not self._error:
            self._error = error if isinstance(error, JournalError) else JournalError(f"internal error: {error}")
            self._retry_s = time.monotonic() + RETRY_S
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    def _write_events(self) -> None:
        if not self._events and not self._pictures:
            return
        journal = self._working()
        waiting = [self._events[number] for number in range(len(self._events))]
        pictures = [self._pictures[number] for number in range(len(self._pictures))]
        try:
            rows = [
                EventRow(0, moment, monotonic_ns, self.run, camera, storable(source), kind, storable(detail))
                for moment, monotonic_ns, camera, source, kind, detail in waiting
            ]
            journal.write_events(rows, pictures)
        except (JournalError, sqlite3.OperationalError):
            raise
        except Exception:  # one of them cannot be written, and would keep the others from being written
            LOG.exception("internal error: %d events could not be written into the journal", len(waiting))
            self.log_event("journal", f"{len(waiting)} events could not be written")
        for _ in waiting:
            self._events.popleft()
        for _ in pictures:
            self._pictures.popleft()
