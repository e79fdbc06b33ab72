"""The dashboard's server: uvicorn in a thread of its own, whose pool draws and reads for whoever asks."""

from __future__ import annotations

import socket
import threading
import time

from ...errors import MissingExtraError, OutputError
from ..config import LineOptions
from ..loop import Line
from .api import Api
from .app import make_app
from .options import DashboardOptions

try:
    import uvicorn
except ImportError:
    raise MissingExtraError("uvicorn", "dashboard") from None

CONNECTIONS = 100
"""At a time; those beyond are answered 503."""
STARTING_S = 10.0
IDLE_S = 15
"""A connection that says nothing for so long is closed."""


class Dashboard:
    """Serves one line until it is closed. Raises OutputError where it cannot listen."""

    def __init__(self, options: DashboardOptions, line: Line, line_options: LineOptions) -> None:
        self._socket = _listen(options)
        self.port: int = self._socket.getsockname()[1]
        """That it really listens on."""
        app = make_app(Api(line, line_options), options)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            loop="asyncio",
            http="h11",
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=16_384,
        )
        self._server = uvicorn.Server(config)
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
