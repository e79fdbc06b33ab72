"""The API as an OpenAPI 3.1 document, written from the endpoints' own parameters: it cannot fall behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .contract import BODY_BYTES, Parameter

Schema = dict[str, Any]

NUMBER: Schema = {"type": ["number", "null"]}
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}


def record_of(**properties: Schema) -> Schema:
    """An object that has all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def list_of(schema: Schema) -> Schema:
    """An array."""
    return {"type": "array", "items": schema}


def or_null(schema: Schema) -> Schema:
    """That, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


ERROR = record_of(error=TEXT)
MODEL = record_of(
    file=TEXT, sha256=TEXT, provider=TEXT, name=TEXT, precision=TEXT, backbone=TEXT, threshold=NUMBER,
    height=COUNT, width=COUNT, false_alarm_rate=NUMBER,
)  # fmt: skip
VERDICT = record_of(
    seq=COUNT, time=TEXT, camera=TEXT, region=TEXT, part=TEXT, decision={"enum": ["pass", "reject", "fault"]},
    score=NUMBER, p_value=NUMBER, threshold=NUMBER, reason=TEXT, latency_ms=NUMBER, picture=FLAG, overlay=FLAG,
)  # fmt: skip
PLACE = record_of(
    camera=TEXT, region=TEXT, passed=COUNT, rejected=COUNT, faults=COUNT, dropped=COUNT, p50_ms=NUMBER, p99_ms=NUMBER,
    threshold=NUMBER, threshold_by_hand=FLAG, newest=or_null(VERDICT), pictured=or_null(VERDICT),
)  # fmt: skip
DRIFT = record_of(
    camera=TEXT, region=TEXT, parts=COUNT, held_out=COUNT, statistic=NUMBER, p_value=NUMBER, alarm=FLAG,
    median=NUMBER, held_out_median=NUMBER,
)  # fmt: skip
STATUS = record_of(
    time=TEXT, uptime_s=NUMBER, journal=TEXT, model=MODEL,
    totals=record_of(passed=COUNT, rejected=COUNT, faults=COUNT, dropped=COUNT, total=COUNT, **{"yield": NUMBER}),
    latency=record_of(p50_ms=NUMBER, p99_ms=NUMBER, parts=COUNT),
    places=list_of(PLACE),
    cameras=list_of(record_of(name=TEXT, state=TEXT)),
    sinks=list_of(record_of(name=TEXT, works=FLAG, lag_s=NUMBER, failure=TEXT)),
    pictures=or_null(record_of(dropped=COUNT, failed=COUNT)),
    problems=list_of(TEXT),
    drift=list_of(DRIFT),
    shadow=or_null(record_of(model=MODEL, compared=COUNT, disagreed=COUNT, would_reject=COUNT, left_out=COUNT)),
    can_change=FLAG,
)  # fmt: skip
EFFECT = record_of(
    threshold=NUMBER, parts=COUNT, since=TEXT, rejected=COUNT, would_reject=COUNT,
    newly_rejected=list_of(COUNT), newly_passed=list_of(COUNT),
)  # fmt: skip
SCORE = record_of(seq=COUNT, time=TEXT, score=NUMBER, threshold=NUMBER, decision=TEXT)
EVENT = record_of(seq=COUNT, time=TEXT, monotonic_ns=COUNT, run=COUNT, camera=TEXT, source=TEXT, kind=TEXT, detail=TEXT)


@dataclass(frozen=True)
class Endpoint:
    """One method of one address."""

    method: str
    path: str
    name: str
    """Of the method of Api that answers; the operation's id."""
    summary: str
    answer: Schema
    """Of the JSON; empty where it is something else."""
    parameters: tuple[Parameter, ...] = ()
    media: tuple[str, ...] = ("application/json",)
    statuses: tuple[int, ...] = field(default=())
    """Beyond 200, 400, 401 and 403."""
    is_open: bool = False
    """Whether it wants no token."""
    changes: bool = False
    """Whether it changes the line, so that it wants a token even on the machine itself."""


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stfpm-inspect",
            "version": "1",
            "description": "A line of cameras: what it sees, and what may be changed while it runs.",
        },
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    content = {media: {"schema": endpoint.answer} if endpoint.answer else {} for media in endpoint.media}
    statuses = [400, *([] if endpoint.is_open else [401, 403]), *endpoint.statuses]
    if endpoint.changes:
        statuses += [413, 415]
    responses: dict[str, Any] = {"200": {"description": "as asked", "content": content}}
    responses |= {str(status): _refusal() for status in sorted(set(statuses))}
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": [_parameter(p) for p in endpoint.parameters if p.where != "body"],
        "responses": responses,
    }
    if body := [p for p in endpoint.parameters if p.where == "body"]:
        operation["requestBody"] = {
            "required": True,
            "description": f"Up to {BODY_BYTES} bytes.",
            "content": {"application/json": {"schema": _body(body)}},
        }
    if not endpoint.is_open:
        operation["security"] = [{"token": []}]
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path" or parameter.is_required,
        "description": parameter.text,
        "schema": parameter.schema(),
    }


def _body(parameters: Sequence[Parameter]) -> Schema:
    return {
        "type": "object",
        "properties": {p.name: {**p.schema(), "description": p.text} for p in parameters},
        "required": [p.name for p in parameters if p.is_required],
        "additionalProperties": False,
    }


def _refusal() -> dict[str, Any]:
    return {"description": "refused, and why", "content": {"application/json": {"schema": ERROR}}}
