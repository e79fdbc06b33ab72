"""The values that the API of the page History takes and gives."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import HTTPException, Query
from pydantic import BaseModel, Field

from stfpm_runtime.line.journal.history import Filter, HeatMap
from stfpm_runtime.line.journal.rows import parse_moment

from .fields import Count, VerdictFields

MOMENT = (
    r"^([1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T"
    r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{3})?)?Z)?$"
)
Moment = Annotated[str, Query(pattern=MOMENT, description="UTC, as 2026-11-24T06:00Z; empty: without a bound")]
Text = Annotated[str, Query(max_length=200, description="only this one; empty: all")]
ModelSha256 = Annotated[str, Query(pattern="^[0-9a-f]{0,64}$", description="the beginning of the model's SHA-256")]
DecisionName = Annotated[Literal["", "pass", "reject", "fault"], Query(description="for lists; counts are of all")]
LabelName = Annotated[Literal["", "good", "defect", "unclear"], Query(description="the newest label of the part")]


def filter_of(
    since: Moment = "",
    until: Moment = "",
    shift: Text = "",
    camera: Text = "",
    region: Text = "",
    part: Text = "",
    decision: DecisionName = "",
    model: ModelSha256 = "",
    label: LabelName = "",
) -> Filter:
    """Return which verdicts a query asks for. Raises HTTPException for a day that there is not."""
    return Filter(_moment(since), _moment(until), camera, part, region, decision, model, label, shift)


def _moment(text: str) -> str:
    """Return a moment as the journal writes it."""
    try:
        return parse_moment(text) if text else ""
    except ValueError:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"{text}: there is no such day") from None


class HistoryVerdict(VerdictFields):
    """A verdict with its model, where its anomaly map is highest, and the newest label of its part."""

    model: str
    peak_x: float | None
    peak_y: float | None
    label: str


class HistoryPage(BaseModel):
    """Verdicts, the newest first; `next` is `before` of the next page, and null where there is none."""

    verdicts: list[HistoryVerdict]
    next: int | None


class Numbers(BaseModel):
    """Numbers of verdicts; the yield is the share of passed ones, 0 to 1."""

    passed: Count
    rejected: Count
    faults: Count
    total: Count
    yield_: float | None = Field(alias="yield")


class HourNumbers(Numbers):
    """An hour, by its beginning in UTC."""

    hour: str


class DayNumbers(Numbers):
    """A day of the machine's local time."""

    day: str


class ShiftNumbers(DayNumbers):
    """A shift, with the day on which it began."""

    shift: str


class RegionNumbers(Numbers):
    """A region of a camera, and the share of all rejects that it and those before it have."""

    camera: str
    region: str
    cumulative: float | None


class ModelNumbers(Numbers):
    """A model, by the beginning of its SHA-256."""

    model: str


class Summary(BaseModel):
    """Counts, the newest times last, the regions with the most rejects first; and where rejects lie.

    A heat map has a number of rejects for each column and row of a grid of `grid` x `grid` cells over the region.
    """

    all: Numbers
    hours: list[HourNumbers]
    days: list[DayNumbers]
    shifts: list[ShiftNumbers]
    regions: list[RegionNumbers]
    models: list[ModelNumbers]
    heat_maps: list[HeatMap]
    grid: int
    shift_names: list[str]
    csv_rows: int = Field(description="the most verdicts in /api/history.csv")
