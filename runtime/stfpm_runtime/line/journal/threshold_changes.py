"""Changes of thresholds by operators: rows in the journal's table `thresholds`, see `line.decide`."""

from __future__ import annotations

import dataclasses
import math
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from stfpm_runtime.errors import OptionError
from stfpm_runtime.model_check import ThresholdBounds

from .rows import utc

NAME_LENGTH = 80
"""Characters of the name of who changes a threshold."""
TEXT_LENGTH = 200
"""Characters of any other text in a row."""
State = Literal["ordered", "holds", "past"]
TABLE = """
CREATE TABLE IF NOT EXISTS thresholds (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, who TEXT NOT NULL, camera TEXT NOT NULL,
    region TEXT NOT NULL, threshold REAL, old REAL, configured REAL, model TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ordered', 'holds', 'past'))
)
"""


@dataclass(frozen=True)
class ThresholdChange:
    """A threshold that somebody wants, as its row has it."""

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
    """What held before; written by the line when it takes the order over."""
    configured: float | None = None
    """What configuration and model said then."""
    model: str = ""
    """SHA-256 of the model then."""
    state: State = "ordered"


FIELDS = tuple(field.name for field in dataclasses.fields(ThresholdChange))
SELECT = f"SELECT {', '.join(FIELDS)} FROM thresholds WHERE state = ? ORDER BY seq"
INSERT = f"INSERT INTO thresholds ({', '.join(FIELDS[1:])}) VALUES ({', '.join('?' * (len(FIELDS) - 1))})"


def rows_of(connection: sqlite3.Connection, state: State) -> list[ThresholdChange]:
    """Return all orders in that state, the oldest first.

    Any SQLite client may have written them: their values can be of any type, see `problem_of`.
    """
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    try:
        return [ThresholdChange(*row) for row in connection.execute(SELECT, (state,))]
    finally:
        connection.text_factory = str


def problem_of(order: ThresholdChange, bounds: ThresholdBounds | None = None) -> str:
    """Return why an order cannot be followed, in one line without control characters; empty where it can be."""
    for key in ("time", "who", "camera", "region", "model"):
        if not isinstance(value := getattr(order, key), str) or not (value.isprintable() and len(value) <= TEXT_LENGTH):
            return f"{key} is {value!r:.60}; expected printable text of up to {TEXT_LENGTH} characters"
    if not order.who.strip() or len(order.who) > NAME_LENGTH:
        return f"got {order.who!r:.60} for who changes it; expected a name of up to {NAME_LENGTH} characters"
    for key in ("threshold", "old", "configured"):
        value = getattr(order, key)
        if value is not None and not (type(value) in (int, float) and math.isfinite(value)):
            return f"got a {key} of {value!r:.60}; expected a finite number"
    if bounds is not None and order.threshold is not None:
        try:
            bounds.check(order.threshold)
        except OptionError as error:
            return str(error)
    return ""


def insert(connection: sqlite3.Connection, orders: Iterable[ThresholdChange]) -> None:
    """Add rows, within the caller's transaction."""
    connection.executemany(INSERT, [dataclasses.astuple(order)[1:] for order in orders])


def new_threshold_change(threshold: float | None, who: str, camera: str = "", region: str = "") -> ThresholdChange:
    """An order of this moment."""
    return ThresholdChange(0, utc(), who, camera, region, threshold)
