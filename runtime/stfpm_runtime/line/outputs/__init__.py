"""Who receives verdicts: MQTT, webhooks, Modbus TCP, OPC UA. Each follows the journal with a cursor of its own.

A new kind is a class with the methods of `Sink`, its options in `options.py`, and a line in `_plans`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..deadline import close_all
from ..heartbeat import Heartbeat
from .base import Remark, SinkPlan
from .options import SinkTables

if TYPE_CHECKING:
    from .follower import Follower

LOG = logging.getLogger("stfpm.sinks")


def open_followers(tables: SinkTables, journal: Path, remark: Remark, heartbeat: Heartbeat) -> list[Follower]:
    """Begin to deliver to everybody whom the configuration names.

    Raises MissingExtraError for a package that is missing, OptionError for a value that its library refuses.
    """
    from .follower import Follower  # late: it needs the journal, whose options name the sinks

    for name in unencrypted_secrets(tables):
        LOG.warning("%s: the secret is sent over an unencrypted connection; use TLS, or a network of its own", name)
    followers: list[Follower] = []
    try:
        for plan in _plans(tables, remark):
            followers.append(Follower(journal, plan, remark, heartbeat))
    except BaseException:
        close_all(followers, 0.0)
        raise
    return followers


def unencrypted_secrets(tables: SinkTables) -> list[str]:
    """Return the names of the sinks whose password or token travels in the clear."""
    names = [tables.mqtt.name] if tables.mqtt and tables.mqtt.password and not tables.mqtt.tls else []
    names += [sink.name for sink in tables.webhook if sink.token and sink.url.lower().startswith("http:")]
    return names + [sink.name for sink in tables.opcua if sink.password]


def _plans(tables: SinkTables, remark: Remark) -> Iterator[SinkPlan]:
    """Give how each sink is made and served."""
    if mqtt := tables.mqtt:
        from .mqtt import MqttSink

        yield SinkPlan(mqtt.name, functools.partial(MqttSink, mqtt), mqtt.heartbeat_s, mqtt.max_age_s)
    for webhook in tables.webhook:
        from .webhook import WebhookSink

        yield SinkPlan(webhook.name, functools.partial(WebhookSink, webhook), 0.0, webhook.max_age_s)
    for modbus in tables.modbus:
        from .modbus import ModbusSink

        make_modbus = functools.partial(ModbusSink, modbus, remark)
        yield SinkPlan(modbus.name, make_modbus, modbus.heartbeat_s, modbus.max_age_s)
    for opcua in tables.opcua:
        from .opcua import OpcUaSink

        make_opcua = functools.partial(OpcUaSink, opcua)
        yield SinkPlan(opcua.name, make_opcua, opcua.heartbeat_s, opcua.max_age_s)
