"""A part's id at the PLC: never cut, never another's; and PLCs that answer less than they should."""

from __future__ import annotations

import math
import socket
import struct
import threading

import pytest

from runtime.line.outputs.conftest import floats, wait_until
from stfpm_runtime.line.config.outputs import ModbusOptions, OutputTables
from stfpm_runtime.line.config.toml_file import MistakeError
from stfpm_runtime.line.outputs.modbus import encode

RECORD = {
    "seq": 1,
    "camera": "top",
    "region": "cap",
    "decision": "pass",
    "score": 0.25,
    "threshold": 0.5,
    "part": "A-1",
}


def part_of(registers: list[int], length: int) -> bytes:
    return b"".join(register.to_bytes(2, "big") for register in registers[8 : 8 + length // 2])


LONG = ("4012345678901-LOT20261125-0001", "4012345678901-LOT20261125-0002")


@pytest.mark.parametrize("part", [*LONG, "WÄRME-1", "A\0B", "A\x1aB", "漢"])
def test_an_id_that_does_not_fit_is_a_fault_with_a_marker(part):
    registers = encode(RECORD | {"part": part})
    assert registers[2] == 3
    assert part_of(registers, 24) == b"\x1a".ljust(24, b"\0")
    assert registers[3] << 16 | registers[4] == 0x7FC00000, "not a number"


def test_ids_fit_where_the_length_is_configured():
    first, second = (encode(RECORD | {"part": part}, 7, 30) for part in LONG)
    assert first[2] == second[2] == 1
    assert part_of(first, 30) == LONG[0].encode()
    assert part_of(second, 30) == LONG[1].encode()
    assert first[-1] == 7, "and the drift follows"
    full = encode(RECORD | {"part": "x" * 24})
    assert part_of(full, 24) == b"x" * 24
    assert part_of(encode(RECORD | {"part": "0104012345\x1d21A1"}), 24).rstrip(b"\0") == b"0104012345\x1d21A1"


@pytest.mark.parametrize("length", [0, 1, 23, 230, -2])
def test_a_length_that_is_impossible_is_refused_at_the_start(length):
    with pytest.raises(MistakeError, match=r"expected an even number from 2 to 228"):
        ModbusOptions("plc", part_length=length)


def test_a_threshold_beyond_float32_is_no_crash():
    assert encode(RECORD | {"threshold": 1e300})[5:7] == [0x7F80, 0]
    assert encode(RECORD | {"threshold": None})[5:7] == [0x7FC0, 0]


def test_longer_ids_at_the_plc(make_peer, writer, follow):
    peer = make_peer("modbus")
    peer.start("acknowledge-30")
    options = ModbusOptions("127.0.0.1", port=peer.port, part_length=30, handshake=True)
    (worker,), events = follow(OutputTables(modbus=(options,)))
    for part in (*LONG, "x" * 31):
        writer.write(1, part=part)
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) == 3)
    written = [line["registers"] for line in peer.lines() if line["address"] == 1]
    assert [part_of(registers, 30) for registers in written[:2]] == [part.encode() for part in LONG]
    assert [registers[2] for registers in written] == [2, 2, 3]
    assert [line["address"] for line in peer.lines() if line["address"] > 1] == [27] * 3, "the age, after the rest"
    wait_until(lambda: events)
    assert events == ["modbus: verdict 3 written as fault: the part's id does not fit into 30 characters of ASCII"]


def test_a_plc_with_the_old_registers_gets_no_age(make_peer, writer, follow):
    peer = make_peer("modbus")
    peer.start("old")
    (worker,), events = follow(peer.options)
    writer.write(3)
    worker.enqueue()
    wait_until(lambda: peer.seqs() == [1, 2, 3])
    assert events == ["modbus: the PLC 127.0.0.1 has no registers 24 to 25; verdicts are written without their age"]
    assert not worker.failure


def test_the_relative_score_is_written_behind_the_age_where_that_is_on(make_peer, writer, follow):
    peer = make_peer("modbus")
    peer.start()
    options = ModbusOptions("127.0.0.1", port=peer.port, relative_score=True)
    (worker,), _ = follow(OutputTables(modbus=(options,)))
    just_above = math.nextafter(0.5, 1)
    for changes in ({}, {"decision": "pass", "score": 0.5}, {"score": just_above}, {"part": "x" * 25}):
        writer.write(1, **changes)
    writer.write(1, decision="fault", score=None, p_value=None, reason="no frame")
    worker.enqueue()
    wait_until(lambda: len(peer.seqs()) == 5)
    addresses = [line["address"] for line in peer.lines() if line["address"]]
    assert addresses == [24, 1] * 5, "in the request before the verdict's own"
    relative = [floats(line["registers"], 2) for line in peer.lines() if line["address"] == 24]
    assert relative[:2] == [1.5, 1.0]
    assert 1 < relative[2] < 1.000001, "the decision is reject"
    assert all(math.isnan(value) for value in relative[3:]), "faults"
    assert {len(line["registers"]) for line in peer.lines() if line["address"] == 1} == {21}, "as before"


def test_a_plc_without_registers_for_the_relative_score(make_peer, writer, follow):
    peer = make_peer("modbus")
    peer.start("old")
    options = ModbusOptions("127.0.0.1", port=peer.port, relative_score=True)
    (worker,), events = follow(OutputTables(modbus=(options,)))
    writer.write(2)
    worker.enqueue()
    wait_until(lambda: peer.seqs() == [1, 2])
    missing = "has no registers 24 to 27; verdicts are written without their age and relative score"
    assert events == [f"modbus: the PLC 127.0.0.1 {missing}"]


@pytest.fixture
def terse_plc():
    """A device that takes everything, and answers one register whatever it is asked for."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            while header := connection.recv(7):
                number, protocol, length, unit = struct.unpack(">HHHB", header)
                body = connection.recv(length - 1)
                answer = body[:5] if body[0] == 16 else bytes([3, 2, 0, 0])
                connection.sendall(struct.pack(">HHHB", number, protocol, len(answer) + 1, unit) + answer)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_a_plc_that_answers_one_register_is_shown_and_asked_again(terse_plc, writer, follow):
    options = ModbusOptions("127.0.0.1", port=terse_plc, handshake=True, timeout_s=1.0)
    (worker,), events = follow(OutputTables(modbus=(options,)))
    writer.write(2)
    worker.enqueue()
    wait_until(lambda: worker.failures >= 2)
    assert worker.failure
    assert "answers with 1 registers; expected 2" in events[0]
    assert worker.lag_s > 0
