"""Verdicts into an OPC UA server's variables. `seq` is written last: who sees it change sees all the rest."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import math
from collections.abc import Sequence
from typing import Any

from ...errors import MissingExtraError
from .follower import Record, SinkError
from .options import OpcUaOptions

try:
    from asyncua import ua
    from asyncua.sync import Client
    from asyncua.ua.uaerrors import UaError
except ImportError:
    raise MissingExtraError("asyncua", "opcua") from None

FAILURES = (
    UaError,
    OSError,
    asyncio.TimeoutError,
    concurrent.futures.TimeoutError,
    concurrent.futures.CancelledError,
)


class OpcUaSink:
    """Writes to one server."""

    def __init__(self, options: OpcUaOptions) -> None:
        self._options = options
        self._client: Client | None = None
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it logs each failure at length; ours is a line

    def open(self) -> None:
        """Connect."""
        self._client = client = Client(self._options.url, timeout=self._options.timeout_s)
        if self._options.user:
            client.set_user(self._options.user)
            client.set_password(self._options.password)
        try:
            client.connect()
        except (*FAILURES, RuntimeError) as error:
            self._client = None
            client.tloop.stop()
            raise SinkError(f"the OPC UA server cannot be reached ({_words(error)})") from None

    def tell(self, records: Sequence[Record]) -> int:
        """Write the first."""
        record = records[0]
        options = self._options
        score = math.nan if record["score"] is None else record["score"]
        values = [
            (options.verdict, ua.Variant(json.dumps(record, allow_nan=False), ua.VariantType.String)),
            (options.decision, ua.Variant(record["decision"], ua.VariantType.String)),
            (options.score, ua.Variant(score, ua.VariantType.Double)),
            (options.part, ua.Variant(record["part"], ua.VariantType.String)),
        ]
        self._write(values)
        self._write([(options.seq, ua.Variant(record["seq"], ua.VariantType.Int64))])
        return 1

    def beat(self, count: int) -> None:
        """Write the count."""
        self._write([(self._options.heartbeat, ua.Variant(count, ua.VariantType.Int64))])

    def close(self) -> None:
        """Disconnect, and end the library's thread."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            client.disconnect()
        except (*FAILURES, RuntimeError):
            client.tloop.stop()

    def _write(self, values: Sequence[tuple[str, Any]]) -> None:
        """Write those that have a node, in one request."""
        wanted = [(node, value) for node, value in values if node]
        if not wanted:
            return
        assert self._client is not None, "opened"
        try:
            nodes = [self._client.get_node(node) for node, _ in wanted]
            self._client.write_values(nodes, [ua.DataValue(value) for _, value in wanted])
        except FAILURES as error:
            raise SinkError(
                f"the OPC UA server refuses {', '.join(node for node, _ in wanted)} ({_words(error)})"
            ) from None


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
