"""What the page History asks of the journal: one question at a time, and each for a few seconds at most."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException

from stfpm_runtime.errors import JournalError, OptionError
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.journal.batch.making import Form, ReportTask, make_apart
from stfpm_runtime.line.journal.batch.report import ReportOptions
from stfpm_runtime.line.journal.history import GRID, Count, Filter, History, Per
from stfpm_runtime.line.journal.rows import VerdictRow, csv_text
from stfpm_runtime.shifts import Shifts

LIMIT_S = 5.0
"""The longest time of an answer, and of the wait for the answers before it, in seconds."""
REPORT_S = 100.0
"""The longest time of a report, in seconds: the server closes a connection after `ANSWER_S`."""
NEWEST_TIMES = 400
"""The most hours, days and shifts in an answer: the newest."""
CSV_ROWS = 100_000
"""The most verdicts in one CSV file: the newest."""
CSV_PAGE = 2000
FROM_NOW = 2**53
"""A number above those of all verdicts."""


class HistoryView:
    """Answers questions about the journal of a line. All methods are for any thread.

    One question is answered at a time, so that open pages do not take the line's cores. Raises HTTPException for a
    shift that the line does not have, and JournalError where the answer takes too long.
    """

    def __init__(self, options: LineOptions) -> None:
        self._journal, self._shifts = options.journal.path, Shifts(options.shifts)
        self._pictures = options.pictures.folder if options.pictures else None
        self._signing_key = options.journal.signing_key
        self._lock, self._report_lock = threading.Lock(), threading.Lock()

    def page(self, asked: Filter, before: int, last: int) -> tuple[list[tuple[VerdictRow, str]], int | None]:
        """Return verdicts with numbers below `before` and their labels, the newest first, and the next `before`."""
        with self._opened(asked) as history:
            return history.page(asked, before, last)

    def summary(self, asked: Filter) -> dict[str, Any]:
        """Return counts by time, place and model, and where in the picture rejects lie."""
        pers: tuple[Per, ...] = ("hour", "day", "shift", "region", "model")
        with self._opened(asked) as history:
            counts = history.counts(asked, *pers)
            heat_maps = history.heat_maps(asked)
        total = Count((), 0, 0, 0)
        for count in counts["region"]:
            total = total.plus(count.passed, count.rejected, count.faults)
        counts["region"].sort(key=lambda count: -count.rejected)
        fields = {f"{per}s": [count.fields(per) for count in counts[per][-NEWEST_TIMES:]] for per in pers}
        rejected = 0
        for region in fields["regions"]:
            rejected += region["rejected"]
            region["cumulative"] = rejected / total.rejected if total.rejected else None
        numbers = {"passed": total.passed, "rejected": total.rejected, "faults": total.faults, "total": total.total}
        return {**fields, "all": {**numbers, "yield": total.yield_rate}, "heat_maps": heat_maps, "grid": GRID,
                "shift_names": list(self._shifts.names), "csv_rows": CSV_ROWS}  # fmt: skip

    def csv(self, asked: Filter) -> Iterator[str]:
        """Return the newest verdicts as CSV, in pieces; the first one is read at once.

        The journal is opened for each piece: a reader that waits for a slow network would keep it from shrinking.
        """
        first = self.page(asked, FROM_NOW, CSV_PAGE)
        return self._pieces(asked, *first)

    def _pieces(self, asked: Filter, rows: list[tuple[VerdictRow, str]], before: int | None) -> Iterator[str]:
        yield csv_text(row for row, _ in rows)
        for _ in range(CSV_PAGE, CSV_ROWS, CSV_PAGE):
            if before is None:
                return
            rows, before = self.page(asked, before, CSV_PAGE)
            yield csv_text((row for row, _ in rows), with_header=False)

    def report(self, asked: Filter, form: Form, order: str, language: str) -> bytes:
        """Return a batch report, which another process makes; one at a time. Raises HTTPException without verdicts.

        Signatures are verified with the public key beside the signing key, where there is one.
        """
        self._check_shift(asked)
        public = self._signing_key and self._signing_key.with_name(self._signing_key.name + ".pub")
        options = ReportOptions(order, language, self._pictures, [public] if public and public.is_file() else [])
        if not self._report_lock.acquire(timeout=LIMIT_S):
            raise JournalError("another report is being made; ask again")
        try:
            return make_apart(ReportTask(self._journal, asked, form, options, self._shifts.begins), REPORT_S)
        except OptionError as error:
            raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from None
        finally:
            self._report_lock.release()

    def _check_shift(self, asked: Filter) -> None:
        if asked.shift and asked.shift not in self._shifts.names:
            known = ", ".join(self._shifts.names)
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no shift {asked.shift!r}; expected one of {known}")

    @contextlib.contextmanager
    def _opened(self, asked: Filter) -> Iterator[History]:
        self._check_shift(asked)
        if not self._lock.acquire(timeout=LIMIT_S):
            raise JournalError(f"other questions take longer than {LIMIT_S:g} s; ask again")
        try:
            with contextlib.closing(History(self._journal, self._shifts, LIMIT_S)) as history:
                yield history
        finally:
            self._lock.release()
