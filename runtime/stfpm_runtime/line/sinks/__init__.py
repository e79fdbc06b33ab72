"""Whom verdicts are told: MQTT, webhooks, Modbus TCP, OPC UA. Each follows the journal with a cursor of its own.

A new kind is a class with the four methods of `Sink`, its options in `options.py`, and a line in `open_followers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .options import SinkTables

if TYPE_CHECKING:
    from .follower import Follower, Remark, Sink


def open_followers(tables: SinkTables, journal: Path, remark: Remark) -> list[Follower]:
    """Begin to tell everybody whom the configuration names. Raises MissingExtraError for a package that is missing."""
    from .follower import Follower  # late: it needs the journal, whose options name the sinks

    return [Follower(journal, name, make, beat_s, remark) for name, make, beat_s in _named(tables)]


def _named(tables: SinkTables) -> Iterator[tuple[str, Callable[[], Sink], float]]:
    """Name, maker and seconds between two signs of life of each."""
    if mqtt := tables.mqtt:
        from .mqtt import MqttSink

        yield mqtt.name, lambda: MqttSink(mqtt), mqtt.heartbeat_s
    for webhook in tables.webhook:
        from .webhook import WebhookSink

        yield webhook.name, lambda webhook=webhook: WebhookSink(webhook), 0.0  # type: ignore[misc]
    for modbus in tables.modbus:
        from .modbus import ModbusSink

        yield modbus.name, lambda modbus=modbus: ModbusSink(modbus), modbus.heartbeat_s  # type: ignore[misc]
    for opcua in tables.opcua:
        from .opcua import OpcUaSink

        yield opcua.name, lambda opcua=opcua: OpcUaSink(opcua), opcua.heartbeat_s  # type: ignore[misc]
