"""The hashes of rows: what is hashed, how a row follows from the one before it, and the signed heads.

A row of a chained table has in its column `hash` the SHA-256 of three things: the hash of the row before it, its values
in columns of type REAL as 64-bit floats in network byte order, and a JSON array of its other values, see `fields`.
Other tables have rows that may change or are not numbered: of each such row the table `digests`, which is chained,
keeps the SHA-256. What a row holds is read back from SQLite before it is hashed, within the transaction that wrote it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import struct
from collections.abc import Sequence
from typing import Any, Protocol

from stfpm_runtime.line.journal.rows import utc

CHAINED = ("verdicts", "events", "pictures", "digests", "heads")
"""Tables with a column `hash`, whose rows are only ever added, and deleted from their beginning."""
SOURCES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "runs": ("runs", "run", ()),
    "debounces": ("debounces", "run || ' ' || camera", ()),
    "labels": ("labels", "seq", ()),
    "thresholds": ("thresholds", "seq", ("state",)),
    "threshold_states": ("thresholds", "seq",
        ("time", "who", "camera", "region", "threshold", "old", "configured", "model")),
    "threshold_reasons": ("threshold_reasons", "seq", ()),
    "model_states": ("model_states", "seq", ()),
    "active_model": ("active_model", "id", ()),
    "asked_recipe": ("asked_recipe", "id", ()),
}  # fmt: skip
"""What `digests` covers: the table, its key in SQL, and columns that are left out.

The state of a threshold change is a source of its own: where the line ends a change that somebody has tampered with,
the digest of the other columns stays as it was.
"""
TABLES = (
    """CREATE TABLE IF NOT EXISTS pictures (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, verdict INTEGER NOT NULL, name TEXT NOT NULL,
    sha256 TEXT NOT NULL, hash BLOB
)""",
    """CREATE TABLE IF NOT EXISTS digests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, key TEXT NOT NULL, sha256 TEXT NOT NULL, hash BLOB
)""",
    """CREATE TABLE IF NOT EXISTS heads (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, verdict INTEGER NOT NULL, body TEXT NOT NULL,
    signature TEXT NOT NULL, hash BLOB
)""",
    """CREATE TABLE IF NOT EXISTS chain_start (
    id INTEGER PRIMARY KEY CHECK (id = 1), body TEXT NOT NULL, signature TEXT NOT NULL
)""",
)
INSERT_PICTURE = "INSERT INTO pictures (time, verdict, name, sha256) VALUES (?, ?, ?, ?)"
Link = tuple[int, bytes]
"""The number of a row, and its hash."""
PictureRow = tuple[str, int, str, str]
"""When a picture was written or deleted, the number of its verdict, its name below the folder for pictures, and its
SHA-256; an empty one where the line has deleted it for space."""


class Signer(Protocol):
    """Signs heads with a key that is kept outside the journal."""

    key: str
    """The beginning of the SHA-256 of its public key, in hexadecimal."""

    def sign(self, text: str) -> str:
        """Return the signature in hexadecimal."""

    def has_signed(self, text: str, signature: str) -> bool:
        """Return whether this key has made the signature."""


def begin(connection: sqlite3.Connection, journal: str, signer: Signer | None) -> None:
    """Create what the chain needs in a journal that has none yet, within the caller's transaction.

    The verdicts and events of a journal that an earlier version wrote stay outside the chain; its other rows do not.
    """
    for table in TABLES:
        connection.execute(table)
    if connection.execute("SELECT 1 FROM chain_start").fetchone():
        return
    start: dict[str, Link] = {}
    for table in CHAINED:
        if table in ("verdicts", "events") and "hash" not in _columns(connection, table):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN hash BLOB")
        start[table] = _last_number(connection, table), hashlib.sha256(f"{journal} {table}".encode()).digest()
    uncovered = {table: seq for table, (seq, _) in start.items() if seq}
    write_start(connection, {"journal": journal, "uncovered": uncovered}, start, signer)
    for source, (table, key, _) in SOURCES.items():
        if _columns(connection, table):
            for row in connection.execute(f"SELECT {key} FROM {table}").fetchall():
                with contextlib.suppress(ValueError, struct.error):  # another program wrote it; it stays outside
                    write_digests(connection, source, row[0])


def fields(connection: sqlite3.Connection, table: str, without: Sequence[str] = ()) -> str:
    """Return the SELECT list that gives what is hashed of a row: a JSON array as bytes, and the REAL columns.

    The array holds the other columns in the order of the table, then for each REAL column whether it is NULL.
    """
    columns = {name: kind for name, kind in _columns(connection, table).items() if name not in ("hash", *without)}
    reals = [name for name, kind in columns.items() if kind == "REAL"]
    others = [name for name, kind in columns.items() if kind != "REAL"]
    array = f"CAST(json_array({', '.join([*others, *(f'{name} IS NULL' for name in reals)])}) AS BLOB)"
    return ", ".join([array, *(f"ifnull({name}, 9e999)" for name in reals)])


def hash_of(before: bytes, row: Sequence[Any] | None) -> bytes:
    """Return the hash of a row, given that of the row before it. Raises struct.error for a REAL that is no number."""
    assert row is not None, "it was written in this transaction"
    array, *reals = row
    return hashlib.sha256(before + struct.pack(f">{len(reals)}d", *reals) + array).digest()


def digest_of(connection: sqlite3.Connection, source: str, key: object) -> str:
    """Return the SHA-256 of a row of a source in hexadecimal; an empty text where there is none.

    Raises ValueError for a row with a BLOB, and struct.error for one with a text where a number belongs.
    """
    table, key_sql, without = SOURCES[source]
    sql = f"SELECT {fields(connection, table, without)} FROM {table} WHERE {key_sql} = ?"
    row = _read(connection, sql, key)
    return hash_of(b"", row).hex() if row else ""


def link(connection: sqlite3.Connection, table: str, first: int, last: int, listed: str = "") -> None:
    """Chain the new rows `first` to `last` of a table to those before, within the transaction that has written them.

    `listed` is the result of `fields`, where the caller has it already. Raises ValueError for a row with a BLOB, and
    struct.error for one with a text where a number belongs.
    """
    _, before = newest_link(connection, table)
    select = f"SELECT {listed or fields(connection, table)} FROM {table} WHERE seq = ?"
    for seq in range(first, last + 1):
        before = hash_of(before, _read(connection, select, seq))
        connection.execute(f"UPDATE {table} SET hash = ? WHERE seq = ?", (before, seq))


def write_digests(connection: sqlite3.Connection, source: str, *keys: object) -> None:
    """Write the digests of rows of a source within the transaction that has written them.

    Does nothing in a journal that an earlier version wrote: it gets its chain when a line opens it.
    """
    if not _columns(connection, "digests"):
        return
    for key in keys:
        values = source, str(key), digest_of(connection, source, key)
        seq = connection.execute("INSERT INTO digests (source, key, sha256) VALUES (?, ?, ?)", values).lastrowid or 0
        link(connection, "digests", seq, seq)


def record_returned(connection: sqlite3.Connection, source: str, sql: str, values: Sequence[object]) -> None:
    """Execute an UPDATE that returns the keys of the rows that it changes, and write their digests."""
    write_digests(connection, source, *(key for (key,) in connection.execute(sql, values).fetchall()))


def newest_link(connection: sqlite3.Connection, table: str) -> Link:
    """Return the newest row of a table that is in the chain; where there is none, the start of the chain."""
    sql = f"SELECT seq, hash FROM {table} WHERE typeof(hash) = 'blob' ORDER BY seq DESC LIMIT 1"
    return connection.execute(sql).fetchone() or start_of(read_start(connection)[0], table)


def write_head(connection: sqlite3.Connection, signer: Signer | None) -> str:
    """Write the newest link of each table as a row of `heads`, signed where there is a key; not if nothing is new.

    Returns in words that the key is not that of the head before, or an empty text. Within the caller's transaction.
    """
    links = {table: newest_link(connection, table) for table in CHAINED}
    heads = {table: [seq, digest.hex()] for table, (seq, digest) in links.items()}
    row = connection.execute("SELECT body FROM heads WHERE seq = ?", (links["heads"][0],)).fetchone()
    try:
        before = json.loads(row[0])
        if all(before["heads"][table] == heads[table] for table in CHAINED[:-1]):
            return ""
    except (ValueError, KeyError, TypeError):  # there is none, or somebody has changed it
        before = {}
    (journal,) = connection.execute("SELECT id FROM meta").fetchone()
    moment, key = utc(), signer.key if signer else ""
    body = json.dumps({"journal": journal, "time": moment, "key": key, "heads": heads})
    values = moment, links["verdicts"][0], body, signer.sign(body) if signer else ""
    sql = "INSERT INTO heads (time, verdict, body, signature) VALUES (?, ?, ?, ?)"
    seq = connection.execute(sql, values).lastrowid or 0
    link(connection, "heads", seq, seq)
    if before.get("key", key) == key:
        return ""
    return (
        f"heads of the chain are signed with key {key or 'none'} from now on; before: {before['key'] or 'none'}; "
        "begin a new journal, whose start is signed with this key too"
    )


def read_start(connection: sqlite3.Connection) -> tuple[dict[str, Any], str, str]:
    """Return where the chain starts: the parsed text, the text and its signature; empty where it makes no sense.

    `journal` is the journal's id, `start` the link of each table that its first row follows from, and `uncovered` the
    number of the last row of each table that an earlier version wrote.
    """
    text, signature = connection.execute("SELECT body, signature FROM chain_start WHERE id = 1").fetchone() or ("", "")
    try:
        body = json.loads(text)
        is_valid = all(start_of(body, table) for table in CHAINED)
        body["uncovered"] = {table: row_number(seq) for table, seq in body["uncovered"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        is_valid = False
    return (body if is_valid else {}), str(text), str(signature)


def start_of(body: dict[str, Any], table: str) -> Link:
    """Return the link that the first row of a table follows from."""
    if not body:
        return 0, b""
    seq, digest = body["start"][table]
    return row_number(seq), bytes.fromhex(digest)


def row_number(value: object) -> int:
    """Return a number of a row as it was read from JSON. Raises ValueError for one that no row can have."""
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"got {value!r:.40}; expected the number of a row")
    return value


def write_start(
    connection: sqlite3.Connection, body: dict[str, Any], start: dict[str, Link], signer: Signer | None
) -> None:
    """Write where the chain starts, signed where there is a key, within the caller's transaction."""
    text = json.dumps({**body, "start": {table: [seq, digest.hex()] for table, (seq, digest) in start.items()}})
    values = text, signer.sign(text) if signer else ""
    connection.execute("INSERT OR REPLACE INTO chain_start (id, body, signature) VALUES (1, ?, ?)", values)


def _read(connection: sqlite3.Connection, sql: str, key: object) -> tuple[Any, ...] | None:
    """Return a row as `fields` lists it; None where there is none. Raises ValueError for a row with a BLOB."""
    try:
        row: tuple[Any, ...] | None = connection.execute(sql, (key,)).fetchone()
    except sqlite3.OperationalError as error:
        if "BLOB" in str(error):  # JSON holds none
            raise ValueError(f"a row cannot be hashed: {error}") from None
        raise
    return row


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    """Return the types of a table's columns by their names; none where there is no such table."""
    return {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({table})")}


def _last_number(connection: sqlite3.Connection, table: str) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return int(row[0]) if row else 0
