"""The journal as the loop uses it: it never raises, and what it could not keep is a fault."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from stfpm_runtime.errors import JournalError
from stfpm_runtime.line.config.storage import JournalOptions
from stfpm_runtime.sources import Event

from .active_model import ActiveModelRow
from .clock import Clock
from .rows import EventRow, VerdictRow, fault_of, seconds_of, storable, utc
from .threshold_changes import ThresholdChange
from .writer import DamagedJournalError, Journal, set_aside

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
HOUR_S = 3600.0
DAY_S = 86_400.0
GAP_S = 7 * DAY_S
"""The longest time without verdicts that is no reason to doubt the clock."""
AHEAD_DAYS = 30.0
"""By how much the clock may be ahead of the journal at the start without a remark."""


class Recorder:
    """Keeps every verdict in the journal, or makes a fault of it and keeps that as soon as it can.

    Opening raises JournalError; a damaged journal is set aside and a new one begun, and it is said loudly.
    All but `note` belongs to the loop's thread.
    """

    def __init__(
        self,
        options: JournalOptions,
        model: str,
        clock: Clock | None = None,
        debounces: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    ) -> None:
        self.run = 0
        """The number of this run of the loop."""
        self._options = options
        self._model, self._debounces = model, debounces
        self._clock = clock or Clock()
        self._late: deque[VerdictRow] = deque()
        self._lost = 0
        self._events: deque[tuple[str, int, str, Event | tuple[str, str]]] = deque(maxlen=EVENTS)
        self._error: JournalError | None = None
        self._retry_s = self._upkeep_s = 0.0
        self._begun_in = ""
        self._age_state = ""
        """Why verdicts that are too old were not deleted at the last look, or that many are deleted."""
        self._active: ActiveModelRow | None = None
        self._unread = ""
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

    def keep(self, entry: VerdictRow) -> VerdictRow:
        """The verdict as it is in the journal; a fault with `seq` 0 if it could not be kept."""
        try:
            journal = self._working()
            entry = journal.write(dataclasses.replace(entry, run=self.run))
        except JournalError as error:
            return self._keep_late(entry, error)
        except Exception as error:  # the row cannot be written: the part is a fault, and the line goes on
            LOG.exception("internal error: a verdict could not be written into the journal")
            return self._keep_as_fault(entry, error)
        return entry

    def _keep_as_fault(self, entry: VerdictRow, error: Exception) -> VerdictRow:
        """Write the verdict as a fault without the value that broke it."""
        text = f"{type(error).__name__}: {error}"
        self.log_event("journal", f"a verdict could not be written as it was, and is a fault: {text}")
        try:
            fault = fault_of(entry, f"the verdict could not be journalled: {text}")
            return self._working().write(dataclasses.replace(fault, run=self.run))
        except Exception as second:  # of whatever kind: it waits, and is a fault
            return self._keep_late(entry, second)

    def note(self, camera: str, event: Event) -> None:
        """Remember what befell a camera; the loop writes it down. For any thread."""
        self._events.append((utc(), time.monotonic_ns(), camera, event))

    def log_event(self, kind: str, detail: str = "") -> None:
        """Remember what befell the line as a whole. For any thread."""
        self._events.append((utc(), time.monotonic_ns(), "", (kind, detail)))

    def do_maintenance(self) -> None:
        """What is to be done between verdicts: write events down, look at the clock, forget what is too old."""
        try:
            if jump_s := self._clock.jump_s():
                LOG.warning("the wall clock jumped by %.1f s; the order of the journal is that of its numbers", jump_s)
                self.log_event("clock", f"jumped by {jump_s:.1f} s")
            self._write_events()
            if time.monotonic() >= self._upkeep_s:
                self._upkeep_s = time.monotonic() + UPKEEP_S
                self._working().check_in_place()
                self._working().check_writable()
                self._forget()
        except (JournalError, sqlite3.Error) as error:
            self._fail(error)

    def orders(self) -> list[ThresholdChange]:
        """Thresholds that were ordered since the last call; none while they or the journal cannot be read."""
        return self._thresholds(Journal.orders)

    def held(self) -> list[ThresholdChange]:
        """Thresholds that held when the line was last run; none where they cannot be read."""
        return self._thresholds(Journal.held)

    def use_model(self, active: ActiveModelRow) -> None:
        """Keep which model is used from now on, also in a journal that is begun later."""
        self._active = active
        try:
            self._working().use_model(active)
        except (JournalError, sqlite3.Error) as error:
            LOG.error("the journal does not keep which model is used; a restart may use another: %s", error)
            self.log_event("model", f"the journal does not keep which model is used: {error}")

    def settle(self, held: Sequence[ThresholdChange], past: Sequence[int]) -> None:
        """Keep which thresholds hold. While the journal does not work they hold all the same, until the line stops."""
        try:
            self._working().settle(held, past)
        except (JournalError, sqlite3.Error) as error:
            self._fail(error)

    def close(self) -> None:
        """Write what waits, if that is possible, and give the file back."""
        self._retry_s = 0.0
        self.do_maintenance()
        if self._journal:
            self._journal.close()
        if self._late or self._lost:
            LOG.error("%d faults could not be journalled any more", len(self._late) + self._lost)

    def _thresholds(self, read: Callable[[Journal], list[ThresholdChange]]) -> list[ThresholdChange]:
        """Read thresholds; that they cannot be read is said once, and is no reason to stop journalling verdicts."""
        if self._journal is None:
            return []
        try:
            return read(self._journal)
        except (JournalError, sqlite3.Error) as error:
            if str(error) != self._unread:
                self._unread = str(error)
                LOG.error("thresholds cannot be read: %s", error)
                self.log_event("threshold", f"cannot be read: {error}")
            return []

    def _open(self) -> Journal:
        """The journal, if need be a new one in the place of a damaged one."""
        options = self._options
        written_s = _written_s(options.path)
        try:
            journal = Journal(options.path, options.synchronous)
        except DamagedJournalError as error:
            aside = set_aside(options.path)
            LOG.error("%s; it was set aside as %s, and a new one is begun", error, aside.name)
            self.log_event("journal", f"a damaged one was set aside as {aside.name}")
            journal = Journal(options.path, options.synchronous)
        if journal.id != self._begun_in:
            self._compare_clock(journal, written_s)
            self.run = journal.begin_run(self._model, self._debounces)
            self._begun_in = journal.id
            if self._active:
                journal.use_model(self._active)
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
        self.log_event("journal", f"can be written again; {len(self._late)} faults were added late{lost}")
        self._late.clear()
        self._lost, self._error = 0, None
        return self._journal

    def _keep_late(self, entry: VerdictRow, error: Exception) -> VerdictRow:
        self._fail(error)
        reason = f"the verdict could not be journalled: {error}"
        fault = dataclasses.replace(fault_of(entry, reason), seq=0)
        if len(self._late) < LATE:
            self._late.append(fault)
        else:
            self._lost += 1
        return fault

    def _fail(self, error: Exception) -> None:
        """The journal does not work: say so once, and try again a little later with a new connection."""
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
        if not self._events:
            return
        journal = self._working()
        waiting = [self._events[number] for number in range(len(self._events))]
        try:
            journal.note([_happening(self.run, *item) for item in waiting])
        except (JournalError, sqlite3.OperationalError):
            raise
        except Exception:  # one of them cannot be written, and would keep the others from being written
            LOG.exception("internal error: %d events could not be written into the journal", len(waiting))
            self.log_event("journal", f"{len(waiting)} events could not be written")
        for _ in waiting:
            self._events.popleft()

    def _forget(self) -> None:
        """Make one small step towards the limits."""
        options = self._options
        if options.keep_days is None and options.max_mb is None:
            return
        before = None if options.keep_days is None else self._age_limit(options.keep_days)
        gone = self._working().forget(before, None if options.max_mb is None else options.max_mb * 1e6, STEP)
        if gone >= STEP:
            self._upkeep_s = time.monotonic() + min(HURRY_S, UPKEEP_S)

    def _age_limit(self, keep_days: float) -> str | None:
        """Return the time before which verdicts are deleted; None while only the clock says that they are too old.

        The times of the verdicts show whether the clock is plausible: where none lies within `gap_s` of the newest that
        would be deleted, the clock may have jumped while the line was off, and nothing is deleted until the limit has
        passed that gap.
        """
        before_s = self._clock.trusted_s() - keep_days * DAY_S
        before, gap_s = utc(before_s), min(GAP_S, keep_days * DAY_S / 2)
        oldest, last, first = self._working().around(before)
        try:
            span_s = seconds_of(last) - seconds_of(oldest) if last else 0.0
            next_s = seconds_of(first) if first else self._clock.trusted_s()
            is_gap = next_s - (seconds_of(last) if last else before_s) > gap_s
        except ValueError:  # a time that somebody else wrote
            span_s, is_gap = 0.0, True
        if is_gap:
            state = "gap" if last else ""
            text = f"nothing is deleted for its age: there are no verdicts from {last} to {first or 'now'}, so the "
            text += "clock may be wrong; check it, and limit the journal by max_mb if it is too large"
        elif span_s > DAY_S and self._clock.steady_for_s() < HOUR_S:
            state = "wait"
            text = f"verdicts from {oldest} to {last} are deleted when the clock has been steady for an hour"
        else:
            state = "delete" if span_s > DAY_S else ""
            text = f"deletes the verdicts from {oldest} to {last}: they are older than keep_days"
        if state != self._age_state and state:
            LOG.warning("the journal: %s", text)
            self.log_event("journal", text)
        self._age_state = state
        return None if is_gap or state == "wait" else before

    def _compare_clock(self, journal: Journal, written_s: float) -> None:
        """Compare the clock with the newest verdict and the file's own time, and report what cannot be."""
        now_s, newest = self._clock.trusted_s(), journal.newest_time()
        with contextlib.suppress(ValueError):
            written_s = max(written_s, seconds_of(newest) if newest else 0.0)
        ahead_days = (now_s - written_s) / DAY_S
        if written_s and not -1 / 24 <= ahead_days <= AHEAD_DAYS:
            place = "ahead of" if ahead_days > 0 else "behind"
            text = f"is {abs(ahead_days):.1f} days {place} what was last written into the journal; check the clock"
            LOG.warning("the wall clock %s", text)
            self.log_event("clock", text)


def _written_s(path: Path) -> float:
    """Return when a journal was last written by the file's own time, seconds since 1970; 0 where there is none."""
    times = [0.0]
    for name in (path.name, path.name + "-wal"):
        with contextlib.suppress(OSError):
            times.append(path.with_name(name).stat().st_mtime)
    return max(times)


def _happening(run: int, moment: str, monotonic_ns: int, camera: str, event: Event | tuple[str, str]) -> EventRow:
    source, kind, detail = (event.source, event.kind, event.detail) if isinstance(event, Event) else ("", *event)
    return EventRow(0, moment, monotonic_ns, run, camera, storable(source), kind, storable(detail))
