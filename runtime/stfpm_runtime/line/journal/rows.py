"""What the journal holds: one row for each verdict, one for each event."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import operator
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import MAXYEAR, datetime, timezone
from typing import Any
from unicodedata import category

from stfpm_runtime.detector import Decision
from stfpm_runtime.errors import OptionError
from stfpm_runtime.score import relative_score

GS1_SEPARATOR = "\x1d"
"""Separates the fields of a GS1 code; the only control character that a part id and the journal's texts may hold."""
NAME_LENGTH = 80
"""The most characters of the name of who does something."""
TEXT_LENGTH = 200
"""The most characters of any other text that a person gives."""
WORST_FIRST: tuple[Decision, ...] = ("fault", "reject", "pass")
"""The decision on a part that several regions judge is the first of these that one of them has made."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a formula of a spreadsheet begins with."""
MISSED_DEADLINE = "the camera's deadline_ms"
"""The end of the reason of a fault that came too late."""
Record = dict[str, Any]
"""A verdict or an event as JSON has it."""
LogEvent = Callable[[str, str], None]
"""Writes an event into the journal: its kind, and its detail in words."""
LogCameraEvent = Callable[[str, str, str], None]
"""Writes an event of a camera into the journal: its kind, its detail in words, and the camera's name."""
LogPicture = Callable[[str, str], None]
"""Writes into the journal what became of a picture: its name below the folder, and its SHA-256, empty once deleted."""


@dataclass(frozen=True)
class VerdictRow:
    """A verdict as it is journalled. The fields are the columns, their order the order of the CSV."""

    seq: int
    """Its number in the journal, from 1: rising, without gaps, never used again. Readers follow by it."""
    time: str
    """Wall clock when it was decided, UTC: `2026-11-24T02:13:10.123Z`. It may jump; `seq` never does."""
    monotonic_ns: int
    """The same moment on the machine's clock since it was started."""
    run: int
    """Which run of the loop wrote it, from 1."""
    camera: str
    """The camera's name in the configuration."""
    region: str
    source: str
    """File, or camera as its source names it."""
    frame: int | None
    """Its number in a video or since the camera was opened."""
    part: str
    """The part's id; empty where no trigger gave one."""
    decision: Decision
    score: float | None
    """The image score, higher for more anomalous; None for a fault."""
    p_value: float | None
    """The share of good parts that would score as high or higher; None for a fault, or without held-out scores."""
    threshold: float
    reason: str
    """Why it is a fault, or why it is not what the frame alone would be."""
    model: str
    """SHA-256 of the model file."""
    dropped: int
    """Frames of this camera passed over since the one before."""
    wait_ms: float
    """The time from the frame's arrival until the loop took it."""
    preprocess_ms: float
    infer_ms: float
    """Its share of the batch."""
    latency_ms: float
    """The time from the frame's arrival to this row, the batch's other frames included."""
    picture: str = ""
    """The original, below the folder for pictures; empty where none was kept."""
    overlay: str = ""
    """The overlay, likewise."""
    peak_x: float | None = None
    """Where in the region the anomaly map is highest: from its left edge, as a share of its width; None of a fault."""
    peak_y: float | None = None
    """The same from its upper edge, as a share of its height."""

    @property
    def relative_score(self) -> float | None:
        """Return score / threshold, see `relative_score`; it is computed, and no column."""
        return relative_score(self.score, self.threshold)


@dataclass(frozen=True)
class EventRow:
    """An event as it is journalled."""

    seq: int
    """Its number among the events, from 1."""
    time: str
    monotonic_ns: int
    run: int
    camera: str
    """Empty where it befell the line as a whole."""
    source: str
    kind: str
    """Of a camera: opened, lost, regained, frozen, thawed, ended. Of the line: started, stopped, clock, journal ..."""
    detail: str


COLUMNS = tuple(field.name for field in dataclasses.fields(VerdictRow))
EVENT_COLUMNS = tuple(field.name for field in dataclasses.fields(EventRow))
values_of = operator.attrgetter(*COLUMNS)
event_values_of = operator.attrgetter(*EVENT_COLUMNS)


def to_record(entry: VerdictRow, journal: str) -> Record:
    """Return a verdict as a dictionary: the id of its journal, the columns, and the relative score."""
    return with_relative_score({"journal": journal, **dict(zip(COLUMNS, values_of(entry), strict=True))})


def with_relative_score(columns: Record) -> Record:
    """Return a verdict's columns and its relative score, also where an earlier version wrote them."""
    return {**columns, "relative_score": relative_score(columns["score"], columns["threshold"])}


def csv_text(rows: Iterable[VerdictRow], with_header: bool = True) -> str:
    """Return verdicts as CSV; text that a spreadsheet would take for a formula gets an apostrophe in front."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if with_header:
        writer.writerow([*COLUMNS, "relative_score"])
    for row in rows:
        writer.writerow([csv_cell(value) for value in (*values_of(row), row.relative_score)])
    return text.getvalue()


def csv_cell(value: object) -> object:
    """Return a value for CSV: text that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def storable(text: str) -> str:
    r"""Return the text with control characters and what is not Unicode written as \x1b or \udcff.

    A file's name may be any bytes; a journal holds UTF-8 alone, and none of its texts may forge a line or a colour.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or category(c) == "Zs" or c == GS1_SEPARATOR else ascii(c)[1:-1] for c in text)


def check_texts(who: str, **texts: str) -> None:
    """Raise OptionError unless `who` is a name, and the texts, by what they are, may stand in a journal."""
    for what, text, length in (
        ("name", who, NAME_LENGTH),
        *((what, text, TEXT_LENGTH) for what, text in texts.items()),
    ):
        if not text.isprintable() or len(text) > length:
            raise OptionError(f"got a {what} of {text!r:.60}; expected printable text of up to {length} characters")
    if not who.strip():
        raise OptionError("got no name; expected the name of who does it")


def fault_of(entry: VerdictRow, reason: str) -> VerdictRow:
    """Return the verdict as a fault without pictures and without any value that a journal cannot hold."""
    kept = {
        field.name: _writable(getattr(entry, field.name), str(field.type)) for field in dataclasses.fields(VerdictRow)
    }
    fault: dict[str, Any] = {"decision": "fault", "picture": "", "overlay": ""}
    fault |= dict.fromkeys(("score", "p_value", "peak_x", "peak_y"))
    return VerdictRow(**{**kept, **fault, "reason": storable(reason)})


def _writable(value: object, kind: str) -> Any:  # noqa: ANN401 (of that kind)
    """Return the value if it is of that kind and can be written; else None, 0 or an empty text."""
    if kind == "str":
        return storable(value) if isinstance(value, str) else ""
    if kind.startswith("int") and isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if kind.startswith("float") and isinstance(value, int | float) and math.isfinite(value):
        return value
    return None if "None" in kind else 0


def utc(seconds: float | None = None) -> str:
    """Return a moment, in seconds since 1970, or now, as the journal writes it: it sorts as text."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_moment(text: str) -> str:
    """Return a moment in ISO 8601, of local time where it names no zone, as the journal writes it. Raises ValueError.

    The last year of the calendar is refused: a quarter of an hour later might not exist.
    """
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.year == MAXYEAR:
        raise ValueError(f"got the year {MAXYEAR}")
    return utc(moment.timestamp())


def local_time(moment: str) -> str:
    """Return a moment of the journal in the local time; the text as it is where another program wrote no moment."""
    try:
        return datetime.fromisoformat(moment.replace("Z", "+00:00")).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return moment


def seconds_of(moment: str) -> float:
    """Return a moment as the journal writes it in seconds since 1970. Raises ValueError for another text."""
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
