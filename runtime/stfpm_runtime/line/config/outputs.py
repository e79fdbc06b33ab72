"""The tables of a line's TOML file for outputs: MQTT, webhooks, Modbus TCP, OPC UA. docs/plant.md explains the keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from .checks import Age, Host, Name, Table, at_least, check_port, check_unique, check_url, refuse_if, seconds

TOKEN = re.compile(r"[!-~]([ -~]*[!-~])?")
"""A header's value: ASCII without control characters, and without spaces at its ends."""
WRITE_REGISTERS = 123
"""The most registers that one Modbus request writes."""

RECIPE_REGISTERS = 6
"""The number of registers from `recipe_address` on."""


@dataclass(frozen=True)
class MqttOptions(Table):
    """`[mqtt]`: a broker."""

    host: Host
    topic: str = "stfpm"
    """All topics begin with it: TOPIC/verdict/CAMERA/REGION, TOPIC/heartbeat, TOPIC/status."""
    name: Name = "mqtt"
    """The name of its cursor, and in the log."""
    port: Annotated[int | None, check_port] = None
    """None: 1883, or 8883 with TLS."""
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    """Whether to speak TLS, with the system's certificates where `ca` names none."""
    ca: Path | None = None
    """Certificates of the authorities that may sign the broker's."""
    certificate: Path | None = None
    """The line's own, where the broker asks for one."""
    key: Path | None = field(default=None, repr=False)
    version: Literal["5", "3.1.1"] = "5"
    """The version of MQTT. With 3.1.1 a broker acknowledges even messages that it drops."""
    heartbeat_s: Annotated[float, seconds(0.1)] = 1.0
    max_age_s: Age = 0.0
    """Older verdicts are not sent; 0: all are."""
    recipes: bool = False
    """If true, the line subscribes to TOPIC/recipe/set, and a message there asks for a recipe by its number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        is_topic = self.topic and self.topic.isprintable() and not (set(self.topic) & set("+#") or self.topic[0] == "/")
        refuse_if(not is_topic, "topic", f"got {self.topic!r}; expected a topic without + and #, say plant/line3")
        for name in ("user", "password"):
            is_invalid = "\0" in getattr(self, name) or len(getattr(self, name).encode("utf-8", "replace")) > 65535
            refuse_if(is_invalid, name, "holds a zero character or is too long; expected at most 65,535 bytes")
        for name in ("ca", "certificate", "key"):
            without_tls = getattr(self, name) is not None and not self.tls
            refuse_if(without_tls, name, "certificates without TLS; expected tls = true, too")
        together = "certificate and key belong together; expected both or neither"
        refuse_if((self.certificate is None) != (self.key is None), "certificate", together)


@dataclass(frozen=True)
class WebhookOptions(Table):
    """`[[webhook]]`: an address that verdicts are posted to."""

    url: str = field(repr=False)
    """http or https; it may hold a secret, so it is never shown."""
    name: Name = "webhook"
    token: str = field(default="", repr=False)
    """Sent as `Authorization: Bearer`."""
    timeout_s: Annotated[float, seconds(0.1)] = 5.0
    batch: Annotated[int, at_least(1)] = 100
    """The most verdicts in one request."""
    max_age_s: Age = 0.0
    """Older verdicts are not sent; 0: all are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_url(self.url, ("http", "https"), "http://HOST/PATH or https://HOST/PATH")
        remedy = "expected ASCII letters, digits and signs; look for a newline or a space at its end"
        is_invalid = self.token and not TOKEN.fullmatch(self.token)  # the message never shows it
        refuse_if(is_invalid, "token", f"holds a character that a header cannot hold; {remedy}")


@dataclass(frozen=True)
class ModbusOptions(Table):
    """`[[modbus]]`: a PLC whose holding registers are written."""

    host: Host
    name: Name = "modbus"
    port: Annotated[int, check_port] = 502
    unit: int = 1
    """The device's number on its server."""
    address: int = 0
    """The address of the first register, see `modbus.py`."""
    part_length: int = 24
    """Characters of a part id, an even number; a longer id makes the verdict a fault."""
    handshake: bool = False
    """Whether the PLC acknowledges each verdict before the next is written."""
    relative_score: bool = False
    """True writes the relative score, a 32-bit float, into the two registers behind the age.

    It is off by default, because the program of an existing PLC may use these registers for something else.
    """
    recipe_address: int | None = None
    """The first of the registers with which the PLC asks for a recipe, see `models/recipes/modbus.py`; None: none."""
    heartbeat_s: Annotated[float, seconds(0.1)] = 1.0
    timeout_s: Annotated[float, seconds(0.05)] = 2.0
    max_age_s: Age = 60.0
    """Older verdicts are not written, since they may make the PLC act on another part; 0: all are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_if(not 0 <= self.unit <= 255, "unit", f"got {self.unit}; expected 0 to 255")
        longest = 2 * (WRITE_REGISTERS - 9)  # a verdict's other values take 9 registers
        is_invalid = self.part_length % 2 or not 2 <= self.part_length <= longest
        refuse_if(is_invalid, "part_length", f"got {self.part_length}; expected an even number from 2 to {longest}")
        last = 65536 - self.registers
        refuse_if(not 0 <= self.address <= last, "address", f"got {self.address}; expected 0 to {last}")
        if (first := self.recipe_address) is not None:
            last = 65536 - RECIPE_REGISTERS
            is_free = first + RECIPE_REGISTERS <= self.address or first >= self.address + self.registers
            taken = f"{self.address} to {self.address + self.registers - 1} are the verdict's"
            expected = f"got {first}; expected 0 to {last}, of which {taken}"
            refuse_if(not (0 <= first <= last and is_free), "recipe_address", expected)

    @property
    def registers(self) -> int:
        """Return the number of registers from `address` on."""
        return 14 + self.part_length // 2 + 2 * self.relative_score


@dataclass(frozen=True)
class OpcUaOptions(Table):
    """`[[opcua]]`: a server whose variables are written."""

    url: str = field(repr=False)
    """opc.tcp://HOST:PORT/PATH."""
    name: Name = "opcua"
    verdict: str = ""
    """Node of a String: the verdict as JSON. `opcua.py` lists the types that each node may have."""
    seq: str = ""
    """Node of an integer: the verdict's number."""
    decision: str = ""
    """Node of a String: pass, reject or fault; or of an integer: 1, 2 or 3."""
    score: str = ""
    """Node of a Double or a Float; NaN for a fault."""
    relative_score: str = ""
    """Node of a Double or a Float: score / threshold, above 1 where the score is above the threshold; NaN for a fault,
    and for a threshold of 0 or less."""
    part: str = ""
    """Node of a String: the part id."""
    age: str = ""
    """Node of an integer: age of the verdict in ms when it was written."""
    heartbeat: str = ""
    """Node of an integer, which rises while the line can judge and journal."""
    drift: str = ""
    """Node of a String: the last drift alarm, or its end."""
    user: str = ""
    password: str = field(default="", repr=False)
    heartbeat_s: Annotated[float, seconds(0.1)] = 1.0
    timeout_s: Annotated[float, seconds(0.05)] = 4.0
    max_age_s: Age = 60.0
    """Older verdicts are not written, since they may make a PLC act on another part; 0: all are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_url(self.url, ("opc.tcp",), "opc.tcp://HOST:PORT/PATH")
        expected = "expected the node of verdict or of decision"
        refuse_if(not (self.verdict or self.decision), "verdict", f"no verdict is written; {expected}")


@dataclass(frozen=True)
class OutputTables(Table):
    """All outputs of a line that have a name."""

    mqtt: MqttOptions | None = None
    webhook: tuple[WebhookOptions, ...] = ()
    modbus: tuple[ModbusOptions, ...] = ()
    opcua: tuple[OpcUaOptions, ...] = ()

    def __post_init__(self) -> None:
        """Raise MistakeError for two outputs of one name: they would share a cursor."""
        super().__post_init__()
        names = [self.mqtt.name] if self.mqtt else []
        for key, tables in (("webhook", self.webhook), ("modbus", self.modbus), ("opcua", self.opcua)):
            check_unique(key, [table.name for table in tables])
            names += [table.name for table in tables]
        twice = [name for name in names if names.count(name) > 1]
        refuse_if(twice, "", f"two outputs are named {''.join(twice[:1])!r}; expected a name of its own for each")
