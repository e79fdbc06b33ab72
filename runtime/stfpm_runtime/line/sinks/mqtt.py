"""Verdicts to an MQTT broker, QoS 1: TOPIC/verdict/CAMERA/REGION, as JSON.

TOPIC/heartbeat counts; TOPIC/status, retained, says `online`, and `offline` when we are gone: the broker itself says
so, as our last will. A connection that is lost is not mended but made anew, from the cursor on: what paho would send
again by itself would come out of order.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Sequence
from typing import Any

from ...errors import MissingExtraError
from .follower import Record, SinkError
from .options import MqttOptions

try:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion
except ImportError:
    raise MissingExtraError("paho-mqtt", "mqtt") from None

ACKNOWLEDGE_S = 5.0
IN_FLIGHT = 100
"""Verdicts that are sent before the first is acknowledged."""


def connect(options: MqttOptions, client: paho.Client) -> None:
    """Connect a client and wait for the broker's word. Raises SinkError, without the password."""
    answered = threading.Event()
    answers: list[str] = []

    def on_connect(client: object, data: object, flags: object, reason: Any, properties: object) -> None:  # noqa: ANN401
        answers.append("" if not reason.is_failure else str(reason))
        answered.set()

    client.on_connect = on_connect
    where = f"{options.host}:{options.port or (8883 if options.tls else 1883)}"
    try:
        if options.user:
            client.username_pw_set(options.user, options.password)
        if options.tls:
            context = ssl.create_default_context(cafile=options.ca)
            if options.certificate:
                context.load_cert_chain(options.certificate, options.key)
            client.tls_set_context(context)
        client.connect(options.host, options.port or (8883 if options.tls else 1883), keepalive=10)
    except (OSError, ValueError) as error:
        raise SinkError(f"the broker {where} cannot be reached ({error})") from None
    client.loop_start()
    if not answered.wait(ACKNOWLEDGE_S):
        raise SinkError(f"the broker {where} does not answer")
    if answers[0]:
        raise SinkError(f"the broker {where} refuses us: {answers[0]}")


class MqttSink:
    """Publishes to one broker."""

    def __init__(self, options: MqttOptions) -> None:
        self._options = options
        self._client: paho.Client | None = None
        self._gone = threading.Event()

    def open(self) -> None:
        """Connect, and say so."""
        self._gone.clear()
        client = self._client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.max_inflight_messages_set(IN_FLIGHT)
        client.will_set(self._topic("status"), "offline", qos=1, retain=True)
        client.on_disconnect = lambda *arguments: self._gone.set()
        connect(self._options, client)
        self._settle([client.publish(self._topic("status"), "online", qos=1, retain=True)])

    def tell(self, records: Sequence[Record]) -> int:
        """Publish some, and wait until the broker has them all."""
        assert self._client is not None, "opened"
        records = records[:IN_FLIGHT]
        sent = []
        for record in records:
            topic = self._topic(f"verdict/{record['camera']}/{record['region']}")
            sent.append(self._client.publish(topic, json.dumps(record, allow_nan=False), qos=1))
        self._settle(sent)
        return len(records)

    def beat(self, count: int) -> None:
        """Publish the count."""
        assert self._client is not None, "opened"
        if self._gone.is_set():
            raise SinkError(f"the broker {self._options.host} is gone")
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

    def _settle(self, sent: Sequence[paho.MQTTMessageInfo]) -> None:
        """Wait until the broker has acknowledged all. Raises SinkError when it does not."""
        for message in sent:
            try:
                message.wait_for_publish(ACKNOWLEDGE_S)
            except (RuntimeError, ValueError) as error:
                raise SinkError(f"the broker {self._options.host} takes nothing more ({error})") from None
            if self._gone.is_set() or not message.is_published():
                raise SinkError(f"the broker {self._options.host} is gone")

    def _topic(self, below: str) -> str:
        return f"{self._options.topic}/{below}"
