"""What is deleted from the beginning of the chained tables, and the signed start from which the chain goes on."""

from __future__ import annotations

import heapq
import itertools
import sqlite3
from operator import itemgetter

from .links import CHAINED, Signer, read_start, start_of, write_start

OLDEST = "SELECT seq, time FROM {} ORDER BY seq LIMIT ?"


def aged_rows(connection: sqlite3.Connection, before: str, now: str, limit: int) -> dict[str, int]:
    """Return the first number that is kept of verdicts and events, of which those older than `before` are deleted.

    At most `limit` of each. They are deleted in the order of their numbers, up to one that is not that old. A row with
    a time later than `now`, the time of a wrong clock, is deleted with older ones that come after it.
    """
    first: dict[str, int] = {}
    for table in ("events", "verdicts"):
        for seq, moment in connection.execute(OLDEST.format(table), (limit,)):
            if moment < before:
                first[table] = seq + 1
            elif moment <= now:
                break
    return first


def oldest_rows(connection: sqlite3.Connection, limit: int) -> dict[str, int]:
    """Return the first number that is kept of verdicts and events where the `limit` oldest of them are deleted."""
    tables = (
        [(moment, table, seq + 1) for seq, moment in connection.execute(OLDEST.format(table), (limit,))]
        for table in ("events", "verdicts")
    )
    oldest = itertools.islice(heapq.merge(*tables, key=itemgetter(0)), limit)
    return {table: kept for _, table, kept in oldest}


def prune(connection: sqlite3.Connection, first: dict[str, int], signer: Signer | None) -> int:
    """Delete the rows of each table before that number, and let the chain start with the rest.

    Returns how many verdicts and events were deleted. What the chain keeps of pictures and heads goes with them. Within
    the caller's transaction. A start that does not fit to the rows, or that this key has not signed, stays as it is:
    rows that somebody else has deleted are then still found to be missing.
    """
    if not first:
        return 0
    if "verdicts" in first:
        first |= {table: _first_after(connection, table, first["verdicts"]) for table in ("pictures", "heads")}
    body, text, signature = read_start(connection)
    start = {table: start_of(body, table) for table in CHAINED}
    deleted = {}
    for table, kept in first.items():
        chained = f"FROM {table} WHERE seq > ? AND seq < ? AND typeof(hash) = 'blob'"
        sql = f"SELECT min(seq), max(seq), count(*) {chained}"
        low, high, count = connection.execute(sql, (start[table][0], kept)).fetchone()
        if low == start[table][0] + 1 and high == start[table][0] + count:
            start[table] = connection.execute(f"SELECT seq, hash FROM {table} WHERE seq = ?", (high,)).fetchone()
        deleted[table] = connection.execute(f"DELETE FROM {table} WHERE seq < ?", (kept,)).rowcount
    if body and (signer is None or signer.has_signed(text, signature)):
        write_start(connection, body, start, signer)
    return deleted.get("verdicts", 0) + deleted.get("events", 0)


def _first_after(connection: sqlite3.Connection, table: str, verdict: int) -> int:
    """Return the number of the first row that belongs to this verdict or a later one; else of the newest, which stays.

    So there is always a head.
    """
    sql = f"SELECT seq FROM {table} WHERE verdict >= ? ORDER BY seq LIMIT 1"
    row = connection.execute(sql, (verdict,)).fetchone()
    row = row or connection.execute(f"SELECT coalesce(max(seq), 1) FROM {table}").fetchone()
    return int(row[0])
