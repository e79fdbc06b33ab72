"""The tables of a report that come after its first page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath

from stfpm_runtime.line.journal.history import Count, Filter
from stfpm_runtime.line.journal.labels import Label
from stfpm_runtime.line.journal.rows import EventRow, VerdictRow, local_time
from stfpm_runtime.line.journal.threshold_changes import ThresholdChange
from stfpm_runtime.printed_page import Section
from stfpm_runtime.score import format_score

from .facts import LISTED, BatchReader, VerdictGroup
from .pictures import KeptPicture
from .words import Words

NUMBERS = ("verdicts", "passed", "rejected", "not judged", "yield")
HOURS = 48
"""An interval with more hours is counted by days."""


class Tables:
    """Makes tables in the language of their reader."""

    def __init__(self, reader: BatchReader, say: Words) -> None:
        """Read the states of models, whose files they name."""
        self._reader, self._say = reader, say
        self._until_end = Filter(until=reader.asked.until)
        self._files: dict[str, str] = {}
        for state in reader.states(self._until_end):
            self._files.setdefault(str(state.sha256), PurePath(str(state.path)).name)

    def table(self, title: str, headings: Iterable[str], rows: Sequence[Sequence[str]], count: int = 0) -> Section:
        """Return a table of the first rows; `count` is the number of all, where it is greater."""
        say, count = self._say, max(count, len(rows))
        shown = [*rows[:LISTED]]
        if count > LISTED:
            shown.append([say(f"the first {LISTED} of {count} are listed; stfpm-journal lists all")])
        return Section(say(title), [say(one) for one in headings], shown or [[say("none")]])

    def numbers(self, count: Count) -> list[str]:
        """Return the cells of `NUMBERS`."""
        share = "-" if count.yield_rate is None else f"{count.yield_rate:.2%}"
        return [str(count.total), str(count.passed), str(count.rejected), str(count.faults), share]

    def model(self, sha256: str) -> str:
        """Return how a model is called: its file, where the journal knows that, and the beginning of its SHA-256."""
        return f"{self._files.get(sha256, '')} {sha256[:12]}".strip()

    def by_place(self, groups: Sequence[VerdictGroup]) -> Section:
        """Return the counts of each region."""
        sums = sum_up(groups, lambda group: (group.camera, group.region))
        rows = [[*key, *self.numbers(count)] for key, count in sums.items()]
        return self.table("Regions", ("camera", "region", *NUMBERS), rows)

    def by_time(self) -> Section:
        """Return the counts of each hour, or of each day."""
        found = self._reader.counts(self._reader.asked, "hour", "day")
        by_hour = len(found["hour"]) <= HOURS
        rows = [
            [local_time(count.key[0])[:16] if by_hour else count.key[0], *self.numbers(count)]
            for count in found["hour" if by_hour else "day"]
        ]
        title = "Hours" if by_hour else "Days"
        return self.table(title, ("beginning" if by_hour else "day", *NUMBERS), rows)

    def models(self, groups: Sequence[VerdictGroup]) -> Section:
        """Return which models were used when."""
        rows = []
        for (sha256,), count in sum_up(groups, lambda group: (group.model,)).items():
            times = [time for group in groups if group.model == sha256 for time in (group.since, group.until)]
            span = [local_time(min(times)), local_time(max(times))]
            rows.append([f"{self._files.get(sha256, '')} {sha256}".strip(), *span, *self.numbers(count)])
        return self.table("Models in use", ("file and SHA-256", "first verdict", "last verdict", *NUMBERS), rows)

    def thresholds(self, groups: Sequence[VerdictGroup]) -> Section:
        """Return which thresholds held when, and who has set them."""
        changes = self._reader.changes(self._until_end)
        rows = [
            [f"{group.camera}/{group.region}", group.model[:12], _number(group.threshold), local_time(group.since),
             local_time(group.until), *self.numbers(group.count), self._set_by(group, changes)]
            for group in groups
        ]  # fmt: skip
        headings = ("place", "model", "threshold", "first verdict", "last verdict", *NUMBERS, "set by")
        return self.table("Thresholds in use", headings, rows)

    def _set_by(self, group: VerdictGroup, changes: Sequence[ThresholdChange]) -> str:
        place = group.camera, group.region, group.model, group.threshold
        for change in reversed(changes):
            sha256 = str(change.model).partition(" ")[0]  # the recipe follows, where there are some
            if (change.camera, change.region, sha256, change.threshold) == place and change.time <= group.until:
                return f"{change.who}, {local_time(change.time)}"
        return self._say("model or configuration")

    def changes(self) -> Section:
        """Return the changes of thresholds in the interval."""
        rows = [
            [local_time(one.time), one.who, one.camera, one.region, _number(one.old),
             self._say("as configured") if one.threshold is None else _number(one.threshold), _number(one.configured)]
            for one in self._reader.changes(self._reader.during)
        ]  # fmt: skip
        return self.table("Changes of thresholds", ("time", "by", "camera", "region", "old", "new", "configured"), rows)

    def states(self) -> Section:
        """Return what happened to models in the interval."""
        rows = [
            [local_time(one.time), one.who or self._say("configuration"), self.model(one.sha256), self._say(one.state),
             one.note] for one in self._reader.states(self._reader.during)
        ]  # fmt: skip
        return self.table("Changes of models", ("time", "by", "model", "state", "reason"), rows)

    def labels(self, labelled: Sequence[tuple[VerdictRow, Label]]) -> Section:
        """Return what persons say that parts really were."""
        rows = [
            [str(row.seq), local_time(row.time), row.part, self._say(row.decision), self._say(one.label), one.kind,
             one.who, local_time(one.time), one.note] for row, one in labelled
        ]  # fmt: skip
        headings = ("verdict", "time", "part", "decision", "label", "kind", "by", "labelled", "remark")
        return self.table("Labels", headings, rows)

    def verdicts(
        self, title: str, rows: Sequence[VerdictRow], count: int, labels: Mapping[int, Label],
        pictures: Mapping[int, KeptPicture],
    ) -> Section:  # fmt: skip
        """Return verdicts of one kind, of which there are `count`."""
        cells = [
            [str(row.seq), local_time(row.time), place_of(row), row.part, format_score(row.score, row.threshold),
             row.reason, row.model[:12], self._say(labels[row.seq].label) if row.seq in labels else "",
             self._picture(row, pictures)]
            for row in rows
        ]  # fmt: skip
        headings = ("verdict", "time", "place", "part", "score", "reason", "model", "label", "picture")
        return self.table(title, headings, cells, count)

    def _picture(self, row: VerdictRow, pictures: Mapping[int, KeptPicture]) -> str:
        if row.seq in pictures:
            return self._say(pictures[row.seq].state)
        return self._say("not shown" if row.picture or row.overlay else "none kept")

    def events(self, events: Sequence[EventRow], count: int) -> Section:
        """Return events, of which there are `count`."""
        rows = [[local_time(one.time), one.camera or self._say("line"), one.kind, one.detail] for one in events]
        return self.table("Events", ("time", "camera", "kind", "detail"), rows, count)


def sum_up(
    groups: Iterable[VerdictGroup], key_of: Callable[[VerdictGroup], tuple[str, ...]]
) -> dict[tuple[str, ...], Count]:
    """Return the numbers of verdicts by a key, in the order of the keys' first groups."""
    sums: dict[tuple[str, ...], Count] = {}
    for group in groups:
        key = key_of(group)
        sums[key] = sums.get(key, Count(key, 0, 0, 0)).plus(group.passed, group.rejected, group.faults)
    return sums


def place_of(row: VerdictRow) -> str:
    """Return camera and region of a verdict."""
    return f"{row.camera}/{row.region}"


def _number(value: object) -> str:
    """Return a threshold, also where another program wrote no number."""
    return f"{value:.6g}" if isinstance(value, int | float) else "" if value is None else str(value)
