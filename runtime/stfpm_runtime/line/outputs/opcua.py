"""Verdicts into an OPC UA server's variables, each verdict in one write request.

The types of the nodes are read when the server is connected. A node whose type does not hold the value exactly is
refused then, before anything is written:

    key                    types
    verdict, part, drift   String
    decision               String; an integer of any size: 1 pass, 2 reject, 3 fault
    seq                    Int32, UInt32, Int64, UInt64
    score                  Double; Float, since a model's scores are 32-bit floats; NaN of a fault
    relative_score         Double or Float; NaN where there is none
    age                    ms as Int32, UInt32, Int64, UInt64; the type's largest number: unknown, or older
    heartbeat              an integer of any size, which begins again at 0 beyond its largest number

`seq` is the last of a request: a client that sees it change can read the rest.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import math
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from stfpm_runtime.errors import MissingExtraError, OptionError, UnavailableError
from stfpm_runtime.line.config.outputs import OpcUaOptions
from stfpm_runtime.line.journal.rows import Record

from .base import OutputDriver

try:
    from asyncua import ua
    from asyncua.sync import Client, ThreadLoopNotRunning
    from asyncua.ua.uaerrors import UaError
except ImportError:
    raise MissingExtraError("asyncua", "opcua") from None

BATCH = 50
"""Verdicts that are written before the cursor moves on."""
FAILURES = (
    UaError, OSError, asyncio.TimeoutError, concurrent.futures.TimeoutError, concurrent.futures.CancelledError,
    ThreadLoopNotRunning,
)  # fmt: skip
T = TypeVar("T")
Kind = ua.VariantType
LARGEST = {
    Kind.SByte: 2**7 - 1, Kind.Int16: 2**15 - 1, Kind.Int32: 2**31 - 1, Kind.Int64: 2**63 - 1,
    Kind.Byte: 2**8 - 1, Kind.UInt16: 2**16 - 1, Kind.UInt32: 2**32 - 1, Kind.UInt64: 2**64 - 1,
}  # fmt: skip
"""The largest number of each type of integer."""
WIDE = (Kind.Int64, Kind.Int32, Kind.UInt32, Kind.UInt64)
TYPES = {
    "verdict": (Kind.String,), "part": (Kind.String,), "drift": (Kind.String,),
    "decision": (Kind.String, *LARGEST), "score": (Kind.Double, Kind.Float), "age": WIDE, "seq": WIDE,
    "relative_score": (Kind.Double, Kind.Float), "heartbeat": (Kind.Int64, *LARGEST),
}  # fmt: skip
"""The types that each node may have; the first is taken where the server demands none."""
CODES = {"pass": 1, "reject": 2, "fault": 3}
MAY_WRITE = 2
"""The bit of the access level that allows writing."""


class OpcUaOutput(OutputDriver):
    """Writes to the nodes of one server."""

    batch = BATCH

    def __init__(self, options: OpcUaOptions) -> None:
        """Store where the server is. Raises OptionError for a text that is no node's id."""
        self.name, self.heartbeat_s, self.max_age_s = options.name, options.heartbeat_s, options.max_age_s
        self._options = options
        self._client: Client | None = None
        self._nodes: dict[str, ua.NodeId] = {}
        self._kinds: dict[str, ua.VariantType] = {}
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it logs each failure at length
        for key in TYPES:
            if text := getattr(options, key):
                try:
                    self._nodes[key] = ua.NodeId.from_string(text)
                except Exception:  # asyncua raises several kinds without a common base
                    remedy = "expected a node's id, say ns=2;s=Line3.Seq"
                    raise OptionError(f"{options.name}: {key}: got {text!r}; {remedy}") from None

    def open(self) -> None:
        """Connect, and read the types of all nodes. Raises UnavailableError where one cannot hold its value."""
        self._client = client = Client(self._options.url, timeout=self._options.timeout_s)
        if self._options.user:
            client.set_user(self._options.user)
            client.set_password(self._options.password)
        try:
            client.connect()
        except (*FAILURES, RuntimeError) as error:
            self._client = None
            client.tloop.stop()
            raise UnavailableError(f"the OPC UA server cannot be reached ({_words(error)})") from None
        self._kinds = self._call(self._read_kinds())

    def send_verdicts(self, records: Sequence[Record]) -> list[str]:
        """Write verdicts one after the other, each in one request, up to the first that is refused."""
        return self._call(self._tell(records))

    def send_event(self, record: Record) -> str:
        """Write the detail of an event."""
        return self._call(self._write({"drift": record["detail"]}))

    def send_heartbeat(self, count: int) -> None:
        """Write the count."""
        kind = self._kinds.get("heartbeat")
        if kind and (refusal := self._call(self._write({"heartbeat": count % (LARGEST[kind] + 1)}))):
            raise UnavailableError(refusal)

    def close(self) -> None:
        """Disconnect, and end the library's thread."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            client.disconnect()
        except (*FAILURES, RuntimeError):
            client.tloop.stop()

    async def _read_kinds(self) -> dict[str, ua.VariantType]:
        """Read the type of each node. Raises UnavailableError for one that cannot be written exactly."""
        assert self._client is not None, "opened"
        kinds = {}
        for key, node_id in self._nodes.items():
            node, text = self._client.aio_obj.get_node(node_id), getattr(self._options, key)
            ids = ua.attribute_ids.AttributeIds
            try:
                kind = await node.read_data_type_as_variant_type()
                rank, access = [
                    (await node.read_attribute(number, raise_on_bad_status=False)).Value
                    for number in (ids.ValueRank, ids.UserAccessLevel)
                ]
            except (UaError, ValueError) as error:
                raise UnavailableError(f"the OPC UA server refuses {text} ({_words(error)})") from None
            known = TYPES[key]
            if kind is Kind.Variant:
                kind = known[0]
            expected = f"expected {', '.join(dict.fromkeys(kind.name for kind in known))}"
            if kind not in known:
                raise UnavailableError(f"{key}: the node {text} is of type {kind.name}; {expected}")
            if rank is not None and rank.Value is not None and rank.Value >= 0:
                raise UnavailableError(f"{key}: the node {text} is an array; {expected}")
            if access is not None and access.Value is not None and not access.Value & MAY_WRITE:
                raise UnavailableError(f"{key}: the node {text} cannot be written; allow it to this user")
            kinds[key] = kind
        return kinds

    async def _tell(self, records: Sequence[Record]) -> list[str]:
        """Write verdicts up to the first that is refused."""
        refusals = []
        for record in records:
            refusals.append(await self._write(self._values(record)))
            if refusals[-1]:
                break
        return refusals

    def _values(self, record: Record) -> dict[str, Any]:
        """Return what is written for a verdict, by key; `seq` is the last."""
        largest_age = LARGEST[self._kinds.get("age", Kind.Int64)]
        return {
            "verdict": json.dumps(record, allow_nan=False) if "verdict" in self._kinds else "",
            "decision": record["decision"] if self._kinds.get("decision") is Kind.String else CODES[record["decision"]],
            **{key: math.nan if record[key] is None else record[key] for key in ("score", "relative_score")},
            "part": record["part"],
            "age": min(largest_age if record["age_ms"] is None else record["age_ms"], largest_age),
            "seq": record["seq"],
        }

    async def _write(self, values: dict[str, Any]) -> str:
        """Write the values that have a node in one request; returns why one is refused for good, or an empty text."""
        assert self._client is not None, "opened"
        keys = [key for key in values if key in self._kinds]
        if not keys:
            return ""
        for key in keys:
            if (largest := LARGEST.get(self._kinds[key])) is not None and values[key] > largest:
                return f"{key}: {values[key]} does not fit into the node's type {self._kinds[key].name}"
        data = [ua.DataValue(ua.Variant(values[key], self._kinds[key])) for key in keys]
        nodes = [self._nodes[key] for key in keys]
        for key, status in zip(keys, await self._client.aio_obj.uaclient.write_attributes(nodes, data), strict=True):
            if not status.is_good():
                return f"the OPC UA server refuses {getattr(self._options, key)} ({status.name})"
        return ""

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the library's own thread. Raises UnavailableError where the server is gone."""
        assert self._client is not None, "opened"
        try:
            return self._client.tloop.post(work)
        except FAILURES as error:
            if isinstance(error, ThreadLoopNotRunning):
                work.close()
            raise UnavailableError(f"the OPC UA server does not answer ({_words(error)})") from None


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
