"""Verdicts into a PLC's holding registers by Modbus TCP, each in one write request. All numbers are big-endian.

    offset  registers  contents
    0       1          heartbeat: counts, 0 to 65535 and round again
    1       2          seq: the verdict's number, unsigned 32 bits
    3       1          decision: 1 pass, 2 reject, 3 fault
    4       2          score, 32-bit float; NaN of a fault
    6       2          threshold, 32-bit float
    8       1          CRC-32 of "CAMERA/REGION", its low 16 bits: which part of which camera
    9       12         the part's id, ASCII, filled up with zeros
    21      1          reserved, 0
    22      2          acknowledge: the PLC writes the seq that it has dealt with here, if `handshake` is on

Without the handshake a PLC that looks less often than verdicts come sees the newest alone; with it none is overwritten
before it was dealt with. seq is written in the same request as the rest: a PLC never sees half a verdict.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Sequence
from typing import Any

from ...errors import MissingExtraError
from .follower import Record, SinkError
from .options import ModbusOptions

try:
    from pymodbus.client import ModbusTcpClient
    from pymodbus.exceptions import ModbusException
except ImportError:
    raise MissingExtraError("pymodbus", "modbus") from None

DECISIONS = {"pass": 1, "reject": 2, "fault": 3}
PART_BYTES = 24
VERDICT, ACKNOWLEDGE = 1, 22
"""Offsets of what is written for a verdict, and of what the PLC writes."""
POLL_S = 0.005


def encode(record: Record) -> list[int]:
    """A verdict as registers 1 to 21."""
    score = float("nan") if record["score"] is None else record["score"]
    place = zlib.crc32(f"{record['camera']}/{record['region']}".encode()) & 0xFFFF
    part = record["part"].encode("ascii", "replace")[:PART_BYTES].ljust(PART_BYTES, b"\0")
    seq, decision = record["seq"] & 0xFFFFFFFF, DECISIONS[record["decision"]]
    data = struct.pack(f">IHffH{PART_BYTES}sH", seq, decision, score, record["threshold"], place, part, 0)
    return list(struct.unpack(f">{len(data) // 2}H", data))


class ModbusSink:
    """Writes to one PLC."""

    def __init__(self, options: ModbusOptions) -> None:
        self._options = options
        self._client: Any = None  # pymodbus tells no types

    def open(self) -> None:
        """Connect."""
        options = self._options
        self._client = ModbusTcpClient(options.host, port=options.port, timeout=options.timeout_s, retries=0)
        if not self._client.connect():
            raise SinkError(f"the PLC {self._options.host}:{self._options.port} cannot be reached")

    def tell(self, records: Sequence[Record]) -> int:
        """Write the first; with the handshake, when the PLC has dealt with it."""
        record = records[0]
        self._write(VERDICT, encode(record))
        if self._options.handshake:
            self._await(record["seq"] & 0xFFFFFFFF)
        return 1

    def beat(self, count: int) -> None:
        """Write the count."""
        self._write(0, [count & 0xFFFF])

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _await(self, seq: int) -> None:
        until = time.monotonic() + self._options.timeout_s
        while True:
            high, low = self._call("read_holding_registers", ACKNOWLEDGE, count=2).registers
            if high << 16 | low == seq:
                return
            if time.monotonic() > until:
                raise SinkError(f"the PLC {self._options.host} did not acknowledge verdict {seq}")
            time.sleep(POLL_S)

    def _write(self, offset: int, registers: list[int]) -> None:
        self._call("write_registers", offset, values=registers)

    def _call(self, function: str, offset: int, **arguments: Any) -> Any:  # noqa: ANN401
        address = self._options.address + offset
        try:
            answer = getattr(self._client, function)(address, device_id=self._options.unit, **arguments)
        except (ModbusException, OSError) as error:
            raise SinkError(f"the PLC {self._options.host} does not answer ({error})") from None
        if answer.isError():
            raise SinkError(f"the PLC {self._options.host} refuses registers from {address} on: {answer}")
        return answer
