"""Finds what was changed in a journal: rows, their order, its beginning and end, pictures and signatures."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from stfpm_runtime.errors import JournalError
from stfpm_runtime.files import sha256
from stfpm_runtime.line.journal.counts import has_table, wrong_quarters
from stfpm_runtime.line.journal.reader import opened

from .links import CHAINED, SOURCES, Link, digest_of, fields, read_start, row_number, start_of
from .stretch import WHOLE, Range, Stretch

BEFORE = "SELECT seq, hash FROM {} WHERE seq > ? AND seq < ? ORDER BY seq DESC LIMIT 1"
"""The row before a range."""
NAMES = {"verdicts": "verdict", "events": "event", "pictures": "picture record", "digests": "digest", "heads": "head",
         "runs": "run", "debounces": "debounce", "labels": "label", "thresholds": "threshold change",
         "threshold_states": "state of threshold change", "threshold_reasons": "reason of threshold change",
         "model_states": "model state",
         "active_model": "active model", "asked_recipe": "recipe that was asked for"}  # fmt: skip
"""What a row of each table and source is called."""


class Key(Protocol):
    """A public key."""

    def has_signed(self, text: str, signature: str) -> bool:
        """Return whether its owner has made the signature."""


def read_keys(paths: Sequence[Path]) -> list[Key]:
    """Read public keys. Raises StfpmError, also where the extra `signing` is missing."""
    if not paths:
        return []
    from .signing import read_public_key

    return [read_public_key(path) for path in paths]


@dataclasses.dataclass
class Verification:
    """A check of one journal. Its attributes are complete when `findings` has ended."""

    journal: Path
    keys: Sequence[Key] = ()
    """The signature of each head must be of one of them; without any, signatures are not looked at."""
    anchors: Iterable[str] = ()
    """Lines of JSON that were kept elsewhere: verdicts as outputs send them, or what `head` was."""
    pictures: Path | None = None
    """The folder of the pictures; None: the files are not looked at."""
    stretch: Stretch | None = None
    """The verdicts and events that are verified, with all labels and other digests; None: everything."""
    rows: int = 0
    """Rows that were read."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What is not covered, in sentences."""
    head: str = ""
    """The newest link of each table as JSON: an anchor, if it is kept elsewhere."""
    _ranges: dict[str, Range] = dataclasses.field(default_factory=dict)

    def findings(self) -> Iterator[str]:
        """Yield each thing that is wrong in one line. Raises JournalError for a journal that cannot be read as one."""
        with opened(self.journal) as connection:
            connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
            connection.execute("BEGIN")  # one state of the journal, also while a line writes it
            if not has_table(connection, "chain_start"):
                remedy = "an earlier version wrote it; the chain begins when a line of this version opens it"
                raise JournalError(f"{self.journal}: has no chain; {remedy}")
            yield from self.findings_of(connection)

    def findings_of(self, connection: sqlite3.Connection) -> Iterator[str]:
        """Yield each thing that is wrong, read by a connection whose transaction has begun; there is a chain."""
        body, text, signature = read_start(connection)
        row = connection.execute("SELECT id FROM meta").fetchone()
        journal = str(row[0]) if row else ""
        if not body or body.get("journal") != journal:
            yield "the start of the chain, or the journal's id, was changed or removed"
        if self.keys and not self._is_signed(text, signature):
            yield "the start of the chain is not signed with this key"
        links: dict[str, Link] = {}
        self._ranges = self.stretch.ranges(connection) if self.stretch else {}
        is_whole = not self.stretch
        for table in CHAINED:
            for finding in self._chain(connection, table, body, links):
                is_whole = is_whole and table != "verdicts"
                yield finding
        yield from self._sources(connection)
        if is_whole and (wrong := wrong_quarters(connection)):  # otherwise they differ because of that
            yield f"the counts of {wrong} quarter hours are not those of the verdicts"
        yield from self._heads(connection, body, links)
        yield from self._anchors(connection, body, journal)
        if self.pictures:
            yield from self._files(connection, self.pictures)
        heads = {table: [seq, digest.hex()] for table, (seq, digest) in links.items()}
        self.head = json.dumps({"journal": journal, "heads": heads})

    def _chain(
        self, connection: sqlite3.Connection, table: str, body: dict[str, Any], links: dict[str, Link]
    ) -> Iterator[str]:
        """Yield what is wrong with the rows of a chained table, and set its newest link."""
        name, (last, before), sha = NAMES[table], start_of(body, table), hashlib.sha256
        uncovered = body["uncovered"].get(table, 0) if body else 0
        low, high = self._ranges.get(table, WHOLE)
        if low > last + 1 and (row := connection.execute(BEFORE.format(table), (last, low)).fetchone()):
            last, before = row
        old = f"SELECT 1 FROM {table} WHERE seq BETWEEN ? AND ?"
        if uncovered and connection.execute(old, (low, uncovered)).fetchone():
            self.notes.append(f"{table} up to {uncovered} are of an earlier version and not covered")
        listed = fields(connection, table)
        pack = struct.Struct(f">{listed.count('ifnull(')}d").pack
        for (seq,) in connection.execute(f"SELECT seq FROM {table} WHERE seq <= 0"):
            yield f"{name} {seq} was inserted before the start of the chain"
        count = 0
        select = f"SELECT seq, hash, {listed} FROM {table} WHERE seq <= {high} AND"
        for row in _rows(connection, select, table, max(uncovered, low - 1)):
            seq, found = row[0], row[1]
            count += 1
            if seq != last + 1:
                if seq <= last:
                    yield f"{name} {seq} was inserted before the start of the chain"
                    continue
                yield _missing(name, last + 1, seq - 1)
            last = seq
            try:
                if sha(before + pack(*row[3:]) + row[2]).digest() == found:
                    before = found
                    continue
            except (struct.error, TypeError, IndexError):  # a value of another type
                pass
            if isinstance(found, bytes) and found:
                yield f"{name} {seq} was changed, or does not follow from the one before it"
                before = found
            else:
                yield f"{name} {seq} has no hash: another program has written or changed it"
        self.rows += count
        given = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        number = int(given[0]) if given else 0
        is_end = not connection.execute(f"SELECT 1 FROM {table} WHERE seq > ?", (high,)).fetchone()
        if is_end and number > last:
            yield f"{_missing(name, last + 1, number)}, of the end"
        elif is_end and number < last:
            yield f"the last number of {table} was changed"
        links[table] = last, before

    def _sources(self, connection: sqlite3.Connection) -> Iterator[str]:
        """Yield what is wrong with the rows of which `digests` keeps the SHA-256."""
        known: dict[tuple[str, str], str] = {}
        for source, key, digest in connection.execute("SELECT source, key, sha256 FROM digests ORDER BY seq"):
            known[source, key] = digest
        for source, (table, key_sql, _) in SOURCES.items():
            if not has_table(connection, table):
                continue
            for (key,) in connection.execute(f"SELECT {key_sql} FROM {table}").fetchall():
                self.rows += 1
                expected = known.pop((source, str(key)), None)
                try:
                    found = digest_of(connection, source, key)
                except (ValueError, struct.error):  # a value of another type
                    found = ""
                if expected is None:
                    yield f"{NAMES[source]} {key} was inserted: it has no digest"
                elif found != expected:
                    yield f"{NAMES[source]} {key} was changed"
        for source, key in known:
            yield f"{NAMES.get(source, source)} {key} is missing"

    def _heads(self, connection: sqlite3.Connection, body: dict[str, Any], links: dict[str, Link]) -> Iterator[str]:
        """Yield where heads contradict the rows, and which are not signed: a line for each table and stretch."""
        wrong: set[str] = set()
        unsigned: list[tuple[int, str]] = []
        signed = 0, "", ""
        sql = "SELECT seq, time, body, signature FROM heads WHERE seq BETWEEN ? AND ? ORDER BY seq"
        for seq, moment, text, signature in connection.execute(sql, self._ranges.get("heads", WHOLE)):
            for table, problem in _contradictions(connection, text, body):
                if table not in wrong:
                    wrong.add(table)
                    yield f"head {seq} of {moment}: {problem}"
            if self._is_signed(text, signature):
                yield from _unsigned(unsigned)
                unsigned, signed = [], (seq, moment, text)
            elif self.keys:
                unsigned = [*unsigned[:1], (seq, moment)]
        yield from _unsigned(unsigned)
        seq, moment, text = signed
        if not self.keys:
            self.notes.append("signatures were not verified: a person who computed the chain again is not found")
        elif not seq:
            yield "no head is signed with this key"
        else:
            heads = json.loads(text)["heads"]
            newest = {table: links[table][0] for table in CHAINED[:-1]}
            if self.stretch:
                newest = {"verdicts": self.stretch.verdicts[1], "events": (self.stretch.events or (0, 0))[1]}
            newer = sum(max(0, number - heads[table][0]) for table, number in newest.items())
            self.notes.append(f"signed up to head {seq} of {moment}; {newer} newer rows are not")

    def _anchors(self, connection: sqlite3.Connection, body: dict[str, Any], journal: str) -> Iterator[str]:
        """Yield which lines that were kept elsewhere contradict the journal."""
        count = 0
        for number, line in enumerate(self.anchors, 1):
            try:
                anchor = json.loads(line)
                if "heads" not in anchor:  # a verdict; one of an earlier version has no hash
                    anchor["heads"] = {"verdicts": [anchor["seq"], anchor["hash"]]} if anchor["hash"] else {}
                is_other = anchor["journal"] != journal
            except (ValueError, KeyError, TypeError):
                yield f"anchor {number}: is neither a verdict with its hash nor a head"
                continue
            if is_other:
                continue
            count += 1
            for _, problem in _contradictions(connection, json.dumps(anchor), body):
                yield f"anchor {number}: {problem}"
        if self.anchors:
            self.notes.append(f"{count} anchors of this journal were compared")

    def _files(self, connection: sqlite3.Connection, folder: Path) -> Iterator[str]:
        """Yield which pictures were changed or removed, except those that the line itself has deleted for space."""
        deleted: set[str] = set()
        recorded: set[str] = set()
        for row in connection.execute("SELECT name, verdict, sha256 FROM pictures ORDER BY seq DESC"):
            name, verdict, digest = map(str, row)
            if not digest:
                deleted.add(name)
            elif name not in deleted:
                recorded.add(name)
                try:
                    if sha256(folder / name) != digest:
                        yield f"picture {name} of verdict {verdict} was changed"
                except (OSError, ValueError) as error:  # ValueError: no name of a file
                    yield f"picture {name} of verdict {verdict} is missing or cannot be read ({error})"
        known, sql = recorded | deleted, "SELECT picture FROM verdicts WHERE picture != '' UNION ALL SELECT overlay "
        sql += "FROM verdicts WHERE overlay != ''"
        if unknown := [str(name) for (name,) in connection.execute(sql) if str(name) not in known]:
            self.notes.append(f"{len(unknown)} pictures have no SHA-256, as they were not written: {unknown[0]} ...")

    def _is_signed(self, text: str, signature: str) -> bool:
        return any(key.has_signed(str(text), str(signature)) for key in self.keys)


def _rows(connection: sqlite3.Connection, select: str, table: str, after: int) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table behind a number; of one that cannot be read as ours only its number, without a hash."""
    while True:
        try:
            for row in connection.execute(f"{select} seq > ? ORDER BY seq", (after,)):
                yield row
                after = row[0]
            return
        except sqlite3.OperationalError:  # for example a BLOB, which JSON does not hold
            (after,) = connection.execute(f"SELECT min(seq) FROM {table} WHERE seq > ?", (after,)).fetchone()
            if after is None:
                raise
            yield after, None


def _contradictions(connection: sqlite3.Connection, text: str, body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each table whose rows contradict a head, and how. What retention has deleted since contradicts nothing."""
    try:
        heads = [
            (table, row_number(seq), bytes.fromhex(digest))
            for table, (seq, digest) in json.loads(text)["heads"].items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        yield "", "makes no sense"
        return
    for table, seq, digest in heads:
        if table not in CHAINED or seq < start_of(body, table)[0]:
            continue
        row = connection.execute(f"SELECT hash FROM {table} WHERE seq = ?", (seq,)).fetchone()
        if seq == start_of(body, table)[0]:
            row = (start_of(body, table)[1],)
        if row is None:
            yield table, f"{NAMES[table]} {seq} was there and is missing"
        elif row[0] != digest:
            yield table, f"{NAMES[table]} {seq} was another one: it or rows before it were changed and hashed again"


def _missing(name: str, first: int, last: int) -> str:
    return f"{name} {first} is missing" if first == last else f"{name}s {first} to {last} are missing"


def _unsigned(stretch: Sequence[tuple[int, str]]) -> Iterator[str]:
    """Yield in one line which heads are not signed; nothing where there are none."""
    if stretch:
        (first, since), (last, until) = stretch[0], stretch[-1]
        yield f"heads {first} to {last} ({since} to {until}) are not signed with this key"
