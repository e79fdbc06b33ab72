"""Verdicts by HTTP POST: {"verdicts": [{...}, ...]}, oldest first. Any 2xx acknowledges all of them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from urllib.parse import urlsplit

from .follower import Record, SinkError
from .options import WebhookOptions


class WebhookSink:
    """Posts to one address, over one connection."""

    def __init__(self, options: WebhookOptions) -> None:
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
            raise SinkError(f"{self._host} cannot be reached ({_words(error)})") from None

    def tell(self, records: Sequence[Record]) -> int:
        """Post some of them, and read the answer to its end."""
        assert self._connection is not None, "opened"
        records = records[: self._options.batch]
        headers = {"Content-Type": "application/json"}
        if self._options.token:
            headers["Authorization"] = f"Bearer {self._options.token}"
        body = json.dumps({"verdicts": records}, allow_nan=False).encode()
        try:
            self._connection.request("POST", self._path, body, headers)
            answer = self._connection.getresponse()
            answer.read(1 << 20)
        except (OSError, http.client.HTTPException) as error:
            raise SinkError(f"{self._host}: the request broke off ({_words(error)})") from None
        if not 200 <= answer.status < 300:
            raise SinkError(f"{self._host} answers {answer.status} {answer.reason}; expected 2xx")
        return len(records)

    def beat(self, count: int) -> None:
        """A webhook has no heartbeat: whoever listens asks /healthz."""

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
