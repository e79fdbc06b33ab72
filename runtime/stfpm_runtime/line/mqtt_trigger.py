"""Triggers by MQTT: a message on a camera's topic asks for a verdict; it may carry the part's id.

The verdict goes where all go: TOPIC/verdict/CAMERA/REGION. One message triggers all cameras with its topic. A message
whose part id is not understood, and one that the broker kept while the line had no connection, become faults: their
parts are not passed. A message that cannot be taken (too many wait) is an event.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from ..errors import TriggerError
from .part_id import parse_part, visible
from .shots import Firing
from .sinks.follower import PATIENCE_S, Remark, SinkError
from .sinks.mqtt import ACKNOWLEDGE_S, connect
from .sinks.options import MqttOptions
from .triggers import Posted

LOG = logging.getLogger("stfpm.mqtt")
LATE = "the message came while the line had no connection to the broker, so that no frame was taken for its part"


class MqttTriggers:
    """Listens to all cameras' topics, over one connection that is made anew when it is lost.

    The broker keeps the session of `client_id`, which no other client may have: what is published while the connection
    is down comes later, and is a fault.
    """

    def __init__(
        self, options: MqttOptions, topics: Mapping[str, Sequence[Posted]], remark: Remark, client_id: str
    ) -> None:
        self.name = "mqtt triggers"
        self.failure = "not connected yet"
        """Why no trigger can be received; empty while they can."""
        self._options, self._topics, self._remark, self._client_id = options, topics, remark, client_id
        self._subscribed = threading.Event()
        self._refused: list[str] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mqtt triggers", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Receive nothing more. Closing twice is fine."""
        self._closing.set()
        self._thread.join(max(0.0, timeout_s))

    def _work(self) -> None:
        attempts, is_down = 0, False
        while not self._closing.is_set():
            client = paho.Client(
                CallbackAPIVersion.VERSION2, self._client_id, clean_session=False, reconnect_on_failure=False
            )
            gone = threading.Event()
            client.on_disconnect = lambda *arguments, gone=gone: gone.set()
            client.on_message = self._hear
            client.on_subscribe = self._on_subscribe
            try:
                self._subscribe(client)
                if is_down:
                    self._remark("trigger", "MQTT: triggers are received again")
                attempts, is_down, self.failure = 0, False, ""
                while not (self._closing.wait(0.1) or gone.is_set()):
                    pass
                if gone.is_set() and not self._closing.is_set():
                    raise SinkError(f"the broker {self._options.host} is gone")
            except Exception as error:  # of whatever kind: it is shown, and tried again
                if not isinstance(error, SinkError):
                    LOG.exception("internal error: MQTT triggers")
                self.failure = f"no triggers by MQTT: {error}"
                if not is_down:
                    LOG.error("%s; trying again", self.failure)
                    self._remark("trigger", self.failure)
                is_down = True
            finally:
                client.disconnect()
                client.loop_stop()
            self._closing.wait(PATIENCE_S[min(attempts, len(PATIENCE_S) - 1)])
            attempts += 1

    def _subscribe(self, client: paho.Client) -> None:
        """Connect, subscribe, and wait for the broker's answer. Raises SinkError."""
        self._subscribed.clear()
        connect(self._options, client)
        client.subscribe([(topic, 1) for topic in self._topics])
        if not self._subscribed.wait(ACKNOWLEDGE_S):
            raise SinkError(f"the broker {self._options.host} does not answer the subscription")
        if self._refused:
            remedy = "allow this user to read them in the broker's access rules"
            raise SinkError(f"the broker {self._options.host} refuses to send {', '.join(self._refused)}; {remedy}")

    def _on_subscribe(self, client: object, data: object, mid: int, reasons: Sequence[Any], properties: object) -> None:
        """Note which topics the broker refuses. Called by paho in its own thread."""
        self._refused = [topic for topic, reason in zip(self._topics, reasons, strict=False) if reason.is_failure]
        self._subscribed.set()

    def _hear(self, client: object, data: object, message: paho.MQTTMessage) -> None:
        """Fire for a message. Called by paho in its own thread."""
        if message.retain:
            return  # of the past, and for no part
        for trigger in self._topics.get(message.topic, ()):
            part, refused = "", "" if self._subscribed.is_set() else LATE
            try:
                part = parse_part(bytes(message.payload), trigger.part_length, plain_text=True)
            except TriggerError as error:
                refused = str(error)
            if refused:
                LOG.error("%s: %s (part %s)", message.topic, refused, visible(part) or "without an id")
                self._remark("trigger", f"{message.topic}: {refused}")
            if not trigger.put(Firing(time.monotonic_ns(), part, refused=refused)):
                LOG.error("%s: a trigger was not taken (part %s): too many wait", message.topic, visible(part))
                self._remark("trigger", f"{message.topic}: not taken, too many wait: part {visible(part)}")
