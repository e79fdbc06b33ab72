"""What a line's TOML file may say of sinks. docs/plant.md explains the same keys to users."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ..checks import check_least, check_name, check_range, check_unique
from ..toml_file import MistakeError


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
    heartbeat_s: float = 1.0

    def __post_init__(self) -> None:
        check_name(self.name)
        check_port(self.port)
        check_range("heartbeat_s", self.heartbeat_s, 0.1)
        if not self.host:
            raise MistakeError("host", "is empty; expected the broker's name or address")
        if not self.topic or set(self.topic) & set("+#") or self.topic.startswith("/"):
            raise MistakeError("topic", f"got {self.topic!r}; expected a topic without + and #, say plant/line3")
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

    def __post_init__(self) -> None:
        check_name(self.name)
        check_range("timeout_s", self.timeout_s, 0.1)
        check_least("batch", self.batch, 1)
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise MistakeError("url", "is no address; expected http://HOST/PATH or https://HOST/PATH")


@dataclass(frozen=True)
class ModbusOptions:
    """A PLC whose holding registers are written: `[[modbus]]`."""

    host: str
    name: str = "modbus"
    port: int = 502
    unit: int = 1
    """The device's number on its server."""
    address: int = 0
    """Of the first of the 24 registers, see `modbus.py`."""
    handshake: bool = False
    """Whether the PLC acknowledges each verdict before the next is written."""
    heartbeat_s: float = 1.0
    timeout_s: float = 2.0

    def __post_init__(self) -> None:
        check_name(self.name)
        check_port(self.port)
        check_range("heartbeat_s", self.heartbeat_s, 0.1)
        check_range("timeout_s", self.timeout_s, 0.05)
        if not 0 <= self.unit <= 255:
            raise MistakeError("unit", f"got {self.unit}; expected 0 to 255")
        if not 0 <= self.address <= 65535 - 24:
            raise MistakeError("address", f"got {self.address}; expected 0 to {65535 - 24}")


@dataclass(frozen=True)
class OpcUaOptions:
    """A server whose variables are written: `[[opcua]]`."""

    url: str = field(repr=False)
    """opc.tcp://HOST:PORT/PATH."""
    name: str = "opcua"
    verdict: str = ""
    """Node of a String: the verdict as JSON."""
    seq: str = ""
    """Node of an Int64: its number; written after the others."""
    decision: str = ""
    """Node of a String: pass, reject or fault."""
    score: str = ""
    """Node of a Double; NaN of a fault."""
    part: str = ""
    """Node of a String."""
    heartbeat: str = ""
    """Node of an Int64, which counts."""
    user: str = ""
    password: str = field(default="", repr=False)
    heartbeat_s: float = 1.0
    timeout_s: float = 4.0

    def __post_init__(self) -> None:
        check_name(self.name)
        check_range("heartbeat_s", self.heartbeat_s, 0.1)
        check_range("timeout_s", self.timeout_s, 0.05)
        if urlsplit(self.url).scheme != "opc.tcp":
            raise MistakeError("url", "is no address; expected opc.tcp://HOST:PORT/PATH")
        if not (self.verdict or self.decision):
            raise MistakeError("verdict", "nobody is told anything; expected the node of verdict or of decision")


@dataclass(frozen=True)
class SinkTables:
    """All sinks of a line."""

    mqtt: MqttOptions | None = None
    webhook: tuple[WebhookOptions, ...] = ()
    modbus: tuple[ModbusOptions, ...] = ()
    opcua: tuple[OpcUaOptions, ...] = ()


def check_sinks(tables: SinkTables) -> None:
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
