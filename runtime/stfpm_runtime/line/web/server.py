"""The dashboard's server: uvicorn in a thread of its own, whose pool draws and reads for whoever asks.

Time and number of its connections are limited, see ../connections.py.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import Any

from stfpm_runtime.errors import MissingExtraError, OutputError
from stfpm_runtime.line.config.dashboard import DashboardOptions
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.loop import Line
from stfpm_runtime.line.observers.logs import limit_repeats

from .api import Api
from .app import LOG, make_app
from .connections import BUSY, IDLE_S, Connection, Connections, connections_per_port, raise_descriptor_limit

try:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError:
    raise MissingExtraError("uvicorn", "dashboard") from None

STARTING_S = 10.0
ANSWER_S = 120.0
"""Seconds for a request's body and its answer: a model that is loaded and checked, a picture over a slow network."""


class _Protocol(H11Protocol):
    """One connection, with a deadline."""

    limits: Connections
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
            self.limits.expect(self.connection, ANSWER_S, answering=True)

    def on_response_complete(self) -> None:
        if self.connection:
            self.limits.expect(self.connection, IDLE_S)
        before = self.cycle
        super().on_response_complete()
        if self.connection and self.cycle is not before:  # the next request had come with the last one
            self.limits.expect(self.connection, ANSWER_S, answering=True)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections

    async def on_tick(self, counter: int) -> bool:
        self._connections.close_overdue()
        return await super().on_tick(counter)


class Dashboard:
    """Serves one line until it is closed. Raises OutputError where it cannot listen."""

    def __init__(self, options: DashboardOptions, line: Line, line_options: LineOptions) -> None:
        self._socket = _listen(options)
        self.port: int = self._socket.getsockname()[1]
        """That it really listens on."""
        limit_repeats(LOG, logging.getLogger("uvicorn.error"), logging.getLogger("asyncio"))
        connections = Connections(LOG, connections_per_port(raise_descriptor_limit()))
        app = make_app(Api(line, line_options), options)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            loop="asyncio",
            http=type("Protocol", (_Protocol,), {"limits": connections}),
            server_header=False,
            timeout_keep_alive=round(IDLE_S),
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=16_384,
        )
        self._server = _Server(config, connections)
        self._thread = threading.Thread(target=self._work, name="dashboard", daemon=True)
        self._thread.start()
        until = time.monotonic() + STARTING_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < until:
            time.sleep(0.005)

    def close(self, timeout_s: float = 3.0) -> None:
        """Answer no more. Closing twice is fine."""
        self._server.should_exit = True
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._socket.close()

    def _work(self) -> None:
        self._server.run(sockets=[self._socket])


def _listen(options: DashboardOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.host, options.port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise OutputError(f"{options.listen}: cannot listen there ({error.strerror}); choose another port") from None
    return listener
