"""Thresholds that an operator sets: writing a change into the journal, and reading what became of it."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from stfpm_runtime.errors import JournalError, OptionError
from stfpm_runtime.model_check import ThresholdBounds

from .active_model import read_active_model
from .reader import open_for_reading
from .threshold_changes import TABLE, ThresholdChange, insert, problem_of
from .writer import check_version

Result = Literal["waiting", "taken", "refused"]


def places_of(journal: Path) -> list[tuple[str, str]]:
    """Cameras and regions of the newest verdicts. Raises JournalError."""
    sql = "SELECT DISTINCT camera, region FROM (SELECT camera, region FROM verdicts ORDER BY seq DESC LIMIT 20000)"
    with opened(journal) as file:
        return sorted((str(camera), str(region)) for camera, region in file.execute(sql))


def request_threshold(journal: Path, order: ThresholdChange) -> int:
    """Write an order into a journal, whose line may run; returns its number.

    Raises OptionError for an order that makes no sense or lies outside the bounds of the model that the journal's line
    uses, JournalError for a journal that cannot be written.
    """
    with opened(journal, writing=True) as file:
        active = read_active_model(file)
        bounds = ThresholdBounds(active.lowest, active.highest) if active else None
        if problem := problem_of(order, bounds):
            raise OptionError(problem)
        file.execute("BEGIN IMMEDIATE")
        file.execute(TABLE)
        insert(file, [order])
        number = int(file.execute("SELECT max(seq) FROM thresholds").fetchone()[0])
        file.execute("COMMIT")
    return number


def result_of(journal: Path, number: int) -> Result:
    """Return what became of an order: the running line writes a row for each place where it holds.

    Raises JournalError.
    """
    with opened(journal) as file:
        row = file.execute("SELECT state, time, who FROM thresholds WHERE seq = ?", (number,)).fetchone()
        if row is None or row[0] == "ordered":
            return "waiting"
        places = "SELECT count(*) FROM thresholds WHERE seq > ? AND time = ? AND who = ? AND model != ''"
        (count,) = file.execute(places, (number, *row[1:])).fetchone()
    return "taken" if count else "refused"


def is_taken(journal: Path, number: int) -> bool:
    """Return whether the running line has taken that order over. Raises JournalError."""
    return result_of(journal, number) == "taken"


def wait_for_result(journal: Path, number: int, timeout_s: float) -> Result:
    """Wait for the running line to decide on an order; `waiting` where none has done so in time. Raises JournalError.

    Raises OptionError where the line refuses it.
    """
    until = time.monotonic() + timeout_s
    while (result := result_of(journal, number)) == "waiting" and time.monotonic() < until:
        time.sleep(0.01)
    if result == "refused":
        raise OptionError(f"the line refused order {number}; see its events: stfpm-journal {journal} --events")
    return result


def check_place(places: Sequence[tuple[str, str]], camera: str, region: str) -> None:
    """Raise OptionError unless an order for this place means anything."""
    if not any(camera in ("", place[0]) and region in ("", place[1]) for place in places):
        known = ", ".join("/".join(place) for place in places) or "none yet"
        raise OptionError(f"got {camera or '*'}/{region or '*'}; expected one of {known}")


@contextlib.contextmanager
def opened(journal: Path, writing: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a journal that exists. Raises JournalError, also for what SQLite raises while it is used."""
    if not journal.is_file():
        raise JournalError(f"{journal}: no such file; expected a journal that stfpm-inspect wrote")
    try:
        with contextlib.closing(open_for_reading(journal)) as connection:
            check_version(connection, journal)
            if writing:
                connection.execute("PRAGMA query_only = 0")
            yield connection
    except sqlite3.Error as error:
        raise JournalError(f"{journal}: cannot be used as a journal ({error}); check the file") from None
