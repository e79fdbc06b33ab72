"""The routes of the dashboard's API. FastAPI checks their values, and writes /openapi.json from them.

Routes that are plain functions run in the server's thread pool: reading a file or drawing a picture delays no other
request. `stfpm_runtime.line.web.http.app` is imported first, and reports a missing package as the command that
installs it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BeforeValidator, ValidationError

from stfpm_runtime.line.journal.batch.making import Form
from stfpm_runtime.line.journal.batch.words import languages
from stfpm_runtime.line.journal.history import Filter
from stfpm_runtime.line.journal.what_if import ThresholdEffect
from stfpm_runtime.line.web.http.users import Role, User
from stfpm_runtime.line.web.views.history_view import FROM_NOW
from stfpm_runtime.line.web.views.recipe_view import recipe_list
from stfpm_runtime.line.web.views.view import LineView

from .fields import (
    AcknowledgeBody,
    Events,
    FaultCard,
    Health,
    LabelBody,
    LabelResult,
    Refusal,
    Rejects,
    Scores,
    Status,
    ThresholdBody,
    ThresholdResult,
)
from .history_fields import HistoryPage, Summary, filter_of
from .metrics import MEDIA_TYPE, metrics_text
from .model_fields import ModelBody, ModelCalibration, ModelResult, Models, Review
from .recipe_fields import RecipeBody, RecipeList


async def view_of(request: Request) -> LineView:
    """Return the line that this server shows."""
    view = request.app.state.view
    assert isinstance(view, LineView), "set with the routes"
    return view


def needs(role: Role, is_machine: bool = False, is_upload: bool = False) -> dict[str, Any]:
    """Return the arguments of a route for users of this role and higher ones, who change things by their own names.

    Machines may send a request without a token, where the server has none. The name is in the body, and in the query
    where the body is a file.
    """

    async def check(request: Request) -> None:
        user: User = request.scope["user"]
        if not request.app.state.authorizer.has_token:
            if is_machine:
                return
            raise HTTPException(403, "changes need a token; set the key token in the table [dashboard]")
        if not user.may(role):
            raise HTTPException(403, f"{user.name} has the role {user.role}; this needs the role {role}")
        found: object = dict(request.query_params)
        if not is_upload:
            body = await request.body()
            found = json.loads(body) if user.name and body else None  # as FastAPI reads it, which has refused others
        who = found.get("who") if isinstance(found, dict) else None
        if user.name and who not in (None, user.name):
            raise HTTPException(403, f"who: got {str(who)[:60]!r}; expected {user.name}, whose token this is")

    return {"dependencies": [Depends(check)], "openapi_extra": {"x-role": role}}


def check_reason(request: Request, reason: str) -> None:
    """Raise HTTPException where this line demands a reason for a change, and there is none."""
    if request.app.state.require_reason and not reason.strip():
        raise HTTPException(400, "reason is missing; expected in words why it is changed")


async def refuse_unknown(request: Request) -> None:
    """Raise HTTPException for a query with a name that the route does not have."""
    route = request.scope["route"].dependant
    known = [field.alias for part in (route, *route.dependencies) for field in part.query_params]
    if unknown := [name for name in request.query_params if name not in known]:
        raise HTTPException(400, f"unknown: {unknown[0][:60]!r}; expected {', '.join(known) or 'none'}")


def parse_flag(value: object) -> object:
    """Return a flag of a query, which is true or false and nothing else."""
    return {"true": True, "false": False}.get(value, "") if isinstance(value, str) else value


View = Annotated[LineView, Depends(view_of)]
Name = Annotated[str, Path(min_length=1, max_length=200, description="a name in the configuration; frame: no region")]
Scope = Annotated[str, Query(max_length=200, description="only this one; empty: all")]
Threshold = Annotated[float, Query(ge=-1e9, le=1e9, allow_inf_nan=False, description="scores above it are rejected")]
Width = Annotated[int, Query(ge=64, le=4096, description="the most pixels")]
Asked = Annotated[Filter, Depends(filter_of)]
WithMap = Annotated[bool, BeforeValidator(parse_flag), Query(description="with the anomaly map")]
REFUSED: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request is refused, and why.", "model": Refusal},
    503: {"description": "The journal or a file cannot be read.", "model": Refusal},
}
JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "The picture."}}
KEPT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}, "image/png": {}}, "description": "The picture."}
}
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}}, "description": "One line for each verdict."}}
REPORT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {}, "text/csv": {}}, "description": "The report."}
}
router = APIRouter(responses=REFUSED, dependencies=[Depends(refuse_unknown)])
open_router = APIRouter()
OPERATE, ENGINEER = needs("operate"), needs("engineer")


@router.get("/api/status", response_model=Status)
def status(view: View, request: Request) -> dict[str, Any]:
    """Return counts, latency, the newest verdicts, health and drift."""
    user: User = request.scope["user"]
    is_known = request.app.state.authorizer.has_token
    can = {"can_change": is_known and user.may("operate"), "can_engineer": is_known and user.may("engineer")}
    return {**view.status(), **can}


@router.get("/api/scores/{camera}/{region}", response_model=Scores)
def scores(
    view: View,
    camera: Name,
    region: Name,
    last: Annotated[int, Query(ge=1, le=1000, description="the most entries")] = 300,
) -> dict[str, Any]:
    """Return the newest scores of a place, the oldest first."""
    return {"scores": view.scores(camera, region, last)}


@router.get("/api/live/{camera}/{region}", response_class=Response, responses=JPEG)
def live(view: View, camera: Name, region: Name, map: WithMap = True, width: Width = 960) -> Response:
    """Return the newest picture of a place, and in the header X-Verdict-Record the verdict that it belongs to."""
    data, verdict = view.draw_newest(camera, region, map, width)
    headers = {"X-Verdict": str(verdict["seq"]), "X-Verdict-Record": json.dumps(verdict)}
    return Response(data, headers=headers, media_type="image/jpeg")


@router.get("/api/rejects", response_model=Rejects)
def rejects(
    view: View, last: Annotated[int, Query(ge=1, le=60, description="the most entries")] = 24
) -> dict[str, Any]:
    """Return the last parts that were not passed, the newest first."""
    return {"rejects": view.rejects(last)}


@router.get("/api/pictures/{seq}", response_class=Response, responses=KEPT)
def picture(
    view: View,
    seq: Annotated[int, Path(ge=1, le=2**53, description="the number of the verdict")],
    kind: Annotated[Literal["picture", "overlay"], Query(description="the original, or with the map")] = "overlay",
    width: Annotated[int, Query(ge=0, le=4096, description="the most pixels; 0: as it was kept")] = 0,
) -> Response:
    """Return a picture that was kept of a verdict: the original, or with the anomaly map."""
    data, media = view.kept_picture(seq, kind, width)
    return Response(data, media_type=media)


@router.get("/api/events", response_model=Events)
def events(
    view: View, last: Annotated[int, Query(ge=1, le=500, description="the most entries")] = 50
) -> dict[str, Any]:
    """Return the events of the cameras and the line, the newest first."""
    return {"events": view.events(last)}


@router.get("/api/threshold", response_model=ThresholdEffect)
def try_threshold(view: View, threshold: Threshold, camera: Scope = "", region: Scope = "") -> ThresholdEffect:
    """Return what a threshold would have decided about the last 1,000 parts."""
    return view.try_threshold(threshold, camera, region)


@router.post("/api/threshold", response_model=ThresholdResult, **ENGINEER)
def set_threshold(view: View, body: ThresholdBody, request: Request) -> dict[str, Any]:
    """Change the threshold from the next frame on; the journal records who did it, and why."""
    check_reason(request, body.reason)
    return view.set_threshold(body.threshold, body.who, body.camera, body.region, body.reason)


@router.post("/api/labels", response_model=LabelResult, **OPERATE)
def label(view: View, body: LabelBody) -> dict[str, Any]:
    """Say what the part of a verdict really was; the verdict stays as it is."""
    return view.label(body.seq, body.label, body.who, body.kind, body.note)


@router.post("/api/faults", response_model=FaultCard, **OPERATE)
def acknowledge(view: View, body: AcknowledgeBody) -> dict[str, str]:
    """Note that a person has seen a fault that exists now; the journal records who."""
    return view.acknowledge(body.cause, body.who)


@router.get("/api/review", response_model=Review)
def review(
    view: View, last: Annotated[int, Query(ge=1, le=200, description="the most entries")] = 20
) -> dict[str, Any]:
    """Return the parts that are most worth a person's look, the most worth first, and what the labels say so far."""
    return view.review(last)


@router.get("/api/history", response_model=HistoryPage)
def history(
    view: View,
    asked: Asked,
    before: Annotated[int, Query(ge=1, le=FROM_NOW, description="only verdicts with lower numbers")] = FROM_NOW,
    last: Annotated[int, Query(ge=1, le=200, description="the most entries")] = 50,
) -> dict[str, Any]:
    """Return the verdicts of a time, a shift, a place, a part, a decision, a model or a label, the newest first."""
    return view.history_page(asked, before, last)


@router.get("/api/history/summary", response_model=Summary)
def history_summary(view: View, asked: Asked) -> dict[str, Any]:
    """Return counts and yield by hour, day, shift, region and model, and where in the pictures rejects lie."""
    return view.history.summary(asked)


@router.get("/api/history.csv", response_class=StreamingResponse, responses=CSV)
def history_csv(view: View, asked: Asked) -> StreamingResponse:
    """Return verdicts as CSV, the newest first, 100,000 at most; stfpm-journal --csv gives more."""
    headers = {"Content-Disposition": 'attachment; filename="history.csv"'}
    return StreamingResponse(view.history.csv(asked), media_type="text/csv", headers=headers)


@router.get("/api/report", response_class=Response, responses=REPORT)
def report(
    view: View,
    asked: Asked,
    order: Annotated[str, Query(max_length=200, description="what its title says: an order, a batch")] = "",
    language: Annotated[str, Query(pattern=f"^({'|'.join(languages())})$")] = "en",
    form: Annotated[Form, Query(description="a page that prints well, or its tables")] = "html",
) -> Response:
    """Return a report on the verdicts that are asked for: counts, models, thresholds, rejects with pictures, events."""
    headers = {"Content-Disposition": f'attachment; filename="report.{form}"'}
    return Response(view.history.report(asked, form, order, language), headers=headers, media_type=f"text/{form}")


@router.get("/model", response_model=Models)
def model(view: View) -> dict[str, Any]:
    """Return the model in use, and the files in its folder with their states."""
    return view.models.describe()


@router.post("/model", response_model=ModelResult, **ENGINEER)
def set_model(view: View, body: ModelBody, request: Request) -> dict[str, Any]:
    """Check a model, use it as the shadow, approve it, use it from the next frame on, roll back, or retire it."""
    if body.action != "check":
        check_reason(request, body.reason or body.override)
    return view.models.act(body.action, body.file, body.who, body.override, body.reason)


@router.get("/model/{file}", response_model=ModelCalibration)
def model_calibration(
    view: View, file: Annotated[str, Path(min_length=6, max_length=255, description="a .onnx file next to it")]
) -> dict[str, Any]:
    """Return where a model's own threshold comes from, and the scores behind it."""
    try:
        return ModelCalibration(**view.models.calibration(file)).model_dump()
    except ValidationError as error:
        raise HTTPException(409, f"{file}: its description is damaged ({error.error_count()} values)") from None


@router.get("/api/recipe", response_model=RecipeList)
def recipe(view: View) -> dict[str, Any]:
    """Return the recipes of the line, which of them is active, and what became of the newest request."""
    return recipe_list(view.line.recipes)


@router.post("/api/recipe", response_model=RecipeList, **OPERATE)
def select_recipe(view: View, body: RecipeBody) -> dict[str, Any]:
    """Ask for a recipe; it judges once its state is active. Until then every part is a fault."""
    answer = view.line.recipes.request(body.id, body.who, "HTTP")
    if answer.code:
        raise HTTPException(409, answer.reason)
    return recipe_list(view.line.recipes)


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
