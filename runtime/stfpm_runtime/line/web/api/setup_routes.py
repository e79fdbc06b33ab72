"""The routes of the page Setup and their values; `routes` has the others."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from stfpm_runtime.line.web.http.connections import connection_of, kept_open
from stfpm_runtime.line.web.views.setup_view import SHOWN, SetupView

from .fields import Change, Count, Reason, whole_number
from .routes import ENGINEER, JPEG, REFUSED, Name, Width, check_reason, refuse_unknown

Pixel = Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(whole_number)]
PlaceName = Annotated[str, Field(min_length=1, max_length=200)]
FileName = Annotated[str, Path(min_length=1, max_length=120)]


class Region(BaseModel):
    """A region: a rectangle x, y, width, height, or the corners x, y of a polygon, in pixels of the frame."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(min_length=1, max_length=80)
    rectangle: list[Pixel] | None = Field(None, min_length=4, max_length=4)
    polygon: list[Annotated[list[Pixel], Field(min_length=2, max_length=2)]] = Field(default=[], max_length=100)


class DrawnRegion(Region):
    """A region, and which one it was: it keeps that one's other keys."""

    original: str | None = Field(max_length=200, description="its name in the file until now; null: it is a new one")


class RegionOfFile(BaseModel):
    """A region as the line's file has it."""

    name: str
    rectangle: list[int] | None
    polygon: list[list[int]]


class Camera(BaseModel):
    """A camera: the width and height of its newest frame, its regions in the file, and the names that judge now.

    The version is another one when the regions in the file were changed.
    """

    name: str
    size: list[int] | None
    regions: list[RegionOfFile]
    version: str
    judged: list[str]


class TrainingState(BaseModel):
    """The training that runs or ran last; `missing` is a package that this machine needs for one and does not have."""

    state: Literal["idle", "training", "exporting", "done", "cancelled", "failed"]
    epoch: Count
    epochs: Count
    lines: list[str]
    missing: str


class Setup(BaseModel):
    """What is set up on this line; without a model every part is a fault until `model` is trained and used."""

    has_model: bool
    model: str
    can_save: bool
    needs_restart: bool
    cameras: list[Camera]
    collecting: str | None
    left_out: Count
    failure: str
    training: TrainingState


class CollectedPicture(BaseModel):
    """A collected picture, and why it is worth little for a training; empty: it is not."""

    name: str
    warning: Literal["", "blurred", "like an earlier one"]


class CollectedSet(BaseModel):
    """The newest pictures of a place, the newest first, their folder on the line's machine, and how many there are.

    `doubtful` is the number of all those with a warning.
    """

    folder: str
    count: Count
    doubtful: Count
    pictures: list[CollectedPicture]


class RegionsBody(Change):
    """All regions of a camera; none: the whole frame is one part."""

    camera: PlaceName
    version: str = Field(max_length=80, description="that of the regions that were changed, see GET /api/setup")
    regions: list[DrawnRegion] = Field(max_length=50)
    reason: Reason = ""


class CollectBody(Change):
    """How many pictures of which place are collected, 0: no more, and the least time between two."""

    camera: PlaceName
    region: PlaceName
    count: Annotated[int, Field(ge=0, le=10_000), BeforeValidator(whole_number)]
    every_ms: Annotated[int, Field(ge=0, le=3_600_000), BeforeValidator(whole_number)] = 0


class TrainBody(Change):
    """A training from the pictures of a place."""

    camera: PlaceName
    region: PlaceName
    file: str = Field(min_length=1, max_length=120, description="the .onnx file to make, next to the model in use")
    teacher: str = Field("imagenet", min_length=1, max_length=120, description="imagenet, procedural, or a file there")
    epochs: Annotated[int, Field(ge=1, le=10_000), BeforeValidator(whole_number)] | None = None
    """null: as many as the recipe has"""
    accept_data: bool = Field(False, description="train although the check of the pictures finds something")


async def setup_of(request: Request) -> SetupView:
    """Return what sets up the line that this server shows."""
    view = request.app.state.setup
    assert isinstance(view, SetupView), "set with the routes"
    return view


View = Annotated[SetupView, Depends(setup_of)]
ZIP: dict[int | str, dict[str, Any]] = {200: {"content": {"application/zip": {}}, "description": "The pictures."}}
router = APIRouter(responses=REFUSED, dependencies=[Depends(refuse_unknown)])


@router.get("/api/setup", response_model=Setup)
def setup(view: View) -> dict[str, Any]:
    """Return cameras with their regions, what is collected, and the state of the training."""
    return view.describe()


@router.get("/api/frames/{camera}", response_class=Response, responses=JPEG)
def frame(view: View, camera: Name, width: Width = 1280) -> Response:
    """Return the newest whole frame of a camera, and in the header X-Frame-Size its own size in pixels."""
    data, (full_width, height) = view.frame(camera, width)
    return Response(data, headers={"X-Frame-Size": f"{full_width}x{height}"}, media_type="image/jpeg")


@router.post("/api/regions", response_model=Setup, **ENGINEER)
def set_regions(view: View, body: RegionsBody, request: Request) -> dict[str, Any]:
    """Write the regions of a camera into the line's file; they judge from the next start on."""
    check_reason(request, body.reason)
    shapes = [region.model_dump() for region in body.regions]
    return view.set_regions(body.camera, shapes, body.version, body.who, body.reason)


@router.post("/api/restart", response_model=Setup, **ENGINEER)
def restart(view: View, body: Change) -> dict[str, Any]:
    """Make the line stop and start again with its file as it is now; no part is judged for some seconds."""
    return view.restart(body.who)


@router.get("/api/collected/{camera}/{region}", response_model=CollectedSet)
def collected(
    view: View,
    camera: Name,
    region: Name,
    last: Annotated[int, Query(ge=1, le=10_000, description="the most entries")] = SHOWN,
) -> dict[str, Any]:
    """Return the newest pictures that were collected of a place."""
    return view.pictures(camera, region, last)


@router.post("/api/collected", response_model=Setup, **ENGINEER)
def collect(view: View, body: CollectBody) -> dict[str, Any]:
    """Collect the pictures of the next parts of a place, whatever is decided about them."""
    before = view.describe()["collecting"]
    answer = view.collect(body.camera, body.region, body.count, body.every_ms)
    wanted = f"{body.camera}/{body.region}: {body.count} pictures, one in {body.every_ms} ms at most"
    view.log_change("collect", f"{before or 'nothing'} -> {wanted if body.count else 'nothing'}", body.who, body.camera)
    return answer


@router.get("/api/collected.zip/{camera}/{region}", response_class=StreamingResponse, responses=ZIP, **ENGINEER)
def archive(view: View, camera: Name, region: Name, request: Request) -> Response:
    """Return the pictures of a place as a ZIP file, for a training on another machine."""
    parts = kept_open(connection_of(request.scope), view.archive(camera, region))
    return StreamingResponse(parts, media_type="application/zip")


@router.get("/api/collected/{camera}/{region}/{name}", response_class=Response, responses=JPEG)
def collected_picture(view: View, camera: Name, region: Name, name: FileName, width: Width = 320) -> Response:
    """Return a collected picture."""
    return Response(view.picture(camera, region, name, width), media_type="image/jpeg")


@router.delete("/api/collected/{camera}/{region}/{name}", response_model=CollectedSet, **ENGINEER)
def remove(view: View, camera: Name, region: Name, name: FileName, body: Change) -> dict[str, Any]:
    """Remove a collected picture."""
    answer = view.remove(camera, region, name)
    view.log_change("collect", f"{camera}/{region}/{name} -> removed", body.who, camera)
    return answer


@router.post("/api/training", response_model=Setup, **ENGINEER)
def train(view: View, body: TrainBody) -> dict[str, Any]:
    """Train a model from the pictures of a place and export it next to the model in use."""
    return view.train(body.camera, body.region, body.file, body.teacher, body.epochs, body.who, body.accept_data)


@router.delete("/api/training", response_model=Setup, **ENGINEER)
def cancel_training(view: View, body: Change) -> dict[str, Any]:
    """End the training that runs; begun again with the same file, it goes on after its last epoch."""
    before = view.describe()["training"]
    answer = view.cancel_training()
    epochs = f"{before['state']}, epoch {before['epoch']} of {before['epochs']}"
    view.log_change("training", f"{epochs} -> cancelled", body.who)
    return answer
