"""Triggers by HTTP: `POST /trigger/CAMERA` with a part id, answered with its verdicts once they are journalled.

    curl -X POST localhost:8766/trigger/left -H 'Content-Type: application/json' -d '{"part": "A-1017"}'
    {"decision": "pass", "verdicts": [{"seq": 812, "camera": "left", "region": "cap", "part": "A-1017", ...}]}

The answer is 200 with the worst decision of the camera's regions, fault included; 503 where too many triggers wait,
and 504 where no verdict came in time (it is journalled all the same, if it comes). A request that is not understood
triggers nothing: 400, 411, 413, 415.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stfpm_runtime.errors import MissingExtraError, TriggerError
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.journal.rows import WORST_FIRST, Record

from .base import NOT_TAKEN, QueuedTrigger, TriggerRequest
from .part_id import parse_part

try:
    from fastapi import APIRouter, HTTPException, Request
    from fastapi.params import Depends
except ImportError:
    raise MissingExtraError("fastapi", "dashboard") from None

ANSWER_S = 30.0
"""The longest wait for a verdict beyond the camera's own timeout, in seconds: the line is overloaded then."""
BODY = {
    "description": "The part's id; an empty body is a part without one.",
    "content": {"application/json": {"schema": {"type": "object", "properties": {"part": {"type": "string"}}}}},
}
REFUSED: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request is not understood; nothing was triggered."},
    503: {"description": "Too many triggers wait, or the line is stopping; nothing was triggered."},
    504: {"description": "No verdict came in time; it is journalled all the same, if it comes."},
}


def answer_limit_s(cameras: Iterable[CameraOptions]) -> float:
    """Return the longest wait for the verdicts of a trigger, in seconds."""
    return ANSWER_S + max((camera.delay_ms + camera.timeout_ms) / 1e3 for camera in cameras)


def make_trigger_router(
    triggers: Mapping[str, QueuedTrigger], answer_s: float, dependencies: Sequence[Depends] = ()
) -> APIRouter:
    """Return the route for triggers of these cameras, each answered within `answer_s` seconds.

    `dependencies` check who may trigger.
    """
    router = APIRouter(dependencies=dependencies)

    @router.post("/trigger/{camera}", responses=REFUSED, openapi_extra={"requestBody": BODY, "x-role": "operate"})
    async def trigger(camera: str, request: Request) -> dict[str, Any]:
        """Judge one part, and answer with its verdicts. No thread waits for them."""
        at_ns: int = request.scope["received_ns"]
        if camera not in triggers:
            known = ", ".join(f"/trigger/{name}" for name in triggers)
            raise HTTPException(404, f"expected one of {known}" if known else "no camera is triggered by HTTP")
        if request.query_params:
            raise HTTPException(400, 'got a query; expected {"part": "ID"} as the body')
        try:
            part = parse_part(await request.body())
        except TriggerError as error:
            raise HTTPException(400, str(error)) from None
        loop = asyncio.get_running_loop()
        verdicts: asyncio.Future[Sequence[Record]] = loop.create_future()

        def give(records: Sequence[Record]) -> None:
            if not verdicts.done():
                verdicts.set_result(records)

        def answer(records: Sequence[Record]) -> None:
            with contextlib.suppress(RuntimeError):  # the server has stopped
                loop.call_soon_threadsafe(give, records)

        if not triggers[camera].put(TriggerRequest(at_ns, part, answer)):
            raise HTTPException(503, f"{NOT_TAKEN}; not judged")
        try:
            records = await asyncio.wait_for(verdicts, answer_s)
        except asyncio.TimeoutError:
            raise HTTPException(504, f"no verdict within {answer_s:g} s; look into the journal") from None
        decisions = {record["decision"] for record in records}
        return {"decision": next(worst for worst in WORST_FIRST if worst in decisions), "verdicts": list(records)}

    return router
