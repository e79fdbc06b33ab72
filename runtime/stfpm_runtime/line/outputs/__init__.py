"""Who receives verdicts: MQTT, webhooks, Modbus TCP, OPC UA. Each follows the journal with a cursor of its own.

A new kind is a class with the methods of `Sink`, its options in `options.py`, and a line in `_plans`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stfpm_runtime.lifecycle import close_all
from stfpm_runtime.line.config.outputs import OutputTables
from stfpm_runtime.line.journal.rows import LogEvent
from stfpm_runtime.line.observers.heartbeat import Heartbeat

from .base import OutputPlan

if TYPE_CHECKING:
    from .follower import OutputWorker

LOG = logging.getLogger("stfpm.sinks")


def open_outputs(tables: OutputTables, journal: Path, log_event: LogEvent, heartbeat: Heartbeat) -> list[OutputWorker]:
    """Begin to deliver to everybody whom the configuration names.

    Raises MissingExtraError for a package that is missing, OptionError for a value that its library refuses.
    """
    from .follower import OutputWorker  # late: it needs the journal, whose options name the sinks

    for name in unencrypted_secrets(tables):
        LOG.warning("%s: the secret is sent over an unencrypted connection; use TLS, or a network of its own", name)
    followers: list[OutputWorker] = []
    try:
        for plan in _plans(tables, log_event):
            followers.append(OutputWorker(journal, plan, log_event, heartbeat))
    except BaseException:
        close_all(followers, 0.0)
        raise
    return followers


def unencrypted_secrets(tables: OutputTables) -> list[str]:
    """Return the names of the sinks whose password or token travels in the clear."""
    names = [tables.mqtt.name] if tables.mqtt and tables.mqtt.password and not tables.mqtt.tls else []
    names += [sink.name for sink in tables.webhook if sink.token and sink.url.lower().startswith("http:")]
    return names + [sink.name for sink in tables.opcua if sink.password]


def _plans(tables: OutputTables, log_event: LogEvent) -> Iterator[OutputPlan]:
    """Give how each sink is made and served."""
    if mqtt := tables.mqtt:
        from .mqtt import MqttOutput

        yield OutputPlan(mqtt.name, functools.partial(MqttOutput, mqtt), mqtt.heartbeat_s, mqtt.max_age_s)
    for webhook in tables.webhook:
        from .webhook import WebhookOutput

        yield OutputPlan(webhook.name, functools.partial(WebhookOutput, webhook), 0.0, webhook.max_age_s)
    for modbus in tables.modbus:
        from .modbus import ModbusOutput

        make_modbus = functools.partial(ModbusOutput, modbus, log_event)
        yield OutputPlan(modbus.name, make_modbus, modbus.heartbeat_s, modbus.max_age_s)
    for opcua in tables.opcua:
        from .opcua import OpcUaOutput

        make_opcua = functools.partial(OpcUaOutput, opcua)
        yield OutputPlan(opcua.name, make_opcua, opcua.heartbeat_s, opcua.max_age_s)
