"""Checks the whole journal for damage, at the start and once a day.

The loop reads only the journal's end: a page in its middle that the disk has lost would be found only when those
verdicts are read.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from pathlib import Path

from stfpm_runtime.lifecycle import Worker

from .reader import open_for_reading
from .rows import LogEvent

LOG = logging.getLogger("stfpm.journal")
EVERY_S = 86_400.0
FINDINGS = 3
"""Damaged places that are named."""
DAMAGED = "the journal is damaged inside ({}); copy it, and begin a new one"


class IntegrityCheck(Worker):
    """Runs SQLite's quick_check on a journal, in a thread of its own."""

    keeps_real_time = False

    def __init__(self, journal: Path, log_event: LogEvent, every_s: float = EVERY_S) -> None:
        """Store which journal is checked, and how often."""
        super().__init__("journal check")
        self.problem = ""
        """What the last check found; empty for a sound journal."""
        self._journal = journal
        self._log_event = log_event
        self._every_s = every_s
        self._connection: sqlite3.Connection | None = None

    def wake(self) -> None:
        """Interrupt a check that runs."""
        if connection := self._connection:
            with contextlib.suppress(sqlite3.Error):  # it has ended meanwhile
                connection.interrupt()

    def run(self) -> None:
        """Check until the stop."""
        while not self.stopping.is_set():
            try:
                problem = self.check()
            except Exception as error:  # a journal that cannot be read as a whole is no sound one
                problem = DAMAGED.format(error)
            if self.stopping.is_set():  # the check was interrupted
                return
            if problem and problem != self.problem:
                LOG.error("%s: %s", self._journal, problem)
                self._log_event("journal", problem)
            self.problem = problem
            self.stopping.wait(self._every_s)

    def check(self) -> str:
        """Return what is damaged, in one line; empty for a sound journal. Raises sqlite3.Error."""
        with contextlib.closing(open_for_reading(self._journal, check_same_thread=False)) as connection:
            self._connection = connection
            try:
                rows = connection.execute(f"PRAGMA quick_check({FINDINGS})").fetchall()
            finally:
                self._connection = None
        found = "; ".join(" ".join(str(row[0]).split()) for row in rows)
        return "" if found == "ok" else DAMAGED.format(found)
