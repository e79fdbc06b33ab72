"""Recipes that PLCs ask for: by Modbus registers, MQTT, the method of an OPC UA server, and HTTP; all are real."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import socket

import paho.mqtt.client as paho
import pytest
from asyncua.sync import Client as OpcUaClient
from asyncua.ua.uaerrors import UaError
from paho.mqtt.enums import CallbackAPIVersion
from pymodbus.client import ModbusTcpClient

from runtime.line.outputs.conftest import free_port, wait_until
from runtime.line.test_recipes import loader, make_recipes, recipe_events, start  # noqa: F401 (fixtures)
from stfpm_runtime.line.config.outputs import ModbusOptions, MqttOptions
from stfpm_runtime.line.config.server import RecipeServerOptions, ServerOptions
from stfpm_runtime.line.models.recipes.mqtt import parse_request
from stfpm_runtime.line.models.recipes.status import IS_BUSY, STATES, UNKNOWN

ADDRESS = 100


class Plc:
    """Writes and reads the registers of a recipe as a PLC's program does."""

    def __init__(self, port: int) -> None:
        self._client = ModbusTcpClient("127.0.0.1", port=port)
        assert self._client.connect()
        self._number = 0

    def ask(self, recipe: int) -> None:
        self._number += 1
        self._client.write_registers(ADDRESS, [self._number, recipe], device_id=1)

    def read(self) -> tuple[bool, str, int, int]:
        """Return whether the newest request was answered, the state, the active recipe, and the refusal."""
        answered, state, active, code = self._client.read_holding_registers(ADDRESS + 2, count=4, device_id=1).registers
        return answered == self._number, STATES[state], active, code

    def close(self) -> None:
        self._client.close()


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


@pytest.fixture
def connect():
    opened = []

    def connect(port: int) -> Plc:
        opened.append(Plc(port))
        return opened[-1]

    yield connect
    for plc in opened:
        plc.close()


def test_plc_asks_by_registers(make_peer, start, connect, journal):  # noqa: F811
    peer = make_peer("modbus")
    peer.start()
    plc = connect(peer.port)
    running = start(modbus=(ModbusOptions("127.0.0.1", port=peer.port, recipe_address=ADDRESS, name="press"),))
    plc.ask(2)
    wait_until(lambda: plc.read() == (True, "active", 2, 0))
    plc.ask(9)
    wait_until(lambda: plc.read() == (True, "refused", 0, UNKNOWN))
    plc.ask(0)
    wait_until(lambda: plc.read() == (True, "none", 0, 0))
    plc.ask(3)
    wait_until(lambda: plc.read() == (True, "active", 3, 0))
    assert running.line.recipes.status.who == "press by Modbus"
    peer.stop()
    wait_until(lambda: running.line.listeners[0].failure)
    peer.start()  # a PLC that has forgotten everything gets the state again
    again = connect(peer.port)
    wait_until(lambda: again.read() == (True, "active", 3, 0))
    wait_until(lambda: "press: reached again" in recipe_events(journal))


def test_second_plc_is_refused_while_the_first_ones_recipe_is_loaded(
    tmp_path, make_peer, start, connect, loader  # noqa: F811
):  # fmt: skip
    peers = [make_peer("modbus"), make_peer("modbus")]
    for peer in peers:
        peer.start()
    first, second = (connect(peer.port) for peer in peers)
    loader.may_load.clear()
    names = ("first", "second")
    tables = [
        ModbusOptions("127.0.0.1", port=peer.port, recipe_address=ADDRESS, name=name)
        for peer, name in zip(peers, names, strict=True)
    ]
    start(modbus=tuple(tables))
    first.ask(1)
    wait_until(lambda: first.read()[:2] == (True, "loading"))
    second.ask(2)
    wait_until(lambda: second.read() == (True, "loading", 0, IS_BUSY))
    assert first.read() == (True, "loading", 0, 0)
    loader.may_load.set()
    wait_until(lambda: first.read() == (True, "active", 1, 0))
    wait_until(lambda: second.read() == (True, "active", 1, IS_BUSY))
    second.ask(2)
    wait_until(lambda: second.read() == (True, "active", 2, 0))


def test_request_of_a_time_when_the_line_was_down_is_followed_once(make_peer, start, connect):  # noqa: F811
    peer = make_peer("modbus")
    peer.start()
    plc = connect(peer.port)
    plc.ask(2)
    table = (ModbusOptions("127.0.0.1", port=peer.port, recipe_address=ADDRESS),)
    running = start(modbus=table)
    wait_until(lambda: plc.read() == (True, "active", 2, 0))
    running.finish()
    start(modbus=table)
    wait_until(lambda: plc.read() == (True, "none", 0, 0))


def test_messages_ask_and_the_state_is_retained(make_peer, start, journal):  # noqa: F811
    broker = make_peer("mqtt")
    broker.start()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        client.publish("plant/recipe/set", "3", qos=1, retain=True).wait_for_publish(5)
        running = start(mqtt=MqttOptions("127.0.0.1", port=broker.port, topic="plant", recipes=True))

        def states() -> list[dict]:
            return [line["payload"] for line in broker.lines() if line.get("topic") == "plant/recipe/state"]

        def refused() -> list[dict]:
            return [line["payload"] for line in broker.lines() if line.get("topic") == "plant/recipe/refused"]

        wait_until(lambda: "mqtt: a retained message on plant/recipe/set is not followed" in recipe_events(journal))
        assert running.line.recipes.status.state == "none"
        client.publish("plant/recipe/set", json.dumps({"id": 2, "who": "Ada"}), qos=1)
        wait_until(lambda: states() and states()[-1]["state"] == "active")
        assert (states()[-1]["active"], states()[-1]["who"]) == (2, "Ada by MQTT")
        client.publish("plant/recipe/set", "9", qos=1)
        wait_until(refused)
        assert (refused()[0]["id"], refused()[0]["code"]) == (9, UNKNOWN)
        wait_until(lambda: states()[-1]["state"] == "refused")
        client.publish("plant/recipe/set", "1", qos=1)
        wait_until(lambda: states()[-1]["active"] == 1)
        client.publish("plant/recipe/set", "the other one", qos=1)
        wait_until(lambda: len(refused()) == 2)
        assert running.line.recipes.status.active == 0
        running.finish()
        wait_until(lambda: states()[-1]["reason"] == "the line is not connected to the broker")
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"7", (7, "mqtt")),
        (b'{"id": 7}', (7, "mqtt")),
        (b'{"id": 7, "who": "Ada"}', (7, "Ada")),
        (b"true", (None, "mqtt")),
        (b"7.0", (None, "mqtt")),
        (b'{"recipe": 7}', (None, "mqtt")),
        (b'{"id": 7, "who": 1}', (None, "mqtt")),
        (b"\xff", (None, "mqtt")),
        (b"", (None, "mqtt")),
        (b"[" * 100_000, (None, "mqtt")),
    ],
)
def test_message_that_is_not_understood_asks_for_no_recipe(payload, expected):
    assert parse_request(payload, "mqtt") == expected


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # asyncua leaves a refused socket open
def test_opc_ua_client_calls_the_method(start, journal):  # noqa: F811
    port = free_port()
    running = start(recipe_server=RecipeServerOptions(f"127.0.0.1:{port}", "plc", "a password"))
    wait_until(lambda: listens(port))
    client = OpcUaClient(f"opc.tcp://127.0.0.1:{port}/", timeout=60)
    with pytest.raises(UaError):
        client.connect()  # anonymous
    client.disconnect()
    del client
    gc.collect()
    client = OpcUaClient(f"opc.tcp://127.0.0.1:{port}/", timeout=60)
    client.set_user("plc")
    client.set_password("a password")
    with client:
        line = client.get_node("ns=2;s=Line")

        def read(name: str) -> object:
            return client.get_node(f"ns=2;s=Line.{name}").read_value()

        assert line.call_method("2:SelectRecipe", 2) == [0, ""]
        wait_until(lambda: (read("ActiveRecipe"), read("RecipeState"), read("RequestedRecipe")) == (2, "active", 2))
        assert read("RecipeReason") == ""
        code, reason = line.call_method("2:SelectRecipe", 9)
        assert (code, reason) == (UNKNOWN, "got recipe 9; expected one of 1, 2, 3")
        wait_until(lambda: (read("ActiveRecipe"), read("RecipeState")) == (0, "refused"))
        assert line.call_method("2:SelectRecipe", "two")[0] == UNKNOWN
        with pytest.raises(UaError):
            client.get_node("ns=2;s=Line.ActiveRecipe").write_value(3)
    assert running.line.recipes.status.who == "plc by OPC UA"


def test_http_request_needs_a_token_and_answers_with_the_state(start):  # noqa: F811
    token, port = "a token of sixteen", free_port()
    start(dashboard=ServerOptions(f"127.0.0.1:{port}", token))

    def ask(method: str, body: dict | None = None, given: str = token) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {given}"}
        connection.request(method, "/api/recipe", json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    assert ask("POST", {"id": 2, "who": "Ada"}, "wrong")[0] == 401
    status, body = ask("POST", {"id": 2, "who": "Ada"})
    assert (status, body["requested"], body["who"], body["name"]) == (200, 2, "Ada by HTTP", "p2")
    wait_until(lambda: ask("GET")[1]["active"] == 2)
    assert [(one["id"], one["name"], one["model"]) for one in ask("GET")[1]["recipes"]] == [
        (1, "p1", "1.onnx"), (2, "p2", "2.onnx"), (3, "p3", "3.onnx"),
    ]  # fmt: skip
    assert ask("POST", {"id": 9, "who": "Ada"}) == (409, {"error": "got recipe 9; expected one of 1, 2, 3"})
    assert ask("GET")[1]["state"] == "refused"
    assert ask("POST", {"id": "2", "who": "Ada"})[0] == 400
    assert ask("POST", {"id": 2, "who": "a\nb"})[0] == 400
