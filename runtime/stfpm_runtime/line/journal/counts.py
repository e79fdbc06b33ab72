"""Tables that answer questions about millions of verdicts, and that triggers keep up to date with every verdict.

`verdict_counts` has a row for each quarter hour, place and model: the counts, and the first and the last number among
its verdicts. The index `verdicts_rejects` holds where in the picture rejects lie.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict

from stfpm_runtime.shifts import QUARTER_S

PEAK = ("peak_x", "peak_y")
QUARTER = f"coalesce(CAST(strftime('%s', {{}}time) AS INTEGER) / {QUARTER_S}, 0)"
"""The quarter hour since 1970 of a verdict's time in SQL; the table's name with a point goes into the braces."""
DECISIONS = ("pass", "reject", "fault")
SUMS = ", ".join(f"sum(decision = '{decision}')" for decision in DECISIONS)
NEW = "NEW.decision = 'pass', NEW.decision = 'reject', NEW.decision = 'fault', NEW.seq, NEW.seq"
OLD = f"quarter = {QUARTER.format('OLD.')} AND camera = OLD.camera AND region = OLD.region AND model = OLD.model"
COUNTED = f"""SELECT CAST(json_array(
    substr(time, 1, 13), substr(time, 15, 2) * 60 / {QUARTER_S}, camera, region, model, decision) AS BLOB)
    FROM verdicts"""
"""The hour, the quarter of it, and what else is counted of each verdict: one value is quicker to read than six."""
FIRST_QUARTER = f"SELECT CAST(strftime('%s', ? || ':00') AS INTEGER) / {QUARTER_S}"
KEPT = "SELECT quarter, camera, region, model, passed, rejected, faults FROM verdict_counts"
TABLE = f"""
BEGIN IMMEDIATE;
CREATE TABLE verdict_counts (
    quarter INTEGER NOT NULL, camera TEXT NOT NULL, region TEXT NOT NULL, model TEXT NOT NULL,
    passed INTEGER NOT NULL, rejected INTEGER NOT NULL, faults INTEGER NOT NULL,
    first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, PRIMARY KEY (quarter, camera, region, model)
) WITHOUT ROWID;
CREATE TRIGGER verdict_counted AFTER INSERT ON verdicts BEGIN
    INSERT INTO verdict_counts VALUES ({QUARTER.format("NEW.")}, NEW.camera, NEW.region, NEW.model, {NEW})
    ON CONFLICT DO UPDATE SET passed = passed + excluded.passed, rejected = rejected + excluded.rejected,
        faults = faults + excluded.faults, first_seq = min(first_seq, excluded.first_seq),
        last_seq = max(last_seq, excluded.last_seq);
END;
CREATE TRIGGER verdict_deleted AFTER DELETE ON verdicts BEGIN
    UPDATE verdict_counts SET passed = passed - (OLD.decision = 'pass'),
        rejected = rejected - (OLD.decision = 'reject'), faults = faults - (OLD.decision = 'fault') WHERE {OLD};
    DELETE FROM verdict_counts WHERE {OLD} AND passed + rejected + faults = 0;
END;
INSERT INTO verdict_counts SELECT {QUARTER.format("")}, camera, region, model, {SUMS}, min(seq), max(seq)
    FROM verdicts GROUP BY 1, 2, 3, 4;
COMMIT;
"""
REJECTS = (
    "CREATE INDEX IF NOT EXISTS verdicts_rejects ON verdicts (time, camera, region, model, peak_x, peak_y) "
    "WHERE decision = 'reject'"
)


def prepare(connection: sqlite3.Connection) -> None:
    """Add what a journal of an earlier version lacks: the columns for the peak, the counts, and the index."""
    known = {name for _, name, *_ in connection.execute("PRAGMA table_info(verdicts)")}
    for name in PEAK:
        if name not in known:
            connection.execute(f"ALTER TABLE verdicts ADD COLUMN {name} REAL")
    if not has_table(connection, "verdict_counts"):
        connection.executescript(TABLE)
    connection.execute(REJECTS)


def wrong_quarters(connection: sqlite3.Connection) -> int:
    """Return the number of quarter hours whose counts are not those of the verdicts; reads all verdicts."""
    if not has_table(connection, "verdict_counts") or _are_as_counted(connection):
        return 0
    counted = f"SELECT {QUARTER.format('')} AS quarter, camera, region, model, {SUMS} FROM verdicts GROUP BY 1, 2, 3, 4"
    differing = " UNION ALL ".join(
        f"SELECT * FROM (SELECT * FROM ({one}) EXCEPT SELECT * FROM ({other}))"
        for one, other in ((KEPT, counted), (counted, KEPT))
    )
    (number,) = connection.execute(f"SELECT count(DISTINCT quarter) FROM ({differing})").fetchone()
    return int(number)


def _are_as_counted(connection: sqlite3.Connection) -> bool:
    """Return whether the counts are those of the verdicts, as far as all their values are such as a line writes.

    It is four times as fast as the comparison in SQL, which sorts all verdicts.
    """
    counted: dict[tuple[object, ...], Counter[str]] = defaultdict(Counter)
    try:
        for (text,), number in Counter(connection.execute(COUNTED)).items():
            hour, part, *place, decision = json.loads(text)
            (first,) = connection.execute(FIRST_QUARTER, (hour,)).fetchone()
            counted[(first + part, *place)][decision] += number
    except (ValueError, TypeError, sqlite3.OperationalError):  # no UTF-8; no time; a BLOB
        return False
    found = {key: tuple(counts[decision] for decision in DECISIONS) for key, counts in counted.items()}
    return {row[:4]: row[4:] for row in connection.execute(KEPT)} == found


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Return whether the journal has a table of this name."""
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone())
