"""The routes of the dashboard's API. FastAPI checks their values, and writes /openapi.json from them.

Routes that are plain functions run in the server's thread pool: reading a file or drawing a picture delays no other
request. `stfpm_runtime.line.web.app` is imported first, and reports a missing package as the command that installs it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from stfpm_runtime.line.journal.rows import EventRow
from stfpm_runtime.line.journal.what_if import WhatIf
from stfpm_runtime.line.observers.drift import Drift

from .metrics import MEDIA_TYPE, metrics_text
from .view import LineView

WHO = r"^[\w.,'@ -]*\w[\w.,'@ -]*$"
Decision = Literal["pass", "reject", "fault"]
Count = Annotated[int, Field(ge=0)]


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
    """A verdict; `picture` and `overlay` say whether these pictures were kept."""

    seq: Count
    time: str
    camera: str
    region: str
    part: str
    decision: Decision
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
    sinks: list[OutputFields]
    pictures: PictureCounts | None
    problems: list[str]
    drift: list[Drift]
    shadow: ShadowFields | None
    can_change: bool


class Score(BaseModel):
    """A point of the chart."""

    seq: Count
    time: str
    score: float | None
    threshold: float | None
    decision: Decision


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
    effect: WhatIf | None


class ModelInUse(BaseModel):
    """The model in use."""

    model: Model


class Models(ModelInUse):
    """The model in use, and files in its folder that could replace it."""

    candidates: list[str]


class Health(BaseModel):
    """Whether the line can judge and deliver, and what is wrong."""

    status: Literal["ok", "failing"]
    problems: list[str]


class _Values(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _parse_flag(value: object) -> object:
    return {"true": True, "false": False}.get(value, "") if isinstance(value, str) else value


class PictureQuery(_Values):
    """How the newest picture is drawn."""

    map: Annotated[bool, BeforeValidator(_parse_flag), Field(description="with the anomaly map")] = True
    width: int = Field(960, ge=64, le=4096, description="the most pixels")


class KeptQuery(_Values):
    """Which picture of a verdict is sent."""

    kind: Literal["picture", "overlay"] = Field("overlay", description="the original, or with the anomaly map")
    width: int = Field(0, ge=0, le=4096, description="the most pixels; 0: as it was kept")


class ScoresQuery(_Values):
    """How many scores are sent."""

    last: int = Field(300, ge=1, le=1000, description="the most scores")


class RejectsQuery(_Values):
    """How many verdicts are sent."""

    last: int = Field(24, ge=1, le=60, description="the most verdicts")


class EventsQuery(_Values):
    """How many events are sent."""

    last: int = Field(50, ge=1, le=500, description="the most events")


class ThresholdQuery(_Values):
    """A threshold to try."""

    threshold: float = Field(ge=-1e9, le=1e9, allow_inf_nan=False, description="scores above it are rejected")
    camera: str = Field("", max_length=200, description="this camera only; empty: all")
    region: str = Field("", max_length=200, description="this region only; empty: all")


class ThresholdBody(BaseModel):
    """A threshold change; `null` restores the configured threshold."""

    model_config = ConfigDict(extra="forbid", strict=True)
    threshold: float | None = Field(ge=-1e9, le=1e9, allow_inf_nan=False, description="null: as configured")
    who: str = Field(min_length=1, max_length=80, pattern=WHO, description="the name that the journal records")
    camera: str = Field("", max_length=200, description="this camera only; empty: all")
    region: str = Field("", max_length=200, description="this region only; empty: all")


class ModelBody(BaseModel):
    """A model swap."""

    model_config = ConfigDict(extra="forbid", strict=True)
    file: str = Field(min_length=1, max_length=255, description="a file in the folder of the model in use")
    who: str = Field(min_length=1, max_length=80, pattern=WHO, description="the name that the journal records")


def view_of(request: Request) -> LineView:
    """Return the line that this server shows."""
    view = request.app.state.view
    assert isinstance(view, LineView), "set with the routes"
    return view


def require_token(request: Request) -> None:
    """Raise HTTPException where the server has no token: without one nothing can be changed."""
    if not request.app.state.authorizer.has_token:
        raise HTTPException(403, "changes need a token; set the key token in the table [dashboard]")


View = Annotated[LineView, Depends(view_of)]
Name = Annotated[str, Path(min_length=1, max_length=200)]
REFUSED: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request is refused, and why.", "model": Refusal},
    503: {"description": "The journal or a file cannot be read.", "model": Refusal},
}
JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "The picture."}}
KEPT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}, "image/png": {}}, "description": "The picture."}
}
router = APIRouter(responses=REFUSED, dependencies=[Security(HTTPBearer(scheme_name="token", auto_error=False))])
open_router = APIRouter()
CHANGE = [Depends(require_token)]


@router.get("/api/status", response_model=Status)
def status(view: View, request: Request) -> dict[str, Any]:
    """Return counts, latency, the newest verdicts, health and drift."""
    return {**view.status(), "can_change": request.app.state.authorizer.has_token}


@router.get("/api/scores/{camera}/{region}", response_model=Scores)
def scores(view: View, camera: Name, region: Name, query: Annotated[ScoresQuery, Query()]) -> dict[str, Any]:
    """Return the newest scores of a place, the oldest first."""
    return {"scores": list(view.place(camera, region).recent)[-query.last :]}


@router.get("/api/live/{camera}/{region}", response_class=Response, responses=JPEG)
def live(view: View, camera: Name, region: Name, query: Annotated[PictureQuery, Query()]) -> Response:
    """Return the newest picture of a place, and in the header X-Verdict-Record the verdict that it belongs to."""
    data, verdict = view.draw_newest(camera, region, query.map, query.width)
    headers = {"X-Verdict": str(verdict["seq"]), "X-Verdict-Record": json.dumps(verdict)}
    return Response(data, headers=headers, media_type="image/jpeg")


@router.get("/api/rejects", response_model=Rejects)
def rejects(view: View, query: Annotated[RejectsQuery, Query()]) -> dict[str, Any]:
    """Return the last parts that were not passed, the newest first."""
    return {"rejects": view.rejects(query.last)}


@router.get("/api/pictures/{seq}", response_class=Response, responses=KEPT)
def picture(view: View, seq: Annotated[int, Path(ge=1, le=2**53)], query: Annotated[KeptQuery, Query()]) -> Response:
    """Return a picture that was kept of a verdict."""
    data, media = view.kept_picture(seq, query.kind, query.width)
    return Response(data, media_type=media)


@router.get("/api/events", response_model=Events)
def events(view: View, query: Annotated[EventsQuery, Query()]) -> dict[str, Any]:
    """Return the events of the cameras and the line, the newest first."""
    return {"events": view.events(query.last)}


@router.get("/api/threshold", response_model=WhatIf)
def try_threshold(view: View, query: Annotated[ThresholdQuery, Query()]) -> WhatIf:
    """Return what a threshold would have decided about the last 1,000 parts."""
    return view.try_threshold(query.threshold, query.camera, query.region)


@router.post("/api/threshold", response_model=ThresholdResult, dependencies=CHANGE)
def set_threshold(view: View, body: ThresholdBody) -> dict[str, Any]:
    """Change the threshold from the next frame on; the journal records who did it."""
    return view.set_threshold(body.threshold, body.who, body.camera, body.region)


@router.get("/model", response_model=Models)
def model(view: View) -> dict[str, Any]:
    """Return the model in use, and files in its folder that could replace it."""
    return view.models()


@router.post("/model", response_model=ModelInUse, dependencies=CHANGE)
def set_model(view: View, body: ModelBody) -> dict[str, Any]:
    """Load a model, check it, and use it from the next frame on."""
    return {"model": view.swap_model(body.file, body.who)}


@router.get("/metrics", response_class=Response, responses={200: {"content": {MEDIA_TYPE: {}}}})
def metrics(view: View, request: Request) -> Response:
    """Return the metrics for Prometheus."""
    return Response(metrics_text(view, request.app.state.authorizer), headers={"Content-Type": MEDIA_TYPE})


@open_router.get("/healthz", response_model=Health, responses={503: {"model": Health, "description": "It cannot."}})
async def healthz(view: View) -> Any:  # noqa: ANN401 (Health, or its JSON with status 503)
    """Return whether verdicts can be had. This does not wait for the threads that draw pictures."""
    failing, others = view.health()
    health = {"status": "failing" if failing else "ok", "problems": failing + others}
    return JSONResponse(health, 503 if failing else 200)
