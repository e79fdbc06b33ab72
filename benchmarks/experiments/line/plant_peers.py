"""Peers for `plant` and `endurance`, each a process: `python plant_peers.py KIND PORT [LOG]`.

The peers are a web service, a PLC (pymodbus's server), an OPC UA server (asyncua's), and a client that requests what
the dashboard's page requests, as often as the page. The first three append the number of each verdict to LOG.
"""
# mypy: disable-error-code="import-not-found, attr-defined, arg-type"

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import sys
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

NODES = {"Verdict": "String", "Seq": "Int64", "Decision": "String", "Score": "Double", "Part": "String",
         "Heartbeat": "Int64"}  # fmt: skip
SEQ_REGISTER = 1


def _log_number(log: str, seq: int) -> None:
    if log:
        with Path(log).open("a", encoding="ascii") as file:
            file.write(f"{seq}\n")


def webhook(port: int, log: str) -> None:
    """Accept all verdicts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for record in json.loads(body).get("verdicts", ()):
                _log_number(log, record["seq"])
            self.send_response(204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Print nothing."""

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


async def modbus(port: int, log: str) -> None:
    """Serve 128 holding registers."""
    from pymodbus.server import StartAsyncTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    async def act(function: int, start: int, address: int, count: int, now: object, written: Sequence[int]) -> None:
        if written and address == SEQ_REGISTER:
            _log_number(log, written[0] << 16 | written[1])

    device = SimDevice(id=1, simdata=[SimData(0, count=128, datatype=DataType.REGISTERS)], action=act)
    await StartAsyncTcpServer(device, address=("127.0.0.1", port))


async def opcua(port: int, log: str) -> None:
    """Serve the nodes of a line."""
    from asyncua import Server, ua
    from asyncua.common.callback import CallbackType

    logging.disable(logging.CRITICAL)
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    index = await server.register_namespace("plant")
    folder = await server.nodes.objects.add_object(index, "Line")
    for name, kind in NODES.items():
        start = ua.Variant("" if kind == "String" else 0, ua.VariantType[kind])
        node = await folder.add_variable(ua.NodeId(f"Line.{name}", index), name, start)
        await node.set_writable()

    def written(event: Any, dispatcher: object) -> None:  # noqa: ANN401
        for item in event.request_params.NodesToWrite:
            if str(item.NodeId.Identifier) == "Line.Seq":
                _log_number(log, item.Value.Value.Value)

    server.subscribe_server_callback(CallbackType.PostWrite, written)
    async with server:
        await asyncio.Event().wait()


def dashboard_client(port: int, token: str) -> None:
    """Request what dashboard.js requests, once a second; the rejects every third time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(path: str) -> bytes:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().read()

    turn = 0
    while True:
        for place in json.loads(ask("/api/status"))["places"]:
            names = f"{quote(place['camera'])}/{quote(place['region'])}"
            ask(f"/api/live/{names}?map=true&width=960")
            ask(f"/api/scores/{names}?last=300")
        if turn % 3 == 0:
            for reject in json.loads(ask("/api/rejects?last=12"))["rejects"]:
                if reject["overlay"]:
                    ask(f"/api/pictures/{reject['seq']}?kind=overlay&width=320")
            ask("/api/events?last=8")
        turn += 1
        time.sleep(1)


def main(kind: str, port: int, more: str = "") -> None:
    """Run one peer until it is killed; `more` is the token of the dashboard's client, or the log."""
    if kind == "webhook":
        webhook(port, more)
    elif kind == "dashboard_client":
        dashboard_client(port, more)
    else:
        asyncio.run({"modbus": modbus, "opcua": opcua}[kind](port, more))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
