"""Changes of thresholds by operators: rows in the journal's table `thresholds`.

`stfpm-journal` and the dashboard write a change; the running line puts it in force, see `line.decide`, and writes a row
for each place where it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stfpm_runtime.errors import OptionError
from stfpm_runtime.model_check import ThresholdBounds

from .chain.links import record_returned, write_digests
from .models.active import END, read_active_model
from .reader import opened
from .rows import NAME_LENGTH, TEXT_LENGTH, utc

State = Literal["ordered", "holds", "past"]
"""New; in force; ended or refused."""
Result = Literal["waiting", "taken", "refused"]
TABLE = """
CREATE TABLE IF NOT EXISTS thresholds (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, who TEXT NOT NULL, camera TEXT NOT NULL,
    region TEXT NOT NULL, threshold REAL, old REAL, configured REAL, model TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ordered', 'holds', 'past'))
)
"""
REASONS = "CREATE TABLE IF NOT EXISTS threshold_reasons (seq INTEGER PRIMARY KEY, reason TEXT NOT NULL)"
"""Why a change of that number was made, for the event that the line writes when the change is in force."""


@dataclass(frozen=True)
class ThresholdChange:
    """A row of the table."""

    seq: int
    """0 until it is written."""
    time: str
    who: str
    camera: str
    """Empty: every camera."""
    region: str
    """Empty: every region."""
    threshold: float | None
    """None: what configuration and model say."""
    old: float | None = None
    """The threshold before; written by the line."""
    configured: float | None = None
    """The threshold of configuration and model at that time."""
    model: str = ""
    """SHA-256 of the model that it is for, and on a line with recipes a space and the recipe.

    A new change names neither, or at least the model, where it is for one alone, whatever the line uses by then.
    """
    state: State = "ordered"
    reason: str = ""
    """Why a person changes it; no column: of a new change it is in a table of its own, and later in its event."""


FIELDS = tuple(field.name for field in dataclasses.fields(ThresholdChange) if field.name != "reason")
SELECT = f"SELECT {', '.join(FIELDS)} FROM thresholds WHERE state = ? ORDER BY seq"
INSERT = f"INSERT INTO thresholds ({', '.join(FIELDS[1:])}) VALUES ({', '.join('?' * (len(FIELDS) - 1))})"


def new_threshold_change(
    threshold: float | None, who: str, camera: str = "", region: str = "", reason: str = "", model: str = ""
) -> ThresholdChange:
    """Return a change of this moment, not written yet; the line refuses it where it uses another model by then."""
    return ThresholdChange(0, utc(), who, camera, region, threshold, model=model, reason=reason)


def read_changes(connection: sqlite3.Connection, state: State) -> list[ThresholdChange]:
    """Return all changes in that state, the oldest first.

    Any SQLite client may have written them: their values can be of any type, see `problem_of`.
    """
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    try:
        changes = [ThresholdChange(*row) for row in connection.execute(SELECT, (state,))]
        with contextlib.suppress(sqlite3.OperationalError):  # nobody has given a reason yet
            reasons = dict(connection.execute("SELECT seq, reason FROM threshold_reasons")) if changes else {}
            changes = [dataclasses.replace(change, reason=reasons.get(change.seq, "")) for change in changes]
        return changes
    finally:
        connection.text_factory = str


def write_changes(connection: sqlite3.Connection, in_force: Sequence[ThresholdChange], ended: Sequence[int]) -> None:
    """Add changes that are in force from now on, and end those of these numbers. Within the caller's transaction."""
    for seq in ended:
        record_returned(connection, "threshold_states", f"{END} WHERE seq = ? RETURNING seq", (seq,))
    for change in in_force:
        earlier = f"{END} WHERE state = 'holds' AND camera = ? AND region = ? AND model = ? RETURNING seq"
        record_returned(connection, "threshold_states", earlier, (change.camera, change.region, change.model))
    for change in in_force:
        _insert(connection, change)


def updated(
    known: Sequence[ThresholdChange], in_force: Sequence[ThresholdChange], ended: Sequence[int]
) -> list[ThresholdChange]:
    """Return which changes are in force after some came and those of these numbers ended; new ones have no number."""
    places = {(change.camera, change.region, change.model) for change in in_force}
    kept = [
        change for change in known
        if change.seq not in ended and (change.camera, change.region, change.model) not in places
    ]  # fmt: skip
    return kept + [dataclasses.replace(change, seq=0) for change in in_force if change.state == "holds"]


def problem_of(change: ThresholdChange, bounds: ThresholdBounds | None = None) -> str:
    """Return why a change is refused, in one line without control characters; an empty text where it is not."""
    for key in ("time", "who", "camera", "region", "model", "reason"):
        value = getattr(change, key)
        if not isinstance(value, str) or not value.isprintable() or len(value) > TEXT_LENGTH:
            return f"{key} is {value!r:.60}; expected printable text of up to {TEXT_LENGTH} characters"
    if not change.who.strip() or len(change.who) > NAME_LENGTH:
        return f"got {change.who!r:.60} for who changes it; expected a name of up to {NAME_LENGTH} characters"
    for key in ("threshold", "old", "configured"):
        value = getattr(change, key)
        if value is not None and not (type(value) in (int, float) and math.isfinite(value)):
            return f"got a {key} of {value!r:.60}; expected a finite number"
    if bounds is not None and change.threshold is not None:
        try:
            bounds.check(change.threshold)
        except OptionError as error:
            return str(error)
    return ""


def request_threshold(journal: Path, change: ThresholdChange) -> int:
    """Write a change into a journal, whose line may run, and return its number.

    Raises OptionError for a change that is refused or lies outside the bounds of the model that the journal's line
    uses, JournalError for a journal that cannot be written.
    """
    with opened(journal, writing=True) as connection:
        active = read_active_model(connection)
        if problem := problem_of(change, ThresholdBounds(active.lowest, active.highest) if active else None):
            raise OptionError(problem)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(TABLE)
        number = _insert(connection, change)
        if change.reason:
            connection.execute(REASONS)
            connection.execute("INSERT INTO threshold_reasons VALUES (?, ?)", (number, change.reason))
            write_digests(connection, "threshold_reasons", number)
        connection.execute("COMMIT")
    return number


def _insert(connection: sqlite3.Connection, change: ThresholdChange) -> int:
    """Write a new row, and return its number."""
    number = connection.execute(INSERT, [getattr(change, name) for name in FIELDS[1:]]).lastrowid or 0
    write_digests(connection, "thresholds", number)
    write_digests(connection, "threshold_states", number)
    return number


def result_of(journal: Path, number: int) -> Result:
    """Return the line's answer: it writes a row for each place where a change is in force. Raises JournalError."""
    with opened(journal) as connection:
        row = connection.execute("SELECT state, time, who FROM thresholds WHERE seq = ?", (number,)).fetchone()
        if row is None or row[0] == "ordered":
            return "waiting"
        places = "SELECT count(*) FROM thresholds WHERE seq > ? AND time = ? AND who = ? AND model != ''"
        (count,) = connection.execute(places, (number, *row[1:])).fetchone()
    return "taken" if count else "refused"


def wait_for_result(journal: Path, number: int, timeout_s: float) -> Result:
    """Wait for the running line to decide on a change; return `waiting` where it has not in time. Raises JournalError.

    Raises OptionError where the line refuses it.
    """
    until_s = time.monotonic() + timeout_s
    while (result := result_of(journal, number)) == "waiting" and time.monotonic() < until_s:
        time.sleep(0.01)
    if result == "refused":
        raise OptionError(f"the line refused order {number}; see its events: stfpm-journal {journal} --events")
    return result


def places_of(journal: Path) -> list[tuple[str, str]]:
    """Return cameras and regions of the newest verdicts. Raises JournalError."""
    sql = "SELECT DISTINCT camera, region FROM (SELECT camera, region FROM verdicts ORDER BY seq DESC LIMIT 20000)"
    with opened(journal) as connection:
        return sorted((str(camera), str(region)) for camera, region in connection.execute(sql))


def check_place(places: Sequence[tuple[str, str]], camera: str, region: str) -> None:
    """Raise OptionError unless a change for this camera and region is for one of the places."""
    if not any(camera in ("", place[0]) and region in ("", place[1]) for place in places):
        known = ", ".join("/".join(place) for place in places) or "none yet"
        raise OptionError(f"got {camera or '*'}/{region or '*'}; expected one of {known}")
