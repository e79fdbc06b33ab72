"""The values that the dashboard's API takes and gives. FastAPI checks them and describes them in /openapi.json."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from stfpm_runtime.line.journal.labels import Value
from stfpm_runtime.line.journal.rows import EventRow
from stfpm_runtime.line.journal.what_if import ThresholdEffect
from stfpm_runtime.line.models.recipes.status import State
from stfpm_runtime.line.observers.drift import Drift
from stfpm_runtime.line.web.views.faults import LONGEST

WHO = r"^[\w.,'@ -]*\w[\w.,'@ -]*$"
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
Decision = Literal["pass", "reject", "fault"]
Count = Annotated[int, Field(ge=0)]


def whole_number(value: object) -> object:
    """Return 7 for 7.0, which is an integer in JSON Schema, too; every other value as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Seq = Annotated[int, Field(ge=1, le=2**53, description="the number of the verdict"), BeforeValidator(whole_number)]


Reason = Annotated[
    str, Field(max_length=200, pattern=PRINTABLE, description="why, for the journal; needed with require_reason")
]


class Refusal(BaseModel):
    """Why a request was refused."""

    error: str


class Model(BaseModel):
    """A model file that is in use, or that is compared with it."""

    file: str
    sha256: str
    provider: str
    name: str
    precision: str
    backbone: str
    threshold: float
    height: Count
    width: Count
    false_alarm_rate: float | None


class VerdictFields(BaseModel):
    """A verdict; `relative_score` is score / threshold, and `score_text` is how people read it.

    `picture` and `overlay` say whether these pictures were kept.
    """

    seq: Count
    time: str
    camera: str
    region: str
    part: str
    decision: Decision
    relative_score: float | None
    score_text: str
    score: float | None
    p_value: float | None
    threshold: float | None
    reason: str
    latency_ms: float
    picture: bool
    overlay: bool


class PlaceFields(BaseModel):
    """One region of one camera, with the counts of this run."""

    camera: str
    region: str
    passed: Count
    rejected: Count
    faults: Count
    dropped: Count
    p50_ms: float | None
    p99_ms: float | None
    threshold: float
    threshold_by_hand: bool
    newest: VerdictFields | None
    pictured: VerdictFields | None


class Totals(BaseModel):
    """The counts of all places in this run; the yield is the share of passed parts, 0 to 1."""

    passed: Count
    rejected: Count
    faults: Count
    dropped: Count
    total: Count
    yield_: float | None = Field(alias="yield")


class Latency(BaseModel):
    """The time from frame to journal over the newest parts."""

    p50_ms: float | None
    p99_ms: float | None
    parts: Count


class CameraFields(BaseModel):
    """A camera and its state."""

    name: str
    state: str


class OutputFields(BaseModel):
    """An output, and how far it is behind the journal."""

    name: str
    works: bool
    lag_s: float
    failure: str


class PictureCounts(BaseModel):
    """Pictures that were not kept."""

    dropped: Count
    failed: Count


class ShadowFields(BaseModel):
    """A second model that judges the same frames, and how often it disagreed."""

    model: Model
    compared: Count
    disagreed: Count
    would_reject: Count
    left_out: Count


class RecipeState(BaseModel):
    """The newest request for a recipe, and what became of it."""

    state: State
    requested: Count
    """The recipe that was asked for last; 0: none."""
    active: Count
    """The recipe that judges; 0: none, and every part is a fault."""
    code: Count
    """Why the request was refused: 1 there is no such recipe, 3 its model may not be used; 0: it was not."""
    reason: str
    """Why every part is a fault; empty while a recipe is active."""
    who: str
    name: str
    """The name of the recipe that was asked for."""


class FaultCard(BaseModel):
    """Something that is wrong now, what to do about it, and who has seen it; empty texts: nobody has."""

    cause: str
    advice: str
    acknowledged_by: str
    acknowledged_at: str


class Status(BaseModel):
    """Everything that changes from verdict to verdict."""

    time: str
    uptime_s: float
    journal: str
    model: Model
    totals: Totals
    latency: Latency
    places: list[PlaceFields]
    cameras: list[CameraFields]
    outputs: list[OutputFields]
    pictures: PictureCounts | None
    problems: list[str]
    faults: list[FaultCard]
    drift: list[Drift]
    shadow: ShadowFields | None
    recipe: RecipeState | None
    """None on a line without recipes."""
    can_change: bool
    """Whether the bearer of this token may label parts and confirm faults."""
    can_engineer: bool
    """Whether he or she may change thresholds, regions and models, too."""


class Score(BaseModel):
    """A point of the chart."""

    seq: Count
    time: str
    relative_score: float | None
    score_text: str
    score: float | None
    threshold: float | None
    decision: Decision
    model: str


class Scores(BaseModel):
    """The newest scores, the oldest first."""

    scores: list[Score]


class Rejects(BaseModel):
    """Verdicts, the newest first."""

    rejects: list[VerdictFields]


class Events(BaseModel):
    """Events, the newest first."""

    events: list[EventRow]


class ThresholdResult(BaseModel):
    """The number of a threshold change, whether the line has applied it, and what it would have changed."""

    order: int
    taken: bool
    effect: ThresholdEffect | None


class Health(BaseModel):
    """Whether the line can judge and deliver, and what is wrong."""

    status: Literal["ok", "failing"]
    problems: list[str]


class Change(BaseModel):
    """A change by a named person."""

    model_config = ConfigDict(extra="forbid", strict=True)
    who: Annotated[
        str, Field(min_length=1, max_length=80, pattern=WHO, description="the name that the journal records")
    ]


class ThresholdBody(Change):
    """A threshold change; `null` restores the configured threshold."""

    threshold: float | None = Field(ge=-1e9, le=1e9, allow_inf_nan=False, description="null: as configured")
    camera: str = Field("", max_length=200, description="this camera only; empty: all")
    region: str = Field("", max_length=200, description="this region only; empty: all")
    reason: Reason = ""


class AcknowledgeBody(Change):
    """A fault that a person has seen."""

    cause: str = Field(min_length=1, max_length=LONGEST, description="as the status names it")


class LabelBody(Change):
    """What the part of a verdict really was."""

    seq: Seq
    label: Value
    kind: str = Field("", max_length=80, pattern=PRINTABLE, description="the kind of a defect")
    note: str = Field("", max_length=200, pattern=PRINTABLE)


class LabelResult(BaseModel):
    """The label that counts for the verdict now, and how many earlier ones there are."""

    seq: int
    label: Value
    earlier: Count
