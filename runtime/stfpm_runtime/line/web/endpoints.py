"""All endpoints of the API: their addresses, parameters and answers."""

from __future__ import annotations

from .contract import Parameter
from .openapi import EFFECT, EVENT, FLAG, MODEL, SCORE, STATUS, TEXT, VERDICT, Endpoint, list_of, or_null, record_of

NAME_LENGTH = 80
CAMERA = Parameter("camera", "string", "the camera's name", "path", least=1, most=200)
REGION = Parameter("region", "string", "the region's name; frame where there is none", "path", least=1, most=200)
OF_CAMERA = Parameter("camera", "string", "of this camera alone; empty: of all", default="", most=200)
OF_REGION = Parameter("region", "string", "of this region alone; empty: of all", default="", most=200)
THRESHOLD = Parameter("threshold", "number", "reject scores above it", least=-1e9, most=1e9)
NAME = r"[\w.,'@ -]*\w[\w.,'@ -]*"
WHO = Parameter(
    "who", "string", "the name of who changes it, for the journal", "body", least=1, most=NAME_LENGTH, pattern=NAME
)
WIDTH = Parameter("width", "integer", "pixels, at most", default=960, least=64, most=4096)


def _last(default: int, most: int) -> Parameter:
    return Parameter("last", "integer", "how many, at most", default=default, least=1, most=most)


ENDPOINTS = (
    Endpoint("GET", "/api/status", "status", "Counts, latency, the newest verdicts, health, drift", STATUS),
    Endpoint(
        "GET", "/api/scores/{camera}/{region}", "scores", "The newest scores, the oldest first",
        record_of(scores=list_of(SCORE)), (CAMERA, REGION, _last(300, 1000)), statuses=(404,),
    ),
    Endpoint(
        "GET", "/api/live/{camera}/{region}", "live", "The newest picture, with the map over it or without", {},
        (CAMERA, REGION, Parameter("map", "boolean", "with the anomaly map", default=True), WIDTH),
        media=("image/jpeg",), statuses=(404,),
    ),
    Endpoint(
        "GET", "/api/rejects", "rejects", "The last parts that were not passed, the newest first",
        record_of(rejects=list_of(VERDICT)), (_last(24, 60),),
    ),
    Endpoint(
        "GET", "/api/pictures/{seq}", "picture", "A picture that was kept of a verdict", {},
        (
            Parameter("seq", "integer", "the verdict's number", "path", least=1, most=2**53),
            Parameter("kind", "string", "the original, or with the map over it", default="overlay",
                      choices=("picture", "overlay")),
            Parameter("width", "integer", "pixels, at most; 0: as it was kept", default=0, least=0, most=4096),
        ),
        media=("image/jpeg", "image/png"), statuses=(404,),
    ),
    Endpoint(
        "GET", "/api/events", "events", "What befell cameras and line, the newest first",
        record_of(events=list_of(EVENT)), (_last(50, 500),),
    ),
    Endpoint(
        "GET", "/api/threshold", "try_threshold", "What a threshold would have done to the last 1,000 parts", EFFECT,
        (THRESHOLD, OF_CAMERA, OF_REGION), statuses=(404,),
    ),
    Endpoint(
        "POST", "/api/threshold", "set_threshold", "Change the threshold from the next frame on; it is journalled",
        record_of(order={"type": "integer"}, taken=FLAG, effect=or_null(EFFECT)),
        (
            Parameter("threshold", "number", "reject scores above it; null: as configured", "body",
                      least=-1e9, most=1e9, nullable=True),
            WHO,
            Parameter("camera", "string", "of this camera alone; empty: of all", "body", default="", most=200),
            Parameter("region", "string", "of this region alone; empty: of all", "body", default="", most=200),
        ),
        statuses=(404, 409), changes=True,
    ),
    Endpoint(
        "GET", "/model", "model", "The model that rules, and files beside it that could",
        record_of(model=MODEL, candidates=list_of(TEXT)),
    ),
    Endpoint(
        "POST", "/model", "set_model", "Load a model beside the ruling one, check it, and let it rule",
        record_of(model=MODEL),
        (Parameter("file", "string", "a file in the ruling one's folder", "body", least=1, most=255), WHO),
        statuses=(404, 409), changes=True,
    ),
    Endpoint(
        "GET", "/healthz", "healthz", "Whether verdicts can be had: 200, or 503",
        record_of(status={"enum": ["ok", "failing"]}, problems=list_of(TEXT)), statuses=(503,), is_open=True,
    ),
    Endpoint(
        "GET", "/metrics", "metrics", "For Prometheus", {},
        media=("text/plain; version=1.0.0; charset=utf-8",),
    ),
)  # fmt: skip
