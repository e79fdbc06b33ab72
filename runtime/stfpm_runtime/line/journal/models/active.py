"""The model that a line uses, or the recipe that it was asked for: rows in its journal, which a restart reads."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from stfpm_runtime.line.journal.chain.links import record_returned, write_digests
from stfpm_runtime.line.journal.rows import utc

from .states import ModelState, insert_states

TABLE = """
CREATE TABLE IF NOT EXISTS active_model (
    id INTEGER PRIMARY KEY CHECK (id = 1), time TEXT NOT NULL, who TEXT NOT NULL, path TEXT NOT NULL,
    sha256 TEXT NOT NULL, product TEXT NOT NULL, configured_path TEXT NOT NULL, configured_sha256 TEXT NOT NULL,
    lowest REAL NOT NULL, highest REAL NOT NULL
)
"""
RECIPE_TABLE = """
CREATE TABLE IF NOT EXISTS asked_recipe (
    id INTEGER PRIMARY KEY CHECK (id = 1), time TEXT NOT NULL, who TEXT NOT NULL, recipe INTEGER NOT NULL
)
"""


@dataclass(frozen=True)
class FileIdentity:
    """The absolute path and the SHA-256 of the model file that the configuration names."""

    path: str
    sha256: str


@dataclass(frozen=True)
class ActiveModelRow:
    """The one row of the table."""

    time: str
    """When the model was put to use, UTC."""
    who: str
    """The name of who chose it; empty for the configuration."""
    path: str
    """The absolute path of the model file."""
    sha256: str
    product: str
    """The name in its spec."""
    configured_path: str
    """The absolute path that the configuration named at that time."""
    configured_sha256: str
    lowest: float
    """The lowest threshold that may be set."""
    highest: float
    """The highest threshold that may be set."""


END = "UPDATE thresholds SET state = 'past'"
"""Ends threshold changes; a condition follows."""
FIELDS = tuple(item.name for item in dataclasses.fields(ActiveModelRow))
REPLACE = f"INSERT OR REPLACE INTO active_model (id, {', '.join(FIELDS)}) VALUES (1, {', '.join('?' * len(FIELDS))})"


def read_active_model(connection: sqlite3.Connection) -> ActiveModelRow | None:
    """Return the row; None where there is none, or where its values are not of the kinds that the line writes."""
    with contextlib.suppress(sqlite3.Error):  # an older journal has no such table; any client may have changed it
        row = connection.execute(f"SELECT {', '.join(FIELDS)} FROM active_model WHERE id = 1").fetchone()
        are_texts = row and all(isinstance(value, str) and value.isprintable() for value in row[:-2])
        if are_texts and all(type(value) is float and math.isfinite(value) for value in row[-2:]):
            return ActiveModelRow(*row)
    return None


def write_active_model(connection: sqlite3.Connection, active: ActiveModelRow) -> None:
    """Replace the row within the caller's transaction, and end thresholds that were set for another model.

    Another model than before is a change of state of both, see `states`.
    """
    connection.execute(TABLE)
    before = read_active_model(connection)
    if before is None or before.sha256 != active.sha256:
        retired = [ModelState(active.time, active.who, before.sha256, before.path, "retired")] if before else []
        insert_states(connection, [*retired, ModelState(active.time, active.who, active.sha256, active.path, "active")])
    connection.execute(REPLACE, dataclasses.astuple(active))
    write_digests(connection, "active_model", 1)
    other = f"{END} WHERE state = 'holds' AND model != ? RETURNING seq"
    record_returned(connection, "threshold_states", other, (active.sha256,))


def read_asked_recipe(connection: sqlite3.Connection) -> int | None:
    """Return the recipe that was asked for last, 0 where it was withdrawn; None where none was ever asked for."""
    with contextlib.suppress(sqlite3.Error):  # an older journal has no such table
        row = connection.execute("SELECT recipe FROM asked_recipe WHERE id = 1").fetchone()
        return row[0] if row and type(row[0]) is int else None
    return None


def write_asked_recipe(connection: sqlite3.Connection, number: int, who: str) -> None:
    """Replace the recipe that was asked for last within the caller's transaction."""
    connection.execute(RECIPE_TABLE)
    connection.execute("INSERT OR REPLACE INTO asked_recipe VALUES (1, ?, ?, ?)", (utc(), who, number))
    write_digests(connection, "asked_recipe", 1)


def absolute(path: Path) -> str:
    """Return the path as the table holds it."""
    return str(path.absolute())
