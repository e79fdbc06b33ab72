"""Verdicts into an OPC UA server's variables, each in one request, whose last is `seq`: who sees it change sees all."""

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

BATCH = 50
"""Verdicts that are written before the cursor moves on."""
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
        """Write some, one after the other, each in one request."""
        records = records[:BATCH]
        self._write([self._values(record) for record in records])
        return len(records)

    def beat(self, count: int) -> None:
        """Write the count."""
        self._write([[(self._options.heartbeat, ua.Variant(count, ua.VariantType.Int64))]])

    def close(self) -> None:
        """Disconnect, and end the library's thread."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            client.disconnect()
        except (*FAILURES, RuntimeError):
            client.tloop.stop()

    def _values(self, record: Record) -> list[tuple[str, Any]]:
        options, kinds = self._options, ua.VariantType
        score = math.nan if record["score"] is None else record["score"]
        return [
            (options.verdict, ua.Variant(json.dumps(record, allow_nan=False), kinds.String)),
            (options.decision, ua.Variant(record["decision"], kinds.String)),
            (options.score, ua.Variant(score, kinds.Double)),
            (options.part, ua.Variant(record["part"], kinds.String)),
            (options.seq, ua.Variant(record["seq"], kinds.Int64)),
        ]

    def _write(self, requests: Sequence[Sequence[tuple[str, Any]]]) -> None:
        """Write the values of each request that have a node, in their order, all on the library's own thread."""
        client = self._client
        assert client is not None, "opened"

        async def write() -> None:
            for request in requests:
                wanted = [(client.aio_obj.get_node(node), ua.DataValue(value)) for node, value in request if node]
                if wanted:
                    await client.aio_obj.write_values([node for node, _ in wanted], [value for _, value in wanted])

        try:
            client.tloop.post(write())
        except FAILURES as error:
            nodes = ", ".join(node for node, _ in requests[0] if node)
            raise SinkError(f"the OPC UA server refuses {nodes} ({_words(error)})") from None


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
