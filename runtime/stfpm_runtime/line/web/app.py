"""The dashboard as an ASGI application: pages, the API, who may ask, and how much."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from importlib import resources
from typing import Any
from urllib.parse import unquote

from stfpm_runtime.errors import MissingExtraError, StfpmError
from stfpm_runtime.line.config.dashboard import DashboardOptions

from .api import Api
from .authorizer import AuthorizationError, Authorizer
from .connections import BODY_S
from .contract import BODY_BYTES, RefusedError, from_body, from_query
from .endpoints import ENDPOINTS
from .metrics import MEDIA_TYPE, Metrics
from .openapi import Endpoint, document

try:
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
except ImportError:
    raise MissingExtraError("starlette", "dashboard") from None

LOG = logging.getLogger("stfpm.dashboard")
PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/api": ("api.html", "text/html; charset=utf-8"),
    "/static/style.css": ("style.css", "text/css; charset=utf-8"),
    "/static/dashboard.js": ("dashboard.js", "text/javascript; charset=utf-8"),
    "/static/chart.js": ("chart.js", "text/javascript; charset=utf-8"),
    "/static/api.js": ("api.js", "text/javascript; charset=utf-8"),
}
"""What there is, and nothing else: no name of a file ever comes from an address."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
        "object-src 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def make_app(api: Api, options: DashboardOptions) -> Starlette:
    """The application of one line."""
    access = Authorizer(options, LOG)
    metrics = Metrics(api, access)
    routes = [Route(path, _page(*page), methods=["GET"]) for path, page in PAGES.items()]
    routes.append(Route("/openapi.json", _openapi, methods=["GET"]))
    by_path: dict[str, list[Endpoint]] = {}
    for endpoint in ENDPOINTS:
        by_path.setdefault(endpoint.path, []).append(endpoint)
    for path, endpoints in by_path.items():
        route = _endpoint(endpoints, api, metrics, access)
        routes.append(Route(path, route, methods=[endpoint.method for endpoint in endpoints]))
    app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})
    app.router.redirect_slashes = False
    return app


def _check_access(request: Request, endpoint: Endpoint, access: Authorizer) -> None:
    """Raise AccessError unless the request is allowed. Without a token nothing can be changed."""
    if endpoint.is_open:
        return
    address = request.client.host if request.client else ""
    header = request.headers.get
    access.check(address, header("Host", ""), header("Origin", ""), header("Authorization", ""))
    if endpoint.changes and not access.has_token:
        raise AuthorizationError(
            HTTPStatus.FORBIDDEN, "changes need a token; set the key token in the table [dashboard]"
        )


def _endpoint(
    endpoints: list[Endpoint], api: Api, metrics: Metrics, access: Authorizer
) -> Callable[[Request], Awaitable[Response]]:
    """What answers all methods of one address."""
    by_method = {endpoint.method: endpoint for endpoint in endpoints}

    async def answer(request: Request) -> Response:
        endpoint = by_method["GET" if request.method == "HEAD" else request.method]
        try:
            _check_access(request, endpoint, access)
            values = await _values(request, endpoint)
            if endpoint.name == "healthz":
                return _health(api)  # without a thread: it does not wait for those that draw pictures
            return await run_in_threadpool(_answer, endpoint, values, api, metrics, access)
        except AuthorizationError as refused:
            await asyncio.sleep(refused.delay_s)
            return _error(refused.status, str(refused))
        except RefusedError as refused:
            return _error(refused.status, str(refused))
        except StfpmError as error:
            return _error(HTTPStatus.SERVICE_UNAVAILABLE, str(error))

    return answer


async def _values(request: Request, endpoint: Endpoint) -> dict[str, Any]:
    """All parameters of a request, checked. Raises RefusedError."""
    names = {p.name: p for p in endpoint.parameters if p.where == "path"}
    values = {name: names[name].parse(str(text)) for name, text in request.path_params.items()}
    values |= from_query(endpoint.parameters, request.query_params)
    if endpoint.changes:
        kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/json")
        try:
            body = await asyncio.wait_for(_body(request), BODY_S)
        except asyncio.TimeoutError:
            raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, f"expected the whole body within {BODY_S:g} s") from None
        values |= from_body(endpoint.parameters, body)
    return values


async def _body(request: Request) -> bytes:
    """The body, read no further than it may be long. Raises RefusedError."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES:
                raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a body of up to {BODY_BYTES} bytes")
    except ClientDisconnect:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "the body broke off") from None
    return body


def _answer(endpoint: Endpoint, values: dict[str, Any], api: Api, metrics: Metrics, access: Authorizer) -> Response:
    """In a thread of the server's pool: it may read files and draw."""
    if endpoint.name == "metrics":
        return Response(metrics.text(), headers={**HEADERS, "Content-Type": MEDIA_TYPE})
    found = getattr(api, endpoint.name)(**values)
    if endpoint.name == "live":
        data, verdict = found
        headers = {"X-Verdict": str(verdict["seq"]), "X-Verdict-Record": json.dumps(verdict)}
        return Response(data, headers={**HEADERS, **headers}, media_type="image/jpeg")
    if endpoint.name == "picture":
        return Response(found[0], headers=HEADERS, media_type=found[1])
    if endpoint.name == "status":
        found["can_change"] = access.has_token
    return _json(found)


def _health(api: Api) -> Response:
    """For whoever asks: no secrets in it."""
    failing, others = api.health()
    status = HTTPStatus.SERVICE_UNAVAILABLE if failing else HTTPStatus.OK
    return _json({"status": "failing" if failing else "ok", "problems": failing + others}, status)


async def _openapi(request: Request) -> Response:
    return _json(document(ENDPOINTS))


def _page(file: str, media: str) -> Callable[[Request], Awaitable[Response]]:
    content = (resources.files(__package__) / "static" / file).read_bytes()

    async def page(request: Request) -> Response:
        return Response(content, headers={**HEADERS, "Content-Type": media})

    return page


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it"
    path = unquote(request.url.path)[:80]
    words = {404: f"there is no {path}; see /api", 405: f"{request.method} is not for {path}; see /api"}
    response = _error(HTTPStatus(error.status_code), words.get(error.status_code, error.detail))
    response.headers.update(error.headers or {})
    return response


def _error(status: HTTPStatus, message: str) -> Response:
    response = _json({"error": message}, status)
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _json(content: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return JSONResponse(content, status, headers=HEADERS)
