"""Verdicts to an MQTT broker, QoS 1: TOPIC/verdict/CAMERA/REGION, as JSON.

TOPIC/heartbeat rises while the line can judge and journal; TOPIC/status, retained, says `online`, and `offline` when we
are gone: the broker itself says so, as our last will. A connection that is lost is not mended but made anew, from the
cursor on: what paho would send again by itself would come out of order. With MQTT 5 the broker says of each message
whether it takes it; with MQTT 3.1.1 it acknowledges even what its access rules drop.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from stfpm_runtime.errors import MissingExtraError, OptionError
from stfpm_runtime.line.config.outputs import MqttOptions
from stfpm_runtime.line.journal.rows import Record
from stfpm_runtime.line.journal.tail import UnavailableError

from .base import OutputDriver

try:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
except ImportError:
    raise MissingExtraError("paho-mqtt", "mqtt") from None

LOG = logging.getLogger("stfpm.outputs")
ACKNOWLEDGE_S = 5.0
"""Seconds in which the broker has to acknowledge all messages that are on their way."""
BATCH = 100
"""Verdicts that are handed to paho at once."""
IN_FLIGHT = 20
"""How many of those paho sends before the first is acknowledged: as many as mosquitto takes. Others may take fewer."""
QUOTA_EXCEEDED = 0x97
"""A refusal that may change by itself."""


def make_client(options: MqttOptions, client_id: str = "", session_s: int = 0) -> paho.Client:
    """Return a client that is not connected yet.

    With `session_s` above 0 the broker is to keep its session, and the caller acknowledges each message itself.
    """
    version = MQTTProtocolVersion.MQTTv5 if options.version == "5" else MQTTProtocolVersion.MQTTv311
    clean = None if options.version == "5" else not session_s  # MQTT 5 says it when it connects
    return paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id,
        clean_session=clean,
        protocol=version,
        reconnect_on_failure=False,
        manual_ack=session_s > 0,
    )


def connect(
    options: MqttOptions,
    client: paho.Client,
    session_s: int = 0,
    on_session: Callable[[bool], None] = lambda present: None,
) -> int:
    """Connect a client, wait for the broker's answer, and return how many messages may be handed over at once.

    `session_s` is how long the broker is to keep the session of a client that is gone, in seconds. `on_session` is
    called with whether the broker resumes one, before any message comes. Raises UnavailableError, without the password.
    """
    answered = threading.Event()
    answers: list[str] = []
    batch = [BATCH]

    def on_connect(client: object, data: object, flags: object, reason: Any, properties: Any) -> None:  # noqa: ANN401
        most = getattr(properties, "ReceiveMaximum", IN_FLIGHT)
        batch[0] = BATCH if most >= IN_FLIGHT else most  # paho does not know the broker's limit
        on_session(bool(getattr(flags, "session_present", False)))
        answers.append("" if not reason.is_failure else str(reason))
        answered.set()

    client.on_connect = on_connect
    where = f"{options.host}:{options.port or (8883 if options.tls else 1883)}"
    try:
        if options.user:
            client.username_pw_set(options.user, options.password)
        if options.tls:
            client.tls_set_context(tls_context(options))
        session: dict[str, Any] = {}
        if options.version == "5":
            properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = session_s
            properties.ReceiveMaximum = IN_FLIGHT
            session = {"clean_start": not session_s, "properties": properties}
        client.connect(options.host, options.port or (8883 if options.tls else 1883), keepalive=10, **session)
    except (OSError, ValueError) as error:
        raise UnavailableError(f"the broker {where} cannot be reached ({error})") from None
    client.loop_start()
    if not answered.wait(ACKNOWLEDGE_S):
        raise UnavailableError(f"the broker {where} does not answer")
    if answers[0]:
        raise UnavailableError(f"the broker {where} refuses us: {answers[0]}")
    return batch[0]


def tls_context(options: MqttOptions) -> ssl.SSLContext:
    """Return what TLS needs. Raises OSError for a certificate that cannot be read."""
    context = ssl.create_default_context(cafile=options.ca)
    if options.certificate:
        context.load_cert_chain(options.certificate, options.key)
    return context


class MqttOutput(OutputDriver):
    """Publishes to one broker. Raises OptionError for certificates that cannot be read."""

    batch = BATCH

    def __init__(self, options: MqttOptions) -> None:
        """Store where the broker is."""
        self.name, self.heartbeat_s, self.max_age_s = options.name, options.heartbeat_s, options.max_age_s
        self._options = options
        self._client: paho.Client | None = None
        self._gone = threading.Event()
        self._refusals: dict[int, tuple[int, str]] = {}
        """Code and words for each message that the broker refused, by its number in the connection."""
        if options.tls:
            try:
                tls_context(options)
            except OSError as error:
                remedy = "expected PEM files for ca, certificate and key"
                raise OptionError(f"{options.name}: the certificates cannot be read ({error}); {remedy}") from None

    def open(self) -> None:
        """Connect, and say so."""
        self._gone.clear()
        self._refusals.clear()
        client = self._client = make_client(self._options)
        client.max_inflight_messages_set(IN_FLIGHT)
        client.will_set(self._topic("status"), "offline", qos=1, retain=True)
        client.on_disconnect = lambda *arguments: self._gone.set()
        client.on_publish = self._on_publish
        self.batch = connect(self._options, client)
        (refusal,) = self._settle([client.publish(self._topic("status"), "online", qos=1, retain=True)])
        if refusal:
            LOG.warning("%s: the status is not shown: %s", self._options.name, refusal)

    def tell(self, records: Sequence[Record]) -> list[str]:
        """Publish them, and wait until the broker has answered for all."""
        assert self._client is not None, "opened"
        sent = []
        for record in records:
            topic = self._topic(f"verdict/{record['camera']}/{record['region']}")
            sent.append(self._client.publish(topic, json.dumps(record, allow_nan=False), qos=1))
        return self._settle(sent)

    def announce(self, record: Record) -> str:
        """Publish it, and wait until the broker has it."""
        assert self._client is not None, "opened"
        return self._settle([self._client.publish(self._topic("event"), json.dumps(record, allow_nan=False), qos=1)])[0]

    def beat(self, count: int) -> None:
        """Publish the count."""
        assert self._client is not None, "opened"
        if self._gone.is_set():
            raise UnavailableError(f"the broker {self._options.host} is gone")
        self._client.publish(self._topic("heartbeat"), str(count), qos=0)

    def close(self) -> None:
        """Say that we go, and go."""
        client, self._client = self._client, None
        if client is None:
            return
        if client.is_connected():
            client.publish(self._topic("status"), "offline", qos=1, retain=True)
        client.disconnect()
        client.loop_stop()

    def _on_publish(self, client: object, data: object, number: int, reason: Any, properties: object) -> None:  # noqa: ANN401
        """Keep what the broker says of a message. Called by paho before the message counts as published."""
        if reason.is_failure:
            self._refusals[number] = reason.value, str(reason)

    def _settle(self, sent: Sequence[paho.MQTTMessageInfo]) -> list[str]:
        """Wait until the broker has answered, and return its refusals, up to the first that it did not answer for.

        Raises UnavailableError where it answered for none. A broker may refuse a message and end the connection then.
        """
        until_s = time.monotonic() + ACKNOWLEDGE_S
        refusals: list[str] = []
        for message in sent:
            try:
                while not message.is_published() and not self._gone.is_set() and time.monotonic() < until_s:
                    message.wait_for_publish(0.1)
                answered = message.is_published()
            except (RuntimeError, ValueError) as error:
                if refusals:
                    break
                raise UnavailableError(f"the broker {self._options.host} takes nothing more ({error})") from None
            if not answered:
                if refusals:
                    break
                raise UnavailableError(f"the broker {self._options.host} is gone")
            code, words = self._refusals.pop(message.mid, (0, ""))
            if code == QUOTA_EXCEEDED:
                raise UnavailableError(f"the broker {self._options.host} refuses for now: {words}")
            refusals.append(f"the broker {self._options.host} refuses: {words}" if code else "")
        return refusals

    def _topic(self, below: str) -> str:
        return f"{self._options.topic}/{below}"
