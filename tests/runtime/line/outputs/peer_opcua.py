"""An OPC UA server: asyncua's own, as a process. argv: port, log, behaviour.

plain, other (without our nodes), plc (types of a PLC), mistyped (the score is a Boolean), locked (it is read-only)
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

from asyncua import Server, ua
from asyncua.common.callback import CallbackType

KINDS = {"Verdict": ua.VariantType.String, "Seq": ua.VariantType.Int64, "Decision": ua.VariantType.String,
         "Score": ua.VariantType.Double, "Part": ua.VariantType.String, "Age": ua.VariantType.Int64,
         "RelativeScore": ua.VariantType.Double, "Heartbeat": ua.VariantType.Int64}  # fmt: skip
PLC = {"Seq": ua.VariantType.Int32, "Decision": ua.VariantType.Int16, "Score": ua.VariantType.Float,
       "RelativeScore": ua.VariantType.Float,
       "Age": ua.VariantType.UInt32, "Heartbeat": ua.VariantType.Byte}  # fmt: skip
START = {
    ua.VariantType.String: "",
    ua.VariantType.Double: 0.0,
    ua.VariantType.Float: 0.0,
    ua.VariantType.Boolean: False,
}


async def main(port: int, log: Path, behaviour: str) -> None:
    logging.disable(logging.CRITICAL)
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    index = await server.register_namespace("plant")
    folder = await server.nodes.objects.add_object(index, "Line")
    kinds = {"other": {}, "plc": KINDS | PLC, "mistyped": KINDS | {"Score": ua.VariantType.Boolean}}.get(
        behaviour, KINDS
    )
    for name, kind in kinds.items():
        node = await folder.add_variable(ua.NodeId(f"Line.{name}", index), name, ua.Variant(START.get(kind, 0), kind))
        if (behaviour, name) != ("locked", "Score"):
            await node.set_writable()

    def written(event, dispatcher) -> None:
        for item in event.request_params.NodesToWrite:
            place, dot, name = str(item.NodeId.Identifier).partition(".")
            if place + dot != "Line.":
                continue  # the server's own
            with log.open("a") as file:
                file.write(json.dumps({"name": name, "value": item.Value.Value.Value}) + "\n")

    server.subscribe_server_callback(CallbackType.PostWrite, written)
    async with server:
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
