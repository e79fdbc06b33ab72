"""Questions about all verdicts of a journal: counts by time, place and model, pages of verdicts, where rejects lie.

The command `stfpm-journal` and the dashboard's API ask them here. `counts` makes the tables that answer them.
"""

from __future__ import annotations

import dataclasses
import math
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from stfpm_runtime.errors import JournalError
from stfpm_runtime.shifts import QUARTER_S, Shifts

from .counts import QUARTER, has_table
from .reader import JournalReader, Period
from .rows import COLUMNS, VerdictRow, seconds_of, utc

Per = Literal["hour", "day", "shift", "region", "model"]
KEYS: dict[Per, tuple[str, ...]] = {
    "hour": ("hour",),
    "day": ("day",),
    "shift": ("day", "shift"),
    "region": ("camera", "region"),
    "model": ("model",),
}
"""What verdicts can be counted by, and the names of each key's parts. An hour is its beginning in UTC, a day is that of
the machine's local time."""
GRID = 16
"""Cells of a heat map along each side of the region."""
HEAT_MAPS = 6
"""The most regions whose heat maps are returned: those with the most rejects."""
PROGRESS_STEPS = 50_000
"""Steps of SQLite's machine between two looks at the time: about a millisecond."""


@dataclass(frozen=True)
class Filter(Period):
    """Which verdicts are asked for; an empty text asks for all."""

    region: str = ""
    decision: str = ""
    """It limits verdicts that are listed, and no counts."""
    model: str = ""
    """The beginning of the model's SHA-256."""
    label: str = ""
    """The newest label of the part."""
    shift: str = ""
    """The name of a shift; `History` alone knows them."""
    part_prefix: str = ""
    """The beginning of the part's id."""

    @property
    def needs_rows(self) -> bool:
        """Return whether the verdicts themselves must be counted: the table of counts knows no parts and labels."""
        return bool(self.part or self.part_prefix or self.label)

    def bounds(self) -> list[tuple[str, str]]:
        """Return each condition as SQL with its parameter."""
        newest = "SELECT max(seq) FROM labels GROUP BY verdict"
        label = f"seq IN (SELECT verdict FROM labels WHERE label = ? AND seq IN ({newest}))"
        return [*super().bounds(), *self.kinds(QUARTER.format("")), ("decision = ?", self.decision),
                ("part != '' AND instr(part, ?) = 1", self.part_prefix), (label, self.label)]  # fmt: skip

    def kinds(self, quarter: str) -> list[tuple[str, str]]:
        """Return the conditions that hold for counts too, with the quarter hour in SQL."""
        return [("region = ?", self.region), ("model LIKE ? || '%'", self.model),
                (f"shift_of({quarter}) = ?", self.shift)]  # fmt: skip


@dataclass(frozen=True)
class Count:
    """The numbers of verdicts of a region of a camera, of an hour, a day, a shift or a model."""

    key: tuple[str, ...]
    """Its parts are named in `KEYS`."""
    passed: int
    rejected: int
    faults: int

    @property
    def total(self) -> int:
        """Return the number of all verdicts."""
        return self.passed + self.rejected + self.faults

    @property
    def yield_rate(self) -> float | None:
        """Return the share of all verdicts that passed, 0 to 1; None without verdicts."""
        return self.passed / self.total if self.total else None

    def plus(self, passed: int, rejected: int, faults: int) -> Count:
        """Return the count with these numbers of verdicts more."""
        return Count(self.key, self.passed + passed, self.rejected + rejected, self.faults + faults)

    def fields(self, per: Per) -> dict[str, Any]:
        """Return the count as JSON has it: the parts of its key, the numbers and the yield."""
        numbers = {name: getattr(self, name) for name in ("passed", "rejected", "faults", "total")}
        return {**dict(zip(KEYS[per], self.key, strict=True)), **numbers, "yield": self.yield_rate}


@dataclass(frozen=True)
class HeatMap:
    """Where in a region the anomaly maps of its rejects are highest."""

    camera: str
    region: str
    rejected: int
    unknown: int
    """Rejects of them whose place is not known: an earlier version wrote them."""
    cells: list[tuple[int, int, int]]
    """Column and row, 0 to `GRID` - 1, and the number of rejects of each cell that has any."""


class History(JournalReader):
    """Answers questions about the verdicts of one journal. Its methods raise JournalError."""

    def __init__(self, path: Path, shifts: Shifts | None = None, limit_s: float | None = None) -> None:
        """Open the journal. An answer that is not ready in `limit_s` seconds from now is a JournalError."""
        super().__init__(path)
        self._shifts = shifts or Shifts()
        self._limit_s = limit_s
        self._connection.create_function("shift_of", 1, lambda quarter: self._shifts.of(quarter)[1], deterministic=True)
        try:
            self._has_counts = has_table(self._connection, "verdict_counts")
            self._has_labels = has_table(self._connection, "labels")
        except sqlite3.Error as error:
            self.close()
            raise JournalError(f"{path}: cannot be read as a journal ({error})") from None
        if limit_s is not None:
            until = time.monotonic() + limit_s
            self._connection.set_progress_handler(lambda: time.monotonic() > until, PROGRESS_STEPS)

    def counts(self, asked: Filter, *pers: Per) -> dict[Per, list[Count]]:
        """Return the counts by each of `pers`: times from old to new, regions by name, models by their first use."""
        asked = dataclasses.replace(asked, decision="")
        found: dict[Per, list[Count]] = {}
        quarters: list[tuple[Any, ...]] | None = None
        for per in pers:
            if per == "region":
                rows = self._sums(asked, "camera, region")
                found[per] = [Count((camera, region), *numbers) for camera, region, *numbers in rows]
            elif per == "model":
                rows = self._sums(asked, "substr(model, 1, 12), ''", "min(quarter)")
                found[per] = [Count((model,), *numbers) for model, _, *numbers in rows]
            else:
                quarters = list(self._sums(asked, "quarter, ''")) if quarters is None else quarters
                sums: dict[tuple[str, ...], Count] = {}
                for quarter, _, *numbers in quarters:
                    key = self._key(per, quarter)
                    sums[key] = sums.get(key, Count(key, 0, 0, 0)).plus(*numbers)
                found[per] = list(sums.values())
        return found

    def page(self, asked: Filter, before: int, count: int) -> tuple[list[tuple[VerdictRow, str]], int | None]:
        """Return at most `count` verdicts with numbers below `before`, the newest first, each with its newest label.

        The second value is `before` of the next page; None where there is none.
        """
        label = "''"
        if self._has_labels:
            label = "coalesce((SELECT label FROM labels WHERE verdict = v.seq ORDER BY seq DESC LIMIT 1), '')"
        where, values = self._where(asked, "seq >= ?", "seq < ?")
        sql = f"SELECT {', '.join(COLUMNS)}, {label} FROM verdicts AS v {where} ORDER BY seq DESC LIMIT ?"
        found: list[tuple[Any, ...]] = []
        for first, last in self._ranges(asked, before):
            if first < before:
                top = min(before, last + 1)
                found += self._rows(sql, [*values, first, top, count + 1 - len(found)])
                before = first
            if len(found) > count:
                break
        rows = [(VerdictRow(*row[:-1]), row[-1]) for row in found[:count]]
        return rows, rows[-1][0].seq if len(found) > count else None

    def heat_maps(self, asked: Filter) -> list[HeatMap]:
        """Return where the rejects of each region lie, of the regions with the most rejects."""
        where, values = self._where(dataclasses.replace(asked, decision=""), "decision = 'reject'")
        hint = "INDEXED BY verdicts_rejects" if self._has_counts and not asked.needs_rows else ""
        cells = ", ".join(f"min(CAST({peak} * {GRID} AS INTEGER), {GRID - 1})" for peak in ("peak_x", "peak_y"))
        sql = f"SELECT camera, region, {cells}, count(*) FROM verdicts {hint} {where} GROUP BY 1, 2, 3, 4"
        found: dict[tuple[str, str], list[tuple[int | None, int, int]]] = {}
        for camera, region, column, row, number in self._rows(sql, values):
            found.setdefault((camera, region), []).append((column, row, number))
        maps = [
            HeatMap(*place, sum(number for *_, number in all_cells),
                    sum(number for column, _, number in all_cells if column is None),
                    [(column, row, number) for column, row, number in all_cells if column is not None])
            for place, all_cells in found.items()
        ]  # fmt: skip
        return sorted(maps, key=lambda one: -one.rejected)[:HEAT_MAPS]

    def _where(self, asked: Period, *also: str) -> tuple[str, list[str]]:
        if isinstance(asked, Filter) and asked.label and not self._has_labels:
            asked, also = dataclasses.replace(asked, label=""), (*also, "0")
        return asked.where(*also)

    def _sums(self, asked: Filter, key: str, order: str = "1, 2") -> Iterator[tuple[Any, ...]]:
        """Yield the key's two columns and the numbers of passed, rejected and not judged verdicts, by the key."""
        source, values = self._numbers(asked)
        sql = f"SELECT {key}, sum(passed), sum(rejected), sum(faults) FROM ({source}) GROUP BY 1, 2 ORDER BY {order}"
        return self._rows(sql, values)

    def _numbers(self, asked: Filter) -> tuple[str, list[Any]]:
        """Return SQL that gives numbers of verdicts by quarter hour, place and model, and its parameters.

        They come from the table of counts, and for quarter hours that lie half in the period from the verdicts.
        """
        if not self._has_counts or asked.needs_rows:
            return self._counted(asked)
        begin = math.ceil(seconds_of(asked.since) / QUARTER_S) if asked.since else None
        end = math.floor(seconds_of(asked.until) / QUARTER_S) if asked.until else None
        if begin is not None and end is not None and begin >= end:
            return self._counted(asked)
        where, values = _where_counts(asked, begin, end)
        parts = [
            (f"SELECT quarter, camera, region, model, passed, rejected, faults FROM verdict_counts {where}", values)
        ]
        if begin is not None and (edge := utc(begin * QUARTER_S)) != asked.since:
            parts.append(self._counted(dataclasses.replace(asked, until=edge)))
        if end is not None and (edge := utc(end * QUARTER_S)) != asked.until:
            parts.append(self._counted(dataclasses.replace(asked, since=edge)))
        return " UNION ALL ".join(sql for sql, _ in parts), [value for _, values in parts for value in values]

    def _counted(self, asked: Filter) -> tuple[str, list[Any]]:
        """Return SQL that gives each verdict as a number, and its parameters."""
        where, values = self._where(asked)
        numbers = "decision = 'pass' AS passed, decision = 'reject' AS rejected, decision = 'fault' AS faults"
        return f"SELECT {QUARTER.format('')} AS quarter, camera, region, model, {numbers} FROM verdicts {where}", values

    def _ranges(self, asked: Filter, before: int) -> list[tuple[int, int]]:
        """Return first and last numbers of verdicts between which all that are asked for lie, the highest last first.

        A range is a quarter hour of one place, and holds at least one of them unless part, label or a bound of the
        period exclude it. The wall clock may have jumped: ranges may overlap.
        """
        if not self._has_counts or asked.needs_rows:
            return [(1, before)]
        begin = math.floor(seconds_of(asked.since) / QUARTER_S) if asked.since else None
        end = math.ceil(seconds_of(asked.until) / QUARTER_S) if asked.until else None
        column = {"pass": "passed", "reject": "rejected", "fault": "faults"}.get(asked.decision, "1")
        where, values = _where_counts(asked, begin, end, f"{column} > 0", f"first_seq < {before:d}")
        return list(
            self._rows(f"SELECT first_seq, last_seq FROM verdict_counts {where} ORDER BY last_seq DESC", values)
        )

    def _key(self, per: Per, quarter: int) -> tuple[str, ...]:
        """Return the hour, the day, or day and shift of a quarter hour."""
        if per == "shift":
            return self._shifts.of(quarter)
        local = datetime.fromtimestamp(quarter * QUARTER_S)
        return (local.date().isoformat(),) if per == "day" else (utc(quarter * QUARTER_S - 60 * local.minute),)

    def _rows(self, sql: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        try:
            yield from super()._rows(sql, values)
        except JournalError as error:
            if self._limit_s is None or "(interrupted)" not in str(error):
                raise
            raise JournalError(
                f"{self.path}: the answer takes longer than {self._limit_s:g} s; choose a shorter period"
            ) from None


def count_all(journals: Sequence[History], asked: Filter, per: Per) -> list[Count]:
    """Return the counts of several journals together, in the order of `History.counts`. Raises JournalError."""
    sums: dict[tuple[str, ...], Count] = {}
    for count in (count for journal in journals for count in journal.counts(asked, per)[per]):
        sums[count.key] = sums.get(count.key, Count(count.key, 0, 0, 0)).plus(
            count.passed, count.rejected, count.faults
        )
    return list(sums.values()) if per == "model" else sorted(sums.values(), key=lambda count: count.key)


def _where_counts(asked: Filter, begin: int | None, end: int | None, *also: str) -> tuple[str, list[Any]]:
    """Return the condition for the table of counts, from the quarter hour `begin` and before `end`."""
    bounds: list[tuple[str, Any]] = [("quarter >= ?", begin), ("quarter < ?", end)]
    texts = [("camera = ?", asked.camera), *asked.kinds("quarter")]
    found = [bound for bound in bounds if bound[1] is not None] + [text for text in texts if text[1]]
    conditions = [*(sql for sql, _ in found), *also]
    return f"WHERE {' AND '.join(conditions)}" if conditions else "", [value for _, value in found]
