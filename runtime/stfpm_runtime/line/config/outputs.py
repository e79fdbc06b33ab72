"""What a line's TOML file may say of sinks. docs/plant.md explains the same keys to users."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from .checks import check_least, check_name, check_range, check_unique
from .toml_file import MistakeError

LONGEST_S = 3600.0
"""The longest time that may be configured, in seconds."""
PRINTABLE = re.compile(r"[!-~]+")
"""What an address may hold: ASCII without spaces and control characters."""
TOKEN = re.compile(r"[!-~]([ -~]*[!-~])?")
"""What a header's value may be: ASCII without control characters, and without spaces at its ends."""
WRITE_REGISTERS = 123
"""Registers that one Modbus request writes, at most."""


@dataclass(frozen=True)
class MqttOptions:
    """A broker: `[mqtt]`."""

    host: str
    topic: str = "stfpm"
    """What all topics begin with: TOPIC/verdict/CAMERA/REGION, TOPIC/heartbeat, TOPIC/status."""
    name: str = "mqtt"
    """Of the cursor, and in the log."""
    port: int | None = None
    """None: 1883, with TLS 8883."""
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    """Whether to speak TLS, with the system's certificates where `ca` names none."""
    ca: Path | None = None
    """Certificates that the broker's must lead to."""
    certificate: Path | None = None
    """Ours, where the broker wants one."""
    key: Path | None = field(default=None, repr=False)
    version: Literal["5", "3.1.1"] = "5"
    """The version of MQTT. With 3.1.1 a broker acknowledges even messages that it drops."""
    heartbeat_s: float = 1.0
    max_age_s: float = 0.0
    """Older verdicts are not sent; 0: all are."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_host(self.host)
        check_port(self.port)
        check_seconds("heartbeat_s", self.heartbeat_s, 0.1)
        check_age(self.max_age_s)
        if not self.topic or set(self.topic) & set("+#") or self.topic.startswith("/") or not self.topic.isprintable():
            raise MistakeError("topic", f"got {self.topic!r}; expected a topic without + and #, say plant/line3")
        for name in ("user", "password"):
            if "\0" in getattr(self, name) or len(getattr(self, name).encode("utf-8", "replace")) > 65535:
                raise MistakeError(name, "holds a zero character or is too long; expected at most 65,535 bytes")
        for name in ("ca", "certificate", "key"):
            if getattr(self, name) is not None and not self.tls:
                raise MistakeError(name, "certificates without TLS; expected tls = true beside it")
        if (self.certificate is None) != (self.key is None):
            raise MistakeError("certificate", "certificate and key belong together; expected both or neither")


@dataclass(frozen=True)
class WebhookOptions:
    """An address that verdicts are posted to: `[[webhook]]`."""

    url: str = field(repr=False)
    """http or https; it may hold a secret, so it is never shown."""
    name: str = "webhook"
    token: str = field(default="", repr=False)
    """Sent as `Authorization: Bearer`."""
    timeout_s: float = 5.0
    batch: int = 100
    """Verdicts in one request, at most."""
    max_age_s: float = 0.0
    """Older verdicts are not sent; 0: all are."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_seconds("timeout_s", self.timeout_s, 0.1)
        check_age(self.max_age_s)
        check_least("batch", self.batch, 1)
        check_url(self.url, ("http", "https"), "http://HOST/PATH or https://HOST/PATH")
        if self.token and not TOKEN.fullmatch(self.token):  # which is never shown
            remedy = "expected ASCII letters, digits and signs; look for a newline or a space at its end"
            raise MistakeError("token", f"holds a character that a header cannot hold; {remedy}")


@dataclass(frozen=True)
class ModbusOptions:
    """A PLC whose holding registers are written: `[[modbus]]`."""

    host: str
    name: str = "modbus"
    port: int = 502
    unit: int = 1
    """The device's number on its server."""
    address: int = 0
    """The address of the first register, see `modbus.py`."""
    part_length: int = 24
    """Characters of a part's id, an even number; a longer one makes the verdict a fault."""
    handshake: bool = False
    """Whether the PLC acknowledges each verdict before the next is written."""
    heartbeat_s: float = 1.0
    timeout_s: float = 2.0
    max_age_s: float = 60.0
    """Older verdicts are not written, since they may make the PLC act on another part; 0: all are."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_host(self.host)
        check_port(self.port)
        check_seconds("heartbeat_s", self.heartbeat_s, 0.1)
        check_seconds("timeout_s", self.timeout_s, 0.05)
        check_age(self.max_age_s)
        if not 0 <= self.unit <= 255:
            raise MistakeError("unit", f"got {self.unit}; expected 0 to 255")
        longest = 2 * (WRITE_REGISTERS - 9)  # the registers of a verdict beside the id
        if self.part_length % 2 or not 2 <= self.part_length <= longest:
            raise MistakeError("part_length", f"got {self.part_length}; expected an even number from 2 to {longest}")
        if not 0 <= self.address <= 65536 - self.registers:
            raise MistakeError("address", f"got {self.address}; expected 0 to {65536 - self.registers}")

    @property
    def registers(self) -> int:
        """How many registers there are from `address` on."""
        return 14 + self.part_length // 2


@dataclass(frozen=True)
class OpcUaOptions:
    """A server whose variables are written: `[[opcua]]`."""

    url: str = field(repr=False)
    """opc.tcp://HOST:PORT/PATH."""
    name: str = "opcua"
    verdict: str = ""
    """Node of a String: the verdict as JSON. `opcua.py` lists the types that each node may have."""
    seq: str = ""
    """Node of an integer: its number."""
    decision: str = ""
    """Node of a String: pass, reject or fault; or of an integer: 1, 2 or 3."""
    score: str = ""
    """Node of a Double or a Float; NaN of a fault."""
    part: str = ""
    """Node of a String."""
    age: str = ""
    """Node of an integer: age of the verdict in ms when it was written."""
    heartbeat: str = ""
    """Node of an integer, which rises while the line can judge and journal."""
    drift: str = ""
    """Node of a String: the last drift alarm, or its end."""
    user: str = ""
    password: str = field(default="", repr=False)
    heartbeat_s: float = 1.0
    timeout_s: float = 4.0
    max_age_s: float = 60.0
    """Older verdicts are not written, since they may make a PLC act on another part; 0: all are."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_seconds("heartbeat_s", self.heartbeat_s, 0.1)
        check_seconds("timeout_s", self.timeout_s, 0.05)
        check_age(self.max_age_s)
        check_url(self.url, ("opc.tcp",), "opc.tcp://HOST:PORT/PATH")
        if not (self.verdict or self.decision):
            raise MistakeError("verdict", "nobody is told anything; expected the node of verdict or of decision")


@dataclass(frozen=True)
class OutputTables:
    """All sinks of a line."""

    mqtt: MqttOptions | None = None
    webhook: tuple[WebhookOptions, ...] = ()
    modbus: tuple[ModbusOptions, ...] = ()
    opcua: tuple[OpcUaOptions, ...] = ()


def check_outputs(tables: OutputTables) -> None:
    """Raise MistakeError for two sinks of one name: they would share a cursor."""
    names = [tables.mqtt.name] if tables.mqtt else []
    for table, own in (
        ("webhook", [sink.name for sink in tables.webhook]),
        ("modbus", [sink.name for sink in tables.modbus]),
        ("opcua", [sink.name for sink in tables.opcua]),
    ):
        check_unique(table, own)
        names += own
    for name in names:
        if names.count(name) > 1:
            raise MistakeError("", f"two sinks are called {name!r}; expected a name of its own for each")


def check_port(port: int | None) -> None:
    """Raise MistakeError unless it is a port, or None."""
    if port is not None and not 0 < port < 65536:
        raise MistakeError("port", f"got {port}; expected 1 to 65535")


def check_host(host: str) -> None:
    """Raise MistakeError unless it can be a host's name or address."""
    if not PRINTABLE.fullmatch(host):
        raise MistakeError("host", f"got {host!r}; expected a name or an address in ASCII, without spaces")


def check_url(url: str, schemes: tuple[str, ...], expected: str) -> None:
    """Raise MistakeError, without the address, unless it is one that a request can hold."""
    try:
        parts = urlsplit(url)
        works = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        works = False
    if not works or not PRINTABLE.fullmatch(url):
        remedy = "in ASCII, other characters as %XX (for ü: %C3%BC)"
        raise MistakeError("url", f"is no address; expected {expected}, {remedy}")


def check_seconds(key: str, value: float, least: float) -> None:
    """Raise MistakeError unless it is a time that can be waited for."""
    check_range(key, value, least)
    if value > LONGEST_S:
        raise MistakeError(key, f"got {value:g}; expected at most {LONGEST_S:g} s")


def check_age(max_age_s: float) -> None:
    """Raise MistakeError unless it is an age, or 0."""
    check_range("max_age_s", max_age_s, 0.0)
    if 0 < max_age_s < 0.1:
        raise MistakeError("max_age_s", f"got {max_age_s:g}; expected 0, or 0.1 s or more")
