"""The ASGI application of the line's web server: which requests it answers, and the form of every error.

Every error is a JSON object `{"error": "what was wrong; what was expected"}` with its HTTP status.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from collections.abc import Sequence
from http import HTTPStatus
from importlib import resources
from typing import Any
from urllib.parse import quote, unquote

from stfpm_runtime.errors import MissingExtraError, StfpmError
from stfpm_runtime.line.config.server import ServerOptions

from .authorizer import AuthorizationError, Authorizer
from .connections import BODY_S, connection_of
from .users import User

try:
    from fastapi import APIRouter, FastAPI, Security
    from fastapi.exceptions import RequestValidationError
    from fastapi.security import HTTPBearer
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Match
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError:
    raise MissingExtraError("fastapi", "dashboard") from None

LOG = logging.getLogger("stfpm.web")
BODY_BYTES = 8192
"""The most bytes of a request's body: room for the longest texts with every character escaped."""
UPLOADS = "/model/"
"""The beginning of paths whose bodies are files: their route reads them, and refuses what is too large."""
MEDIA = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
}
SHARED = ("login", "nav", "viewer")
"""A page has `<!-- login -->` where the contents of `login.html` belong: the form that asks for the token."""
OPEN_PATHS = {"/openapi.json", "/healthz"}
"""Paths beside the pages that need no token and reveal nothing about parts."""
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


def make_app(
    options: ServerOptions, routers: Sequence[APIRouter], open_routers: Sequence[APIRouter] = (), view: object = None
) -> FastAPI:
    """Return the application with these routes, the open ones without a token, and the pages where there is a `view`.

    `view` is the LineView that the dashboard's routes read.
    """
    app = FastAPI(
        title="stfpm-inspect",
        version="1",
        description="The state of a line of cameras, and what can be changed while it runs.",
        docs_url=None,  # these pages load scripts from the internet; /api needs none
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.authorizer = authorizer = Authorizer(options, LOG)
    app.state.require_reason = options.require_reason
    app.state.view = view
    app.state.routes = [route for router in (*routers, *open_routers) for route in router.routes]
    token = Security(HTTPBearer(scheme_name="token", auto_error=False))  # only described here; _Guard checks it
    for router in routers:
        app.include_router(router, dependencies=[token])
    for router in open_routers:
        app.include_router(router)
    if view is not None:
        for path, (content, media) in _pages().items():
            app.add_route(path, _page(content, media), methods=["GET"])
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(StfpmError, _answer_unavailable)
    app.add_middleware(_Guard, authorizer=authorizer)
    return app


@functools.cache
def _pages() -> dict[str, tuple[bytes, str]]:
    """Return the content and the media type of each file that is served, by path: no request names a file of its own.

    Languages are the files `CODE.json`; `/static/languages.js` lists them.
    """
    files = {file.name: file.read_bytes() for file in (resources.files("stfpm_runtime.line.web") / "static").iterdir()}
    shared = {f"<!-- {name} -->\n".encode(): files.pop(f"{name}.html") for name in SHARED}
    codes = sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))
    files["languages.js"] = f"export default {json.dumps(codes)};\n".encode()
    pages = {}
    for name, content in files.items():
        stem, _, kind = name.rpartition(".")
        if kind == "html":
            for mark, part in shared.items():
                content = content.replace(mark, part)
        if kind in MEDIA:
            path = f"/static/{name}" if kind != "html" else "/" if stem == "index" else f"/{stem}"
            pages[path] = content, MEDIA[kind]
    return pages


class _Guard:
    """Lets a request pass if it is allowed and its body is whole, short and JSON, or an upload; adds security headers.

    The scope gets `received_ns`, when the request's headers had come, on `time.monotonic_ns()`, and `user`, who asks.
    """

    def __init__(self, app: ASGIApp, authorizer: Authorizer) -> None:
        self._app = app
        self._authorizer = authorizer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                named = {**HEADERS, "X-User": quote(scope["user"].name)}
                added = [(name.lower().encode(), value.encode()) for name, value in named.items()]
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        request = Request(scope, receive)
        scope["received_ns"], scope["user"] = time.monotonic_ns(), User("", "view")
        try:
            if scope["path"] not in OPEN_PATHS and scope["path"] not in _pages():
                address, header = request.client.host if request.client else "", request.headers.get
                hosts = header("Host", ""), header("Origin", "")
                scope["user"] = self._authorizer.check(address, *hosts, header("Authorization", ""))
            # the bodies of GET are not read at all
            if request.method not in ("GET", "HEAD") and not scope["path"].startswith(UPLOADS):
                receive = _replay(await _read_body(request), receive)
            if connection := connection_of(scope):
                connection.answering = True
        except AuthorizationError as refused:
            await asyncio.sleep(refused.delay_s)
            await _error(refused.status, str(refused))(scope, receive, send_with_headers)
        except HTTPException as refused:
            response = _error(refused.status_code, refused.detail)
            if refused.status_code == HTTPStatus.REQUEST_TIMEOUT:
                response.headers["Connection"] = "close"
            await response(scope, receive, send_with_headers)
        else:
            if request.method == "HEAD":  # the server leaves out the body, as it sees its own scope
                scope = {**scope, "method": "GET"}
            await self._app(scope, receive, send_with_headers)


async def _read_body(request: Request) -> bytes:
    """Read the body within `BODY_S` seconds. Raises HTTPException where it is not JSON of at most `BODY_BYTES`."""
    header = request.headers
    if "Transfer-Encoding" in header:
        raise HTTPException(HTTPStatus.LENGTH_REQUIRED, "got a chunked body; expected the header Content-Length")
    length = int(header.get("Content-Length", "0"))  # the server has checked that it is a number
    if length > BODY_BYTES:
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a body of up to {BODY_BYTES} bytes")
    kind = header.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and (length or kind):
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/json")
    try:
        return await asyncio.wait_for(request.body(), BODY_S)
    except asyncio.TimeoutError:
        raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, f"expected the whole body within {BODY_S:g} s") from None
    except ClientDisconnect:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "the body ended before its Content-Length") from None


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a function that gives the body that was read, and then what `receive` gives."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _page(content: bytes, media: str) -> Any:  # noqa: ANN401 (an endpoint of Starlette)
    async def page(request: Request) -> Response:
        return Response(content, headers={"Content-Type": media})

    return page


async def _answer_invalid(request: Request, error: Exception) -> Response:
    """Answer a request whose values are wrong with the first mistake."""
    assert isinstance(error, RequestValidationError), "registered for it"
    return _error(HTTPStatus.BAD_REQUEST, describe_mistake(error.errors()[0]))


def describe_mistake(mistake: dict[str, Any]) -> str:
    """Return one of pydantic's mistakes as what was got and what was expected."""
    where, *keys = mistake["loc"]
    name, kind = ".".join(str(key) for key in keys), mistake["type"]
    if kind == "json_invalid" or (not keys and where == "body"):
        return "the body is not a JSON object; expected one, see /api"
    if kind == "missing":
        return f"{name} is missing; see /api"
    if kind == "extra_forbidden":
        return f"unknown: {name[:60]!r}; see /api"
    words = {"int_parsing": "a whole number", "float_parsing": "a number"}
    expected = words.get(kind) or mistake["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{name}: got {str(mistake['input'])[:60]!r}; expected {expected}"


async def _answer_http(request: Request, error: Exception) -> Response:
    """Answer a request that a route has refused, or that has no route."""
    assert isinstance(error, HTTPException), "registered for it"
    path = unquote(request.url.path)[:80]
    words = {
        "Not Found": f"there is no {path}; see /api",
        "Method Not Allowed": f"{request.method} is not for {path}; see /api",
        "There was an error parsing the body": "the body is not a JSON object; expected one, see /api",
    }
    response = _error(error.status_code, words.get(error.detail, error.detail))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # a path can have several routes, one for each method
        found = [route for route in request.app.state.routes if route.matches(request.scope)[0] is not Match.NONE]
        if methods := {method for route in found for method in route.methods}:
            response.headers["Allow"] = ", ".join(sorted(methods))
    return response


async def _answer_unavailable(request: Request, error: Exception) -> Response:
    """Answer a request that the journal or a file stands in the way of."""
    return _error(HTTPStatus.SERVICE_UNAVAILABLE, str(error))


def _error(status: int, message: str) -> Response:
    challenge = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse({"error": message}, status, headers=challenge)
