"""The states of a line's models, as rows in the journal's table `model_states`, and commands for the running line.

candidate -> shadow -> approved -> active -> retired

A row is never changed; a model's newest row is its state. `model_orders` holds what `stfpm-models` asks a running line
to do with a model.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stfpm_runtime.errors import JournalError, OptionError
from stfpm_runtime.line.journal.chain.links import write_digests
from stfpm_runtime.line.journal.reader import opened
from stfpm_runtime.line.journal.rows import check_texts, utc

State = Literal["candidate", "shadow", "approved", "active", "retired", "refused"]
"""candidate: checked, and its ability measured; shadow: judges the line's frames beside the active model; approved: a
person has approved it; active: judges the line's parts; retired: was active, or is considered no more; refused: an
action was refused, and why."""
Action = Literal["check", "shadow", "approve", "activate", "rollback", "retire"]
TABLES = (
    """CREATE TABLE IF NOT EXISTS model_states (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, who TEXT NOT NULL, sha256 TEXT NOT NULL,
    path TEXT NOT NULL, state TEXT NOT NULL, note TEXT NOT NULL, ability TEXT NOT NULL
)""",
    """CREATE TABLE IF NOT EXISTS model_orders (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL,
    file TEXT NOT NULL, override TEXT NOT NULL, taken INTEGER NOT NULL DEFAULT 0, answer TEXT
)""",
)
POLL_S = 0.05
TAKEN_S = 5.0
"""The longest time until a running line takes a command, in seconds."""


@dataclass(frozen=True)
class ModelState:
    """A row of the table."""

    time: str
    who: str
    """The name of who has done it; empty for the configuration."""
    sha256: str
    path: str
    """The absolute path of the file."""
    state: State
    note: str = ""
    """A reason, in words."""
    ability: str = ""
    """JSON of `Ability.to_dict`; empty where it was not measured."""

    @property
    def measured(self) -> dict[str, Any] | None:
        """Return what the model is able to do; None where it was not measured, or the text is no JSON object."""
        try:
            found = json.loads(self.ability) if self.ability else None
        except json.JSONDecodeError:
            return None
        return found if isinstance(found, dict) else None


@dataclass(frozen=True)
class ModelCommand:
    """What a person asks a running line to do with a model."""

    seq: int
    """0 until it is written."""
    time: str
    who: str
    action: Action
    file: str = ""
    """The name of a file in the folder of the active model; empty for a rollback."""
    override: str = ""
    """Why a model that its ability or its state keeps from being used is used all the same; empty: it is not."""
    reason: str = ""
    """Why it is done."""


FIELDS = tuple(field.name for field in dataclasses.fields(ModelState))
INSERT = f"INSERT INTO model_states ({', '.join(FIELDS)}) VALUES ({', '.join('?' * len(FIELDS))})"
COMMAND_FIELDS = tuple(field.name for field in dataclasses.fields(ModelCommand))
INSERT_COMMAND = f"INSERT INTO model_orders ({', '.join(COMMAND_FIELDS[1:])}) VALUES ({', '.join('?' * 6)})"


def insert_states(connection: sqlite3.Connection, states: list[ModelState]) -> None:
    """Write rows within the caller's transaction."""
    for table in TABLES:
        connection.execute(table)
    if "reason" not in {name for _, name, *_ in connection.execute("PRAGMA table_info(model_orders)")}:
        connection.execute("ALTER TABLE model_orders ADD COLUMN reason TEXT NOT NULL DEFAULT ''")
    for state in states:
        write_digests(connection, "model_states", connection.execute(INSERT, dataclasses.astuple(state)).lastrowid)


def write_states(journal: Path, states: list[ModelState]) -> None:
    """Write rows into a journal, whose line may run. Raises JournalError."""
    with opened(journal, writing=True) as connection:
        connection.execute("BEGIN IMMEDIATE")
        insert_states(connection, states)
        connection.execute("COMMIT")


def read_states(journal: Path) -> list[ModelState]:
    """Return all rows, the oldest first. Raises JournalError."""
    with opened(journal) as connection:
        return [
            ModelState(*row) for row in _rows(connection, f"SELECT {', '.join(FIELDS)} FROM model_states ORDER BY seq")
        ]


def newest_by_model(states: list[ModelState]) -> dict[str, ModelState]:
    """Return the newest row of each model by SHA-256, with the ability that was measured last.

    A refusal changes no state that a model has already, and is the state of one that has none.
    """
    found: dict[str, ModelState] = {}
    for row in states:
        before = found.get(row.sha256)
        row = dataclasses.replace(row, ability=row.ability or (before.ability if before else ""))
        is_kept = row.state == "refused" and before is not None and before.state != "refused"
        found[row.sha256] = dataclasses.replace(before, ability=row.ability) if before and is_kept else row
    return found


def newest_shadow(states: list[ModelState]) -> ModelState | None:
    """Return the row that made a model the shadow, which it still is, approved or not; None without a shadow."""
    found: ModelState | None = None
    for row in states:
        if row.state == "shadow":
            found = row
        elif found and row.sha256 == found.sha256 and row.state not in ("approved", "refused"):
            found = None
    return found


def send_command(journal: Path, command: ModelCommand, timeout_s: float) -> str:
    """Write a command for the line of a journal, wait until it is carried out, and return what the line says.

    Raises OptionError where the line refuses it, JournalError where no line takes it within `TAKEN_S`, and it is
    withdrawn, or where the line does not carry it out in time.
    """
    for text in (command.override, command.reason):
        check_texts(command.who, reason=text)
    with opened(journal, writing=True) as connection:
        connection.execute("BEGIN IMMEDIATE")
        insert_states(connection, [])
        number = connection.execute(INSERT_COMMAND, dataclasses.astuple(command)[1:]).lastrowid or 0
        connection.execute("COMMIT")
        withdraw = "DELETE FROM model_orders WHERE seq = ? AND taken = 0"
        try:
            answer = _wait_for_answer(connection, number, timeout_s)
        finally:  # also where the command is interrupted: no later start may carry it out
            was_withdrawn = connection.execute(withdraw, (number,)).rowcount > 0
    if answer is None:
        if was_withdrawn:
            raise JournalError(
                f"{journal}: no running line accepted the command within {TAKEN_S:g} s; nothing was changed"
            )
        raise JournalError(f"{journal}: the line has not carried out the command in {timeout_s:.0f} s; see its events")
    is_done, text = json.loads(answer)
    if not is_done:
        raise OptionError(text)
    return str(text)


def _wait_for_answer(connection: sqlite3.Connection, number: int, timeout_s: float) -> str | None:
    """Return the answer to a command; None where none comes: `TAKEN_S` until it is taken, then `timeout_s`."""
    until_s, is_taken = time.monotonic() + TAKEN_S, False
    while time.monotonic() < until_s:
        time.sleep(POLL_S)
        sql = "SELECT taken, answer FROM model_orders WHERE seq = ?"
        row = connection.execute(sql, (number,)).fetchone()
        if row is None:
            raise JournalError(
                "the line was started again and has withdrawn the command; nothing was changed, give it again"
            )
        taken, answer = row
        if answer is not None:
            return str(answer)
        if taken and not is_taken:
            until_s, is_taken = time.monotonic() + timeout_s, True
    return None


def withdraw_commands(journal: Path) -> None:
    """Withdraw all commands that no line has taken: they are older than the line. Raises JournalError."""
    with opened(journal) as connection:
        found = _rows(connection, "SELECT seq FROM model_orders WHERE taken = 0")
    if found:
        with opened(journal, writing=True) as connection:
            connection.execute("DELETE FROM model_orders WHERE taken = 0")


def pop_command(journal: Path) -> ModelCommand | None:
    """Return the oldest command that nobody has taken, which is taken now; None without one. Raises JournalError."""
    with opened(journal) as connection:
        found = _rows(connection, "SELECT seq FROM model_orders WHERE taken = 0 ORDER BY seq LIMIT 1")
    if not found:
        return None
    with opened(journal, writing=True) as connection:
        sql = f"UPDATE model_orders SET taken = 1 WHERE seq = ? AND taken = 0 RETURNING {', '.join(COMMAND_FIELDS)}"
        row = connection.execute(sql, found[0]).fetchone()
    return ModelCommand(*row) if row else None


def answer_command(journal: Path, number: int, text: str, *, is_done: bool) -> None:
    """Write the answer to a command. Raises JournalError."""
    with opened(journal, writing=True) as connection:
        sql = "UPDATE model_orders SET answer = ? WHERE seq = ?"
        connection.execute(sql, (json.dumps([is_done, text]), number))


def new_command(who: str, action: Action, file: str = "", override: str = "", reason: str = "") -> ModelCommand:
    """Return a command of this moment."""
    return ModelCommand(0, utc(), who, action, file, override, reason)


def _rows(connection: sqlite3.Connection, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows; none where an earlier version wrote the journal and there is no such table."""
    try:
        return connection.execute(sql).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise
