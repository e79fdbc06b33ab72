"""A PLC: pymodbus's own server, as a process. argv: port, log, behaviour.

plain, acknowledge, acknowledge-30 (with ids of 30 characters), refuse (busy),
old (the 24 registers of earlier versions), illegal (refuses verdicts for good)
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from pymodbus.constants import ExcCodes
from pymodbus.server import StartAsyncTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


async def main(port: int, log: Path, behaviour: str) -> None:
    async def act(function_code, start_address, address, count, current_registers, set_values):
        if not set_values:
            return None
        if behaviour == "refuse":
            return ExcCodes.DEVICE_BUSY
        if behaviour == "illegal" and address == 1:
            return ExcCodes.ILLEGAL_VALUE
        with log.open("a") as file:
            file.write(json.dumps({"address": address, "registers": set_values}) + "\n")
        if behaviour.startswith("acknowledge") and address == 1:
            place = (25 if behaviour.endswith("30") else 22) - start_address
            current_registers[place : place + 2] = set_values[:2]
        return None

    device = SimDevice(
        id=1, simdata=[SimData(0, count=24 if behaviour == "old" else 140, datatype=DataType.REGISTERS)], action=act
    )
    await StartAsyncTcpServer(device, address=("127.0.0.1", port))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
