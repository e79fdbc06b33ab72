"""Triggers by HTTP: `POST /trigger/CAMERA` with a part id, answered with its verdicts once they are journalled.

    curl -X POST localhost:8765/trigger/left -d '{"part": "A-1017"}'
    {"decision": "pass", "verdicts": [{"seq": 812, "camera": "left", "region": "cap", "part": "A-1017", ...}]}

200 with the worst decision of its regions, fault included; 503 where too many wait, 504 where none came in time (it is
journalled all the same, if it comes).
"""

from __future__ import annotations

import hmac
import json
import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ..errors import OutputError
from .config import HttpOptions
from .shots import Firing, Record
from .triggers import Posted

LOG = logging.getLogger("stfpm.http")
MOST_BYTES = 4096
"""Of a request's body."""
PART_LENGTH = 200
"""Characters of a part's id."""
SOCKET_S = 30.0
"""A connection that says nothing for so long is closed."""
ANSWER_S = 30.0
"""Beyond the camera's own timeout: a line that has not answered by then is overloaded."""
WORST_FIRST = ("fault", "reject", "pass")


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class TriggerServer:
    """Listens in a thread of its own, and answers each request in one more. Raises OutputError where it cannot."""

    def __init__(self, options: HttpOptions, triggers: Mapping[str, Posted], answer_s: float = ANSWER_S) -> None:
        handler = type("Handler", (_Handler,), {"options": options, "triggers": triggers, "answer_s": answer_s})
        try:
            self._server = _Server((options.host, options.port), handler)
        except OSError as error:
            raise OutputError(
                f"{options.listen}: cannot listen there ({error.strerror}); choose another port"
            ) from None
        self.port: int = self._server.server_address[1]
        """That it really listens on."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more requests; those that are being answered still are."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a peer that reads its answer slowly must not hold up the stop

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 (as the base class has it)
        LOG.warning("a request from %s broke off", client_address[0])


class _Handler(BaseHTTPRequestHandler):
    options: HttpOptions
    triggers: Mapping[str, Posted]
    answer_s: float
    protocol_version = "HTTP/1.1"
    timeout = SOCKET_S

    def do_POST(self) -> None:
        """Fire, and answer with the verdicts."""
        try:
            answer = self._fire()
        except _RefusedError as refused:
            self.close_connection = True  # its body may not have been read
            self._send(refused.status, {"error": str(refused)})
        else:
            self._send(HTTPStatus.OK, answer)

    def _fire(self) -> dict[str, Any]:
        at_ns = time.monotonic_ns()
        self._check_token()
        trigger = self._trigger()
        part = self._part()
        answers: queue.SimpleQueue[Sequence[Record]] = queue.SimpleQueue()
        if not trigger.put(Firing(at_ns, part, answers.put)):
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "too many wait, or the line is stopping; not judged")
        try:
            verdicts = answers.get(timeout=self.answer_s)
        except queue.Empty:
            message = f"no verdict within {self.answer_s:g} s; look into the journal"
            raise _RefusedError(HTTPStatus.GATEWAY_TIMEOUT, message) from None
        decisions = {verdict["decision"] for verdict in verdicts}
        return {"decision": next(worst for worst in WORST_FIRST if worst in decisions), "verdicts": verdicts}

    def _check_token(self) -> None:
        expected, got = f"Bearer {self.options.token}", self.headers.get("Authorization", "")
        if self.options.token and not hmac.compare_digest(expected.encode(), got.encode("utf-8", "replace")):
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "expected the header Authorization: Bearer TOKEN")

    def _trigger(self) -> Posted:
        place, _, camera = self.path.partition("?")[0].rpartition("/")
        if place != "/trigger" or camera not in self.triggers:
            known = ", ".join(f"/trigger/{name}" for name in self.triggers)
            raise _RefusedError(HTTPStatus.NOT_FOUND, f"expected one of {known}")
        return self.triggers[camera]

    def _part(self) -> str:
        """The part's id: JSON {"part": "..."}; an empty body is a part without one."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a body of up to {MOST_BYTES} bytes")
        body = self.rfile.read(int(length))
        try:
            content = json.loads(body) if body else {}
        except ValueError:
            content = None
        part = content.get("part", "") if isinstance(content, dict) else None
        if not isinstance(part, str) or len(part) > PART_LENGTH or not (part.isprintable() or not part):
            raise _RefusedError(
                HTTPStatus.BAD_REQUEST, f'expected {{"part": "ID"}}, up to {PART_LENGTH} printable characters'
            )
        return part

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
