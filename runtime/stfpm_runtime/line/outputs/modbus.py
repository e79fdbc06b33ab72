"""Verdicts into a PLC's holding registers by Modbus TCP, each in one write request. All numbers are big-endian.

    offset  registers  contents
    0       1          heartbeat: rises while the line can judge and journal, 0 to 65535 and round again
    1       2          seq: the verdict's number, unsigned 32 bits
    3       1          decision: 1 pass, 2 reject, 3 fault
    4       2          score, 32-bit float; NaN of a fault
    6       2          threshold, 32-bit float
    8       1          CRC-32 of "CAMERA/REGION", its low 16 bits: which part of which camera
    9       P          the part's id, ASCII, filled up with zeros; P is part_length / 2, by default 12
    9 + P   1          places whose scores drift, 0 where all is well
    10 + P  2          acknowledge: the PLC writes the seq that it has dealt with here, if `handshake` is on
    12 + P  2          age of the verdict in ms when it was written, unsigned 32 bits; 0xFFFFFFFF: unknown, or older
    14 + P  2          if `relative_score` is on: score / threshold, 32-bit float, above 1 where the score is above the
                       threshold; NaN of a fault, and where the threshold is not above 0

An id that is longer than part_length, or not ASCII, is never cut: the verdict is written as a fault without a score,
and its id is the one character 26 (SUBSTITUTE). The journal keeps the verdict and the id as they are.

Without the handshake a PLC that looks less often than verdicts come sees the newest alone; with it none is overwritten
before it was dealt with. seq is written in the same request as the rest: a PLC never sees half a verdict. The registers
behind the acknowledge are written in a request before that one. A PLC whose registers end before them goes without.
"""

from __future__ import annotations

import math
import struct
import time
import zlib
from collections.abc import Sequence
from typing import Any

from stfpm_runtime.errors import UnavailableError
from stfpm_runtime.line.clients.modbus import ModbusClient
from stfpm_runtime.line.config.outputs import ModbusOptions
from stfpm_runtime.line.journal.health import CountedEvent
from stfpm_runtime.line.journal.rows import LogEvent, Record

from .base import OutputDriver

DECISIONS = {"pass": 1, "reject": 2, "fault": 3}
VERDICT, PART = 1, 9
"""Offsets of a verdict's registers, and of its id among them."""
NO_ROOM = b"\x1a"
"""What is written in place of an id that does not fit."""
UNKNOWN_AGE = 0xFFFF_FFFF
FLOAT_MAX = 3.402823466e38
ILLEGAL_ADDRESS = 2
REFUSALS = (1, ILLEGAL_ADDRESS, 3)
"""Exception codes that will not change: illegal function, address, value. Busy and the like may."""
POLL_S = 0.005


def id_bytes(part: str, length: int) -> bytes | None:
    """Return the id as `length` bytes of ASCII, filled up with zeros, or None where it does not fit."""
    data = part.encode("ascii", "replace")
    if not part.isascii() or len(data) > length or b"\0" in data or NO_ROOM in data:
        return None
    return data.ljust(length, b"\0")


def encode(record: Record, drifting: int = 0, part_length: int = 24) -> list[int]:
    """Return a verdict as the registers from 1 on, with the number of places that drift."""
    decision, score, part = record["decision"], record["score"], id_bytes(record["part"], part_length)
    if part is None:
        decision, score, part = "fault", None, NO_ROOM.ljust(part_length, b"\0")
    place = zlib.crc32(f"{record['camera']}/{record['region']}".encode()) & 0xFFFF
    numbers = record["seq"] & 0xFFFFFFFF, DECISIONS[decision], _float32(score), _float32(record["threshold"])
    data = struct.pack(f">IHffH{part_length}sH", *numbers, place, part, drifting)
    return list(struct.unpack(f">{len(data) // 2}H", data))


class ModbusOutput(OutputDriver):
    """Writes to one PLC."""

    def __init__(self, options: ModbusOptions, log_event: LogEvent) -> None:
        """Store where the registers are."""
        self.name, self.heartbeat_s, self.max_age_s = options.name, options.heartbeat_s, options.max_age_s
        self._options = options
        self._client = ModbusClient(options)
        self._where = self._client.where
        self._log_event = log_event
        text = f"written as fault: the part's id does not fit into {options.part_length} characters of ASCII"
        self._misfits = CountedEvent(lambda words: log_event("output", f"{options.name}: {words}"), text)
        self._drifting: set[str] = set()
        self._drift = PART + options.part_length // 2
        self._acknowledge = self._drift + 1
        self._age = self._acknowledge + 2
        self._has_age = True

    def open(self) -> None:
        """Connect."""
        self._client.open()

    def send_verdicts(self, records: Sequence[Record]) -> list[str]:
        """Write the first verdict; with the handshake, wait until the PLC has dealt with it."""
        record = records[0]
        self._write_age(record)
        if refusal := self._write(VERDICT, encode(record, len(self._drifting), self._options.part_length)):
            return [refusal]
        if self._options.handshake:
            self._await(record["seq"] & 0xFFFFFFFF)
        if id_bytes(record["part"], self._options.part_length) is None:
            self._misfits.add(record["seq"], record["seq"])
        return [""]

    def send_event(self, record: Record) -> str:
        """Write how many places drift; an event's detail begins with `alarm` or its end, and the place."""
        what, place, *_ = record["detail"].split(": ")
        self._drifting = self._drifting | {place} if what == "alarm" else self._drifting - {place}
        return self._write(self._drift, [len(self._drifting)])

    def send_heartbeat(self, count: int) -> None:
        """Write the count."""
        if refusal := self._write(0, [count & 0xFFFF]):
            raise UnavailableError(refusal)

    def close(self) -> None:
        """Close the connection."""
        self._misfits.report()
        self._client.close()

    def _write_age(self, record: Record) -> None:
        """Write the age, and the relative score where that is on, unless the PLC has no registers for them."""
        if not self._has_age:
            return
        age_ms = record.get("age_ms")
        age = UNKNOWN_AGE if age_ms is None else min(age_ms, UNKNOWN_AGE)
        registers = [age >> 16, age & 0xFFFF]
        if self._options.relative_score:
            is_fault = id_bytes(record["part"], self._options.part_length) is None
            data = struct.pack(">f", _float32(None if is_fault else record["relative_score"]))
            registers += struct.unpack(">2H", data)
        answer = self._call("write_registers", self._age, values=registers)
        if answer.isError() and answer.exception_code == ILLEGAL_ADDRESS:
            self._has_age = False
            first = self._options.address + self._age
            where = f"{self._where} has no registers {first} to {first + len(registers) - 1}"
            what = "age and relative score" if self._options.relative_score else "age"
            text = f"{where}; verdicts are written without their {what}"
            self._log_event("output", f"{self._options.name}: {text}")
        elif refusal := self._refusal(answer, self._age):
            raise UnavailableError(refusal)

    def _await(self, seq: int) -> None:
        """Wait until the PLC acknowledges. Raises UnavailableError when it does not in time."""
        until_s = time.monotonic() + self._options.timeout_s
        while True:
            answer = self._call("read_holding_registers", self._acknowledge, count=2)
            if refusal := self._refusal(answer, self._acknowledge):
                raise UnavailableError(refusal)
            if len(answer.registers) != 2:
                raise UnavailableError(f"{self._where} answers with {len(answer.registers)} registers; expected 2")
            high, low = answer.registers
            if high << 16 | low == seq:
                return
            if time.monotonic() > until_s:
                raise UnavailableError(f"{self._where} did not acknowledge verdict {seq}")
            time.sleep(POLL_S)

    def _write(self, offset: int, registers: list[int]) -> str:
        """Write registers in one request; returns why they are refused for good, or an empty text."""
        answer = self._call("write_registers", offset, values=registers)
        if refusal := self._refusal(answer, offset):
            return refusal
        if answer.count != len(registers):
            raise UnavailableError(f"{self._where} acknowledges {answer.count} of {len(registers)} registers")
        return ""

    def _refusal(self, answer: Any, offset: int) -> str:  # noqa: ANN401
        """Return why a request is refused for good, or an empty text. Raises UnavailableError where that may change."""
        if not answer.isError():
            return ""
        text = f"{self._where} refuses registers from {self._options.address + offset} on: {answer}"
        if answer.exception_code in REFUSALS:
            return text
        raise UnavailableError(text)

    def _call(self, function: str, offset: int, **arguments: Any) -> Any:  # noqa: ANN401
        return self._client.call(function, self._options.address + offset, **arguments)


def _float32(value: float | None) -> float:
    """Return the number where 32 bits hold it, an infinity beyond, NaN for None."""
    if value is None:
        return math.nan
    return value if abs(value) <= FLOAT_MAX else math.copysign(math.inf, value)
