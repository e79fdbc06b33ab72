"""Looks through the whole journal for damage, at the start and once a day, in a thread of its own.

The loop reads only the journal's end: a page in its middle that the disk has lost would go unnoticed until somebody
asks for those verdicts.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .reader import open_for_reading

LOG = logging.getLogger("stfpm.journal")
EVERY_S = 86_400.0
POLL_S = 1.0
FINDINGS = 3
"""Damaged places that are named."""
DAMAGED = "the journal is damaged inside ({}); copy it, and begin a new one"


class IntegrityCheck:
    """Runs SQLite's quick_check on a journal; `problem` is what the last one found, and empty for a sound journal."""

    def __init__(self, journal: Path, log_event: Callable[[str, str], None], every_s: float = EVERY_S) -> None:
        self.problem = ""
        self._journal = journal
        self._log_event = log_event
        self._every_s = every_s
        self._closing = threading.Event()
        self._connection: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._work, name="journal check", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop a check that runs, and end the thread. Closing twice is fine."""
        self._closing.set()
        if connection := self._connection:
            with contextlib.suppress(sqlite3.Error):  # it has ended meanwhile
                connection.interrupt()
        self._thread.join(max(0.0, timeout_s))

    def _work(self) -> None:
        while not self._closing.is_set():
            due_s = time.monotonic() + self._every_s
            try:
                problem = self.check()
            except Exception as error:  # a journal that cannot be read as a whole is no sound one
                problem = DAMAGED.format(error)
            if self._closing.is_set():  # interrupted
                return
            if problem and problem != self.problem:
                LOG.error("%s: %s", self._journal, problem)
                self._log_event("journal", problem)
            self.problem = problem
            while time.monotonic() < due_s and not self._closing.wait(min(POLL_S, self._every_s)):
                pass

    def check(self) -> str:
        """Return what is damaged, in one line; empty for a sound journal. Raises sqlite3.Error."""
        with contextlib.closing(open_for_reading(self._journal, check_same_thread=False)) as connection:
            self._connection = connection
            try:
                rows = connection.execute(f"PRAGMA quick_check({FINDINGS})").fetchall()
            finally:
                self._connection = None
        found = "; ".join(" ".join(str(row[0]).split()) for row in rows)
        if found == "ok":
            return ""
        return DAMAGED.format(found)
