"""Triggers by MQTT: a message on a camera's topic asks for a verdict; it may carry the part's id.

The verdict goes where all go: TOPIC/verdict/CAMERA/REGION. A message that cannot be taken (too many wait) is told in
the journal's events; nothing is passed for it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from .shots import Firing
from .sinks.follower import PATIENCE_S, Remark, SinkError
from .sinks.mqtt import connect
from .sinks.options import MqttOptions
from .triggers import Posted

LOG = logging.getLogger("stfpm.mqtt")
PART_LENGTH = 200
"""Characters of a part's id."""


class MqttTriggers:
    """Listens to all cameras' topics, over one connection that is made anew when it is lost."""

    def __init__(self, options: MqttOptions, topics: Mapping[str, Posted], remark: Remark) -> None:
        self._options, self._topics, self._remark = options, topics, remark
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mqtt triggers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear nothing more."""
        self._closing.set()
        self._thread.join(2.0)

    def _work(self) -> None:
        attempts, is_down = 0, False
        while not self._closing.is_set():
            client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
            gone = threading.Event()
            client.on_disconnect = lambda *arguments, gone=gone: gone.set()
            client.on_message = self._hear
            try:
                connect(self._options, client)
                client.subscribe([(topic, 1) for topic in self._topics])
                if is_down:
                    self._remark("trigger", "the broker is reached again")
                attempts, is_down = 0, False
                while not (self._closing.wait(0.1) or gone.is_set()):
                    pass
                if gone.is_set() and not self._closing.is_set():
                    raise SinkError(f"the broker {self._options.host} is gone")
            except SinkError as error:
                if not is_down:
                    LOG.error("no triggers by MQTT: %s; trying again", error)
                    self._remark("trigger", f"no triggers by MQTT: {error}")
                is_down = True
            finally:
                client.disconnect()
                client.loop_stop()
            self._closing.wait(PATIENCE_S[min(attempts, len(PATIENCE_S) - 1)])
            attempts += 1

    def _hear(self, client: object, data: object, message: paho.MQTTMessage) -> None:
        """Called by paho for each message."""
        if message.retain:
            return  # of the past
        part = part_of(bytes(message.payload))
        trigger = self._topics.get(message.topic)
        if trigger is not None and not trigger.put(Firing(time.monotonic_ns(), part)):
            LOG.error("%s: a trigger was not taken (part %r): too many wait", message.topic, part)
            self._remark("trigger", f"not taken, too many wait: part {part!r}")


def part_of(payload: bytes) -> str:
    """The part's id in a message: {"part": "A-1017"}, or the text as it is; empty where there is none."""
    text = payload[: 4 * PART_LENGTH].decode("utf-8", "replace").strip()
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    part = found.get("part", "") if isinstance(found, dict) else text
    return str(part)[:PART_LENGTH] if isinstance(part, (str, int, float)) else ""
