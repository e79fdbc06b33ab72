"""Who receives verdicts: pictures, JSON lines, MQTT, webhooks, Modbus TCP, OPC UA. Each has a thread of its own.

A new kind is a class that derives from `OutputDriver`, options in `config/outputs.py`, and a line in `make_drivers`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.config.outputs import OutputTables
from stfpm_runtime.line.journal.rows import LogEvent, LogPicture
from stfpm_runtime.line.observers.heartbeat import Heartbeat

from .base import Output, OutputDriver
from .json_lines import JsonLinesOutput
from .pictures import Pictures
from .worker import OutputWorker

LOG = logging.getLogger("stfpm.outputs")


def open_outputs(
    options: LineOptions, log_event: LogEvent, heartbeat: Heartbeat, log_picture: LogPicture
) -> list[Output]:
    """Return the outputs that the configuration names; none of them is started.

    Raises MissingExtraError for a package that is missing, OptionError for a value that its library refuses.
    """
    journal = options.journal
    outputs: list[Output] = []
    if options.pictures:
        outputs.append(Pictures(options.pictures, log_event, options.review.sample, log_picture))
    if journal.json_lines:
        lines = JsonLinesOutput(journal.json_lines, journal.json_lines_mb * 1e6)
        outputs.append(OutputWorker(journal.path, lines, log_event, heartbeat))
    return outputs + open_network_outputs(options, journal.path, log_event, heartbeat)


def open_network_outputs(
    tables: OutputTables, journal: Path, log_event: LogEvent, heartbeat: Heartbeat
) -> list[OutputWorker]:
    """Return the outputs that are reached over the network, not started. Raises what `open_outputs` does."""
    for name in unencrypted_secrets(tables):
        LOG.warning("%s: the secret is sent over an unencrypted connection; use TLS, or a network of its own", name)
    return [OutputWorker(journal, driver, log_event, heartbeat) for driver in make_drivers(tables, log_event)]


def unencrypted_secrets(tables: OutputTables) -> list[str]:
    """Return the names of the outputs whose password or token is sent without encryption."""
    names = [tables.mqtt.name] if tables.mqtt and tables.mqtt.password and not tables.mqtt.tls else []
    names += [output.name for output in tables.webhook if output.token and output.url.lower().startswith("http:")]
    return names + [output.name for output in tables.opcua if output.password]


def make_drivers(tables: OutputTables, log_event: LogEvent) -> Iterator[OutputDriver]:
    """Yield the driver of each table, not connected; each library is imported only where it is needed.

    Raises what `open_outputs` does.
    """
    if tables.mqtt:
        from .mqtt import MqttOutput

        yield MqttOutput(tables.mqtt)
    for webhook in tables.webhook:
        from .webhook import WebhookOutput

        yield WebhookOutput(webhook)
    for modbus in tables.modbus:
        from .modbus import ModbusOutput

        yield ModbusOutput(modbus, log_event)
    for opcua in tables.opcua:
        from .opcua import OpcUaOutput

        yield OpcUaOutput(opcua)
