"""Triggers by MQTT from a broker that fails as mosquitto does not; for mosquitto see outputs/test_line.py."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from stfpm_runtime.line.config.outputs import MqttOptions
from stfpm_runtime.line.triggers import mqtt
from stfpm_runtime.line.triggers.base import QueuedTrigger
from stfpm_runtime.line.triggers.mqtt import MqttTriggers

CONNECT, CONNACK, SUBACK = 0x10, b"\x20\x03\x00\x00\x00", b"\x90\x04\x00\x01\x00\x01"
MESSAGE = b"\x32\x0a\x00\x04fire\x00\x07\x00A"


@pytest.fixture
def start(tmp_path):
    """Start the triggers of a topic at a host; return them, the camera's trigger and the events."""
    started = []

    def start(host: str, port: int = 1883):
        trigger, events = QueuedTrigger(), []
        options = MqttOptions(host, port=port)
        log_event = lambda kind, detail: events.append(detail)  # noqa: E731
        triggers = MqttTriggers(options, {"fire": [trigger]}, tmp_path / "line.sqlite", log_event)
        started.append(triggers)
        return triggers, trigger, events

    yield start
    for triggers in started:
        triggers.stop(time.monotonic() + 5.0)
        assert not triggers.is_alive


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        yield server


@contextlib.contextmanager
def accepted(server: socket.socket, *answers: bytes) -> Iterator[tuple[socket.socket, list[bytes]]]:
    """Accept a connection and answer its packets in turn; give it, and the packets."""
    connection, _ = server.accept()
    with connection:
        connection.settimeout(20)
        packets = []
        for answer in answers:
            packets.append(connection.recv(4096))
            connection.sendall(answer)
        yield connection, packets


def wait_until(condition) -> None:
    until_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.01)


@pytest.mark.parametrize(("host", "reason"), [("broker..local", "label empty or too long"), ("127.0.0.1", "refused")])
def test_why_a_broker_cannot_be_reached_is_shown(start, host, reason):
    triggers, _, events = start(host, 1)
    triggers.start()
    wait_until(lambda: events)
    assert events[0].startswith(f"no triggers by MQTT: the broker {host}:1 cannot be reached (")
    assert reason in events[0]
    time.sleep(1.5)  # the next attempt
    assert len(events) == 1
    assert triggers._client._thread is not None


def test_triggers_come_again_after_an_error_that_paho_does_not_catch(start, server, monkeypatch):
    monkeypatch.setattr(mqtt, "RECONNECT_S", (1, 0.1))
    errors, connect = [RuntimeError("a bug")], socket.create_connection

    def fail_once(*arguments, **options):
        if errors:
            raise errors.pop()
        return connect(*arguments, **options)

    monkeypatch.setattr(socket, "create_connection", fail_once)
    triggers, trigger, events = start("127.0.0.1", server.getsockname()[1])
    triggers.start()
    with accepted(server, CONNACK, SUBACK) as (connection, _):
        connection.sendall(MESSAGE)
        request = trigger.wait(20)
        assert request.part == "A"
        assert not triggers.failure
    assert events[:2] == ["no triggers by MQTT: internal error: RuntimeError", "the broker is reached again"]


def test_a_message_of_a_lost_connection_is_not_acknowledged(start, server):
    triggers, trigger, _ = start("127.0.0.1", server.getsockname()[1])
    triggers.start()
    with accepted(server, CONNACK, SUBACK) as (connection, _):
        connection.sendall(MESSAGE)
        request = trigger.wait(20)
        triggers._client.on_pre_connect = lambda *arguments: request.answer([])  # while the next connection is made
    with accepted(server, CONNACK) as (_, packets):
        assert packets[0][0] == CONNECT
