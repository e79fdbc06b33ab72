"""Verdicts to an MQTT broker, QoS 1: TOPIC/verdict/CAMERA/REGION, as JSON.

TOPIC/heartbeat rises while the line can judge and journal. TOPIC/status, retained, says `online`, and `offline` when
the line is gone: the broker sends that itself, as the client's last will. TOPIC/head, retained, is the newest head of
the journal's chain. A lost connection is replaced by a new client, which begins at the cursor: what paho would send
again by itself would come out of order. With MQTT 5 the broker says of each message whether it takes it; with MQTT
3.1.1 it acknowledges even what its access rules drop.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stfpm_runtime.errors import UnavailableError
from stfpm_runtime.line.clients.mqtt import ANSWER_S, BATCH, IN_FLIGHT, connect, make_client
from stfpm_runtime.line.config.outputs import MqttOptions
from stfpm_runtime.line.journal.rows import Record

from .base import OutputDriver

if TYPE_CHECKING:
    import paho.mqtt.client as paho

LOG = logging.getLogger("stfpm.outputs")
QUOTA_EXCEEDED = 0x97
"""A refusal that may change by itself."""


class MqttOutput(OutputDriver):
    """Publishes to one broker."""

    batch = BATCH

    def __init__(self, options: MqttOptions) -> None:
        """Store where the broker is. Raises OptionError for certificates that cannot be read."""
        self.name, self.heartbeat_s, self.max_age_s = options.name, options.heartbeat_s, options.max_age_s
        self._options = options
        self._client = make_client(options)
        self._gone = threading.Event()
        self._refusals: dict[int, tuple[int, str]] = {}
        """Code and words for each message that the broker refused, by its number in the connection."""

    def open(self) -> None:
        """Connect a new client, and publish the status."""
        self._gone.clear()
        self._refusals.clear()
        client = self._client = make_client(self._options)
        client.max_inflight_messages_set(IN_FLIGHT)
        client.will_set(self._topic("status"), "offline", qos=1, retain=True)
        client.on_disconnect = lambda *arguments: self._gone.set()
        client.on_publish = self._on_publish
        self.batch = connect(self._options, client)
        (refusal,) = self._wait_for_answers([client.publish(self._topic("status"), "online", qos=1, retain=True)])
        if refusal:
            LOG.warning("%s: the status is not shown: %s", self.name, refusal)

    def send_verdicts(self, records: Sequence[Record]) -> list[str]:
        """Publish verdicts, and wait until the broker has answered for all."""
        return self._wait_for_answers(
            [self._publish(f"verdict/{record['camera']}/{record['region']}", record) for record in records]
        )

    def send_event(self, record: Record) -> str:
        """Publish an event, and wait until the broker has answered."""
        return self._wait_for_answers([self._publish("event", record)])[0]

    def send_head(self, head: str) -> None:
        """Publish the head as a retained message."""
        self._wait_for_answers([self._client.publish(self._topic("head"), head, qos=1, retain=True)])

    def send_heartbeat(self, count: int) -> None:
        """Publish the count."""
        if self._gone.is_set():
            raise UnavailableError(f"the broker {self._options.host} is gone")
        self._client.publish(self._topic("heartbeat"), str(count), qos=0)

    def close(self) -> None:
        """Publish that the line is gone, and disconnect."""
        if self._client.is_connected():
            self._client.publish(self._topic("status"), "offline", qos=1, retain=True)
        self._client.disconnect()
        self._client.loop_stop()

    def _publish(self, topic: str, record: Record) -> paho.MQTTMessageInfo:
        return self._client.publish(self._topic(topic), json.dumps(record, allow_nan=False), qos=1)

    def _on_publish(self, client: object, data: object, number: int, reason: Any, properties: object) -> None:  # noqa: ANN401
        """Keep the broker's answer to a message. Called by paho before the message counts as published."""
        if reason.is_failure:
            self._refusals[number] = reason.value, str(reason)

    def _wait_for_answers(self, sent: Sequence[paho.MQTTMessageInfo]) -> list[str]:
        """Wait until the broker has answered, and return its refusals, up to the first that it did not answer for.

        Raises UnavailableError where it answered for none. A broker may refuse a message and end the connection then.
        """
        until_s = time.monotonic() + ANSWER_S
        refusals: list[str] = []
        for message in sent:
            problem = "is gone"
            try:
                while not message.is_published() and not self._gone.is_set() and time.monotonic() < until_s:
                    message.wait_for_publish(0.1)
                answered = message.is_published()
            except (RuntimeError, ValueError) as error:
                answered, problem = False, f"takes nothing more ({error})"
            if not answered:
                if refusals:
                    break
                raise UnavailableError(f"the broker {self._options.host} {problem}")
            code, words = self._refusals.pop(message.mid, (0, ""))
            if code == QUOTA_EXCEEDED:
                raise UnavailableError(f"the broker {self._options.host} refuses for now: {words}")
            refusals.append(f"the broker {self._options.host} refuses: {words}" if code else "")
        return refusals

    def _topic(self, name: str) -> str:
        return f"{self._options.topic}/{name}"
