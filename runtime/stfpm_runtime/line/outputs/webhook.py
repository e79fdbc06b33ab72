"""Verdicts by HTTP POST: {"verdicts": [{...}, ...]}, oldest first. Any 2xx acknowledges all of them.

A drift alarm, and its end, is {"events": [{...}]}. An answer of 4xx other than 408 and 429 refuses for good.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from stfpm_runtime.errors import UnavailableError
from stfpm_runtime.line.config.outputs import WebhookOptions
from stfpm_runtime.line.journal.rows import Record

from .base import OutputDriver

RETRIED = (408, 429)
"""Statuses of 4xx that may change by themselves: a timeout, and too many requests."""


class WebhookOutput(OutputDriver):
    """Posts to one address, over one connection."""

    def __init__(self, options: WebhookOptions) -> None:
        """Store the address."""
        self.name, self.max_age_s, self.batch = options.name, options.max_age_s, options.batch
        self._options = options
        parts = urlsplit(options.url)
        self._host, self._port = parts.hostname or "", parts.port
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._connection: http.client.HTTPConnection | None = None

    def open(self) -> None:
        """Connect."""
        self._connection = self._kind(self._host, self._port, timeout=self._options.timeout_s)
        try:
            self._connection.connect()
        except OSError as error:
            raise UnavailableError(f"{self._host} cannot be reached ({_words(error)})") from None

    def send_verdicts(self, records: Sequence[Record]) -> list[str]:
        """Post verdicts in one request."""
        return [self._post({"verdicts": records})] * len(records)

    def send_event(self, record: Record) -> str:
        """Post an event."""
        return self._post({"events": [record]})

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, content: Mapping[str, Sequence[Record]]) -> str:
        """Post within `timeout_s` as a whole; return why it is refused for good, or an empty text."""
        connection = self._connection
        assert connection is not None, "opened"
        headers = {"Content-Type": "application/json"}
        if self._options.token:
            headers["Authorization"] = f"Bearer {self._options.token}"
        body = json.dumps(content, allow_nan=False).encode()
        expired = threading.Event()
        timer = threading.Timer(self._options.timeout_s, _abort, (connection, expired))  # a socket's own timeout is
        timer.daemon = True  # for each byte: a side that sends one a second would never end
        timer.start()
        try:
            connection.request("POST", self._path, body, headers)
            answer = connection.getresponse()
            answer.read(1 << 20)
            if not answer.isclosed():  # a longer answer: its rest is not read as the next answer
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            late = expired.is_set() or isinstance(error, TimeoutError)
            what = f"no whole answer within {self._options.timeout_s:g} s" if late else _words(error)
            raise UnavailableError(f"{self._host}: the request broke off ({what})") from None
        finally:
            timer.cancel()
        if expired.is_set():
            raise UnavailableError(
                f"{self._host}: the request broke off (no whole answer within {self._options.timeout_s:g} s)"
            )
        text = f"{self._host} answers {answer.status} {_printable(answer.reason)}; expected 2xx"
        if 400 <= answer.status < 500 and answer.status not in RETRIED:
            return text
        if not 200 <= answer.status < 300:
            raise UnavailableError(text)
        return ""


def _abort(connection: http.client.HTTPConnection, expired: threading.Event) -> None:
    """Interrupt a request from another thread."""
    expired.set()
    if (open_socket := connection.sock) is not None:
        with contextlib.suppress(OSError):
            open_socket.shutdown(socket.SHUT_RDWR)


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:80]


def _words(error: Exception) -> str:
    return _printable(str(error)) or type(error).__name__
