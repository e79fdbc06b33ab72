"""What the journal says about an interval, read in one transaction and from the rows that the chain protects."""

from __future__ import annotations

import dataclasses
import itertools
import sqlite3
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stfpm_runtime.errors import JournalError, OptionError
from stfpm_runtime.line.journal.chain.links import read_start
from stfpm_runtime.line.journal.chain.stretch import Range, Stretch
from stfpm_runtime.line.journal.chain.verify import Key, Verification
from stfpm_runtime.line.journal.counts import SUMS, has_table
from stfpm_runtime.line.journal.history import Count, Filter, History
from stfpm_runtime.line.journal.labels import FIELDS, Label
from stfpm_runtime.line.journal.models.states import FIELDS as STATE_FIELDS
from stfpm_runtime.line.journal.models.states import ModelState
from stfpm_runtime.line.journal.reader import check_journals
from stfpm_runtime.line.journal.rows import COLUMNS, EVENT_COLUMNS, MISSED_DEADLINE, WORST_FIRST, EventRow, VerdictRow
from stfpm_runtime.line.journal.threshold_changes import FIELDS as CHANGE_FIELDS
from stfpm_runtime.line.journal.threshold_changes import ThresholdChange
from stfpm_runtime.shifts import Shifts

LISTED = 2000
"""The most rejects, faults, labels, changes and events that a report lists, of each."""
SHADOW = "shadow"
"""The kind of the events that are counted and not listed: one for each disagreement."""
FINDINGS = 20
"""The most findings of the verification that a report lists."""


@dataclass(frozen=True)
class VerdictGroup:
    """The verdicts of one place by one model with one threshold."""

    camera: str
    region: str
    model: str
    """SHA-256 of the model file."""
    threshold: float
    passed: int
    rejected: int
    faults: int
    late: int
    """Faults because a deadline was missed."""
    dropped: int
    """Frames that were passed over."""
    since: str
    """The time of the first of them."""
    until: str
    """The time of the last of them."""

    @property
    def count(self) -> Count:
        """Return the numbers of verdicts."""
        return Count((self.camera, self.region), self.passed, self.rejected, self.faults)


@dataclass(frozen=True)
class VerificationResult:
    """What the verification of the interval's rows found."""

    has_chain: bool
    findings: Sequence[str] = ()
    """The first ones."""
    count: int = 0
    notes: Sequence[str] = ()
    uncovered: int = 0
    """The number of the interval's last verdict that an earlier version wrote, without a hash; 0: there is none."""
    is_signed: bool = False
    """True where the newest head (the signed end of the chain) that belongs to the interval has a signature."""


class BatchReader(History):
    """Reads one interval of a journal. Its methods raise JournalError.

    The counts are those of the verdicts themselves: the table of counts is in no chain.
    """

    def __init__(self, path: Path, asked: Filter, shifts: Shifts | None = None) -> None:
        """Open the journal. Raises OptionError where there is no verdict in the interval, or no such camera."""
        super().__init__(path, shifts)
        self._has_counts, self.begins = False, self._shifts.begins
        self._connection.text_factory = _decode
        self._connection.execute("BEGIN")  # one state of the journal, also while a line writes it
        self.asked = dataclasses.replace(asked, decision="")
        self.during = Filter(asked.since, asked.until, shift=asked.shift)
        """The interval, without the other filters."""
        sql = "SELECT min(seq), max(seq), min(time), max(time) FROM verdicts "
        try:
            check_journals([self], asked.camera)
            where, values = self._where(self.asked)
            first, last, self.since, self.until = next(self._rows(sql + where, values))
            if first is None:
                *_, since, until = next(self._rows(sql, []))
                known = f"the journal has those from {since} to {until}" if since else "the journal has none"
                raise OptionError(f"{path}: no verdict is of this interval and these filters; {known}")
        except BaseException:
            self.close()
            raise
        self.numbers: Range = (first, last)
        """The numbers of the first and the last verdict."""
        where, values = Filter(asked.since, asked.until).where()
        self._interval: Range = next(self._rows(f"SELECT min(seq), max(seq) FROM verdicts {where}", values))

    def verdict_groups(self) -> list[VerdictGroup]:
        """Return the counts by place, model and threshold, in the order of places and first verdicts."""
        where, values = self._where(self.asked)
        late = "sum(decision = 'fault' AND instr(reason, ?)), sum(dropped), min(time), max(time)"
        sql = f"SELECT camera, region, model, threshold, {SUMS}, {late} FROM verdicts {where} GROUP BY 1, 2, 3, 4"
        return [VerdictGroup(*row) for row in self._rows(f"{sql} ORDER BY 1, 2, min(seq)", [MISSED_DEADLINE, *values])]

    def count_parts(self) -> Count:
        """Return how many parts with an id have passed, been rejected and not judged, by all their verdicts."""
        where, values = self._where(self.asked, "part != ''")
        worst = " ".join(f"WHEN '{decision}' THEN {rank}" for rank, decision in enumerate(WORST_FIRST))
        ranks = f"SELECT min(CASE decision {worst} END) AS rank FROM verdicts {where} GROUP BY part"
        found: dict[int, int] = dict(self._rows(f"SELECT rank, count(*) FROM ({ranks}) GROUP BY 1", values))
        rejected, faults, passed = (found.get(WORST_FIRST.index(one), 0) for one in ("reject", "fault", "pass"))
        return Count(("parts",), passed, rejected, faults)

    def first_verdicts(self, decision: str) -> list[VerdictRow]:
        """Return the first verdicts of a kind."""
        return list(itertools.islice(self.rows(dataclasses.replace(self.asked, decision=decision)), LISTED))

    def labelled(self) -> list[tuple[VerdictRow, Label]]:
        """Return the labelled verdicts with their newest labels, by number."""
        if not self._has_labels:
            return []
        where, values = self._where(self.asked, "seq IN (SELECT verdict FROM labels)")
        columns = ", ".join([*(f"v.{name}" for name in COLUMNS), *(f"label.{name}" for name in FIELDS)])
        newest = "(SELECT max(seq) FROM labels WHERE verdict = v.seq)"
        joined = f"(SELECT * FROM verdicts {where}) AS v JOIN labels AS label ON label.seq = {newest}"
        rows = self._rows(f"SELECT {columns} FROM {joined} ORDER BY v.seq", values)
        return [(VerdictRow(*row[: len(COLUMNS)]), Label(*row[len(COLUMNS) :])) for row in rows]

    def changes(self, period: Filter) -> list[ThresholdChange]:
        """Return the changes of thresholds in a period that the line has put in force, at the places asked for."""
        if not has_table(self._connection, "thresholds"):
            return []
        where, values = period.where("model != ''")
        rows = self._rows(f"SELECT {', '.join(CHANGE_FIELDS)} FROM thresholds {where} ORDER BY seq", values)
        camera, region = self.asked.camera, self.asked.region
        changes = [ThresholdChange(*row) for row in rows]
        return [one for one in changes if camera in ("", one.camera) and region in ("", one.region)]

    def states(self, period: Filter) -> list[ModelState]:
        """Return the states that models got in a period, the oldest first."""
        if not has_table(self._connection, "model_states"):
            return []
        where, values = period.where()
        sql = f"SELECT {', '.join(STATE_FIELDS)} FROM model_states {where} ORDER BY seq"
        return [ModelState(*row) for row in self._rows(sql, values)]

    def event_counts(self) -> dict[str, int]:
        """Return how many events of each kind there are: those of the camera, if one is asked for, and of the line."""
        where, values = self._where_events()
        return dict(self._rows(f"SELECT kind, count(*) FROM events {where} GROUP BY 1", values))

    def first_events(self) -> list[EventRow]:
        """Return the first events, without those of the shadow."""
        where, values = self._where_events(f"kind != '{SHADOW}'")
        sql = f"SELECT {', '.join(EVENT_COLUMNS)} FROM events {where} ORDER BY seq LIMIT {LISTED}"
        return [EventRow(*row) for row in self._rows(sql, values)]

    def _where_events(self, *also: str) -> tuple[str, list[str]]:
        camera = [self.asked.camera] if self.asked.camera else []
        where, values = self.during.where(*also, *(["camera IN ('', ?)"] if camera else []))
        return where, [*values, *camera]

    def picture_digests(self, names: Container[str]) -> dict[str, str]:
        """Return the SHA-256 of pictures by their names; an empty one where the line has deleted the picture."""
        if not has_table(self._connection, "pictures"):
            return {}
        sql = "SELECT name, sha256 FROM pictures WHERE verdict BETWEEN ? AND ? ORDER BY seq"
        return {name: digest for name, digest in self._rows(sql, self.numbers) if name in names}

    def oldest(self) -> tuple[int, str]:
        """Return the number and the time of the journal's oldest verdict."""
        return next(self._rows("SELECT seq, time FROM verdicts ORDER BY seq LIMIT 1", []))

    def check(self, keys: Sequence[Key]) -> VerificationResult:
        """Verify the chain of the interval's verdicts and events, and all labels, changes and states of models.

        Verdicts that the other filters leave out are verified too: one that was taken out of the report by a change of
        its part or its camera, or deleted, is not among those that the report counts.
        """
        if not has_table(self._connection, "chain_start"):
            return VerificationResult(False)
        where, values = Filter(self.asked.since, self.asked.until).where()
        first, last = next(self._rows(f"SELECT min(seq), max(seq) FROM events {where}", values))
        stretch = Stretch(self._interval, None if first is None else (first, last))
        verification = Verification(self.path, keys, stretch=stretch)
        findings, count = [], 0
        try:
            for finding in verification.findings_of(self._connection):
                count += 1
                findings += [finding] if count <= FINDINGS else []
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: cannot be read as a journal ({error})") from None
        uncovered = int(read_start(self._connection)[0].get("uncovered", {}).get("verdicts", 0))
        sql = "SELECT signature FROM heads WHERE seq BETWEEN ? AND ? ORDER BY seq DESC LIMIT 1"
        (signature,) = next(self._rows(sql, stretch.ranges(self._connection)["heads"]), ("",))
        uncovered = uncovered if uncovered >= self._interval[0] else 0
        return VerificationResult(True, findings, count, verification.notes, uncovered, bool(signature))

    def _rows(self, sql: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Yield rows, also where another program wrote bytes that belong to no text."""
        for row in super()._rows(sql, values):
            yield tuple(_decode(value) if isinstance(value, bytes) else value for value in row)


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
