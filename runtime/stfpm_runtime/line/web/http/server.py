"""The line's web server: uvicorn in a thread of its own. The number and the time of its connections are limited."""

from __future__ import annotations

import json
import logging
import socket
import time
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from stfpm_runtime.errors import OutputError
from stfpm_runtime.lifecycle import Worker
from stfpm_runtime.line.config.server import ServerOptions
from stfpm_runtime.line.observers.logs import limit_repeats

from .app import LOG
from .connections import BODY_S, BUSY, IDLE_S, Connection, Connections, connection_limit, raise_descriptor_limit

if TYPE_CHECKING:
    from fastapi import FastAPI

STARTING_S = 10.0
"""The longest wait for the server's start, in seconds."""
CLOSING_S = 1
"""Whole seconds that requests have at the stop to be answered."""
ANSWER_S = 120.0
"""Seconds for a request's body and its answer: a model that is loaded and checked, a picture over a slow network."""


class _Protocol(H11Protocol):
    """One connection with a deadline for each request."""

    limits: Connections
    answer_s: float
    connection: Connection | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 (uvicorn narrows the base class's type)
        peer = transport.get_extra_info("peername")
        self.connection = self.limits.admit(peer[0] if peer else "", transport.abort)
        super().connection_made(transport)
        if self.connection is None:
            transport.write(BUSY)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.connection:
            self.limits.release(self.connection)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.connection is None:
            return
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._expect_answer()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's own type, which uvicorn narrows
        """Return whether the connection stays open: a client may close its side and still read its answer."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        self.cycle.keep_alive = False
        if self.cycle.more_body:
            self.send_400_response("the body ended before its Content-Length")
        return True

    def send_400_response(self, msg: str) -> None:
        """Answer what is no valid HTTP request as every other mistake is answered, and close the connection."""
        body = json.dumps({"error": msg}).encode()
        head = f"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        self.transport.close()

    def on_response_complete(self) -> None:
        if self.connection:
            self.limits.expect(self.connection, IDLE_S)
        before = self.cycle
        super().on_response_complete()
        if self.connection and self.cycle is not before:  # the next request had come with the last one
            self._expect_answer()

    def _expect_answer(self) -> None:
        """Give the request its time."""
        assert self.connection, "the callers have checked it"
        self.cycle.scope["state"]["connection"] = self.connection  # the request's task has not begun yet
        self.limits.expect(self.connection, self.answer_s)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections

    async def on_tick(self, counter: int) -> bool:
        self._connections.close_overdue()
        return await super().on_tick(counter)


class WebServer(Worker):
    """Serves one line. `start` raises OutputError where it cannot listen."""

    keeps_real_time = False

    port: int
    """The port on which it listens, once it is started."""

    def __init__(self, options: ServerOptions, app: FastAPI, answer_s: float = 0.0) -> None:
        """Store what is served. `answer_s`: the longest time that a trigger is answered in, in seconds."""
        super().__init__("web")
        self._options = options
        limit_repeats(LOG, logging.getLogger("uvicorn.error"), logging.getLogger("asyncio"))
        connections = Connections(LOG, connection_limit(raise_descriptor_limit()))
        limits = {"limits": connections, "answer_s": max(ANSWER_S, answer_s + BODY_S)}
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            loop="asyncio",
            http=type("Protocol", (_Protocol,), limits),
            server_header=False,
            timeout_keep_alive=round(IDLE_S),
            timeout_graceful_shutdown=CLOSING_S,
            h11_max_incomplete_event_size=16_384,
        )
        self._server = _Server(config, connections)

    def start(self) -> None:
        """Listen, and return when requests are answered."""
        self._socket = listen(self._options)
        self.port = self._socket.getsockname()[1]
        super().start()
        until = time.monotonic() + STARTING_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < until:
            time.sleep(0.005)

    def run(self) -> None:
        """Answer requests until the stop; those that are being answered then have `CLOSING_S`."""
        with self._socket:
            self._server.run(sockets=[self._socket])

    def wake(self) -> None:
        """Make uvicorn end."""
        self._server.should_exit = True


def listen(options: ServerOptions) -> socket.socket:
    """Return a socket that listens on the server's port. Raises OutputError."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it an answer takes 40 ms more
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.host, options.port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise OutputError(f"{options.listen}: cannot listen there ({error.strerror}); choose another port") from None
    return listener
