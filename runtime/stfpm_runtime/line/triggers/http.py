"""Triggers by HTTP: `POST /trigger/CAMERA` with a part id, answered with its verdicts once they are journalled.

    curl -X POST localhost:8765/trigger/left -H 'Content-Type: application/json' -d '{"part": "A-1017"}'
    {"decision": "pass", "verdicts": [{"seq": 812, "camera": "left", "region": "cap", "part": "A-1017", ...}]}

200 with the worst decision of its regions, fault included; 503 where too many wait, 504 where none came in time (it is
journalled all the same, if it comes). A request that is not understood fires nothing: 400, 411, 413, 415.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stfpm_runtime.errors import OutputError, TriggerError
from stfpm_runtime.line.config.line import HttpOptions
from stfpm_runtime.line.journal.rows import Record
from stfpm_runtime.line.observers.logs import limit_repeats
from stfpm_runtime.line.web.authorizer import AuthorizationError, Authorizer
from stfpm_runtime.line.web.connections import (
    BODY_S,
    BUSY,
    IDLE_S,
    Connection,
    Connections,
    connections_per_port,
    raise_descriptor_limit,
)

from .base import NOT_TAKEN, QueuedTrigger, TriggerRequest
from .part_id import parse_part

LOG = logging.getLogger("stfpm.http")
MOST_BYTES = 4096
"""Of a request's body."""
CLOSING_S = 1.0
"""Seconds that requests which are being answered have at the stop."""
ANSWER_S = 30.0
"""Beyond the camera's own timeout: a line that has not answered by then is overloaded."""
WORST_FIRST = ("fault", "reject", "pass")


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class TriggerServer:
    """Listens in a thread of its own, and answers each request in one more. Raises OutputError where it cannot."""

    def __init__(self, options: HttpOptions, triggers: Mapping[str, QueuedTrigger], answer_s: float = ANSWER_S) -> None:
        limit_repeats(LOG)
        fields = {"access": Authorizer(options, LOG), "triggers": triggers, "answer_s": answer_s}
        try:
            self._server = _Server((options.host, options.port), type("Handler", (_Handler,), fields))
        except OSError as error:
            raise OutputError(
                f"{options.listen}: cannot listen there ({error.strerror}); choose another port"
            ) from None
        self.port: int = self._server.server_address[1]
        """That it really listens on."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more requests; those that are being answered have `CLOSING_S`."""
        self._server.shutdown()
        self._server.server_close()
        self._server.connections.close(CLOSING_S)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a peer that reads its answer slowly must not hold up the stop
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.connections = Connections(LOG, connections_per_port(raise_descriptor_limit()))
        self.admitted: dict[Any, Connection] = {}
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:  # no file descriptor, say: the listener stays readable, and would be asked without a pause
            time.sleep(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 (as the base class has it)
        connection = self.connections.admit(client_address[0], lambda: _break_off(request))
        if connection is None:
            with contextlib.suppress(OSError):
                request.setblocking(False)
                request.send(BUSY)
            self.shutdown_request(request)
            return
        self.admitted[request] = connection
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        super().shutdown_request(request)
        if connection := self.admitted.pop(request, None):
            self.connections.release(connection)

    def service_actions(self) -> None:
        self.connections.close_overdue()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        LOG.warning("a request from %s broke off", client_address[0])


def _break_off(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may be closed already
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    access: Authorizer
    triggers: Mapping[str, QueuedTrigger]
    answer_s: float
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Fire, and answer with the verdicts."""
        self._expect(BODY_S)
        try:
            answer = self._fire()
        except (_RefusedError, AuthorizationError) as refused:
            self.close_connection = True  # its body may not have been read
            if isinstance(refused, AuthorizationError):
                time.sleep(refused.delay_s)
            self._send(refused.status, {"error": str(refused)})
        else:
            self._send(HTTPStatus.OK, answer)
        self._expect(IDLE_S)

    def _expect(self, timeout_s: float, answering: bool = False) -> None:
        if connection := self.server.admitted.get(self.connection):
            self.server.connections.expect(connection, timeout_s, answering)

    def _fire(self) -> dict[str, Any]:
        at_ns = time.monotonic_ns()
        header = self.headers.get
        self.access.check(self.client_address[0], header("Host", ""), header("Origin", ""), header("Authorization", ""))
        trigger = self._trigger()
        part = self._part()
        self._expect(self.answer_s + BODY_S, answering=True)
        answers: queue.SimpleQueue[Sequence[Record]] = queue.SimpleQueue()
        if not trigger.put(TriggerRequest(at_ns, part, answers.put)):
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, f"{NOT_TAKEN}; not judged")
        try:
            verdicts = answers.get(timeout=self.answer_s)
        except queue.Empty:
            message = f"no verdict within {self.answer_s:g} s; look into the journal"
            raise _RefusedError(HTTPStatus.GATEWAY_TIMEOUT, message) from None
        decisions = {verdict["decision"] for verdict in verdicts}
        return {"decision": next(worst for worst in WORST_FIRST if worst in decisions), "verdicts": verdicts}

    def _trigger(self) -> QueuedTrigger:
        path, question_mark, _ = self.path.partition("?")
        place, _, camera = path.rpartition("/")
        if place != "/trigger" or camera not in self.triggers:
            known = ", ".join(f"/trigger/{name}" for name in self.triggers)
            raise _RefusedError(HTTPStatus.NOT_FOUND, f"expected one of {known}")
        if question_mark:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, 'got a query; expected {"part": "ID"} as the body')
        return self.triggers[camera]

    def _part(self) -> str:
        """Return the part id that the body carries; a request without a body is a part without one."""
        if "Transfer-Encoding" in self.headers:
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "got a chunked body; expected the header Content-Length")
        lengths = self.headers.get_all("Content-Length", ["0"])
        length = lengths[0].strip()
        if len(set(lengths)) > 1 or not (length.isascii() and length.isdecimal()):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, f"got Content-Length {length[:40]!r}; expected a whole number")
        if len(length) > 9 or int(length) > MOST_BYTES:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a body of up to {MOST_BYTES} bytes")
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and (int(length) or kind):
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/json")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "the body ended before its Content-Length")
        try:
            return parse_part(body)
        except TriggerError as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from None

    def _send(self, status: HTTPStatus, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """Not which Python this is."""
        return "stfpm-inspect"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what was asked for is in the journal."""
