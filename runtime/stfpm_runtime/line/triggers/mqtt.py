"""Triggers by MQTT: a message on a camera's topic asks for a verdict; it may carry the part's id.

The verdict goes where all go: TOPIC/verdict/CAMERA/REGION. The broker keeps the session while the line is away, so a
trigger that was sent meanwhile is not lost. It comes late, though, and its part may have left the camera: it becomes a
fault, as does a trigger whose message is not understood. A trigger that cannot be taken is an event;
nothing is passed for it.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from stfpm_runtime.errors import TriggerError
from stfpm_runtime.lifecycle import Backoff
from stfpm_runtime.line.config.outputs import MqttOptions
from stfpm_runtime.line.journal.rows import LogEvent, Record
from stfpm_runtime.line.journal.tail import UnavailableError
from stfpm_runtime.line.outputs.mqtt import IN_FLIGHT, connect, make_client

from .base import NOT_TAKEN, QueuedTrigger, TriggerRequest
from .part_id import parse_part

LOG = logging.getLogger("stfpm.mqtt")
SESSION_S = 86_400
"""How long the broker keeps the triggers of a line that is away, in seconds."""
HELD_BACK_S = 1.0
"""Seconds in which the broker may have held a trigger back: after a session was resumed, and after the broker could not
send because too many messages were unacknowledged."""
SUBSCRIBED_S = 5.0
"""The longest wait for the broker's answer to a subscription, in seconds."""
LATE = "the trigger may have waited at the broker; its part may have left the camera"


class MqttTriggers:
    """Receives the triggers of all topics over one connection, which is made anew when it is lost.

    `topics` holds the cameras' triggers by topic: a message triggers every camera of its topic. `journal` names the
    session, so that two lines never share one.
    """

    def __init__(
        self, options: MqttOptions, topics: Mapping[str, Sequence[QueuedTrigger]], journal: Path, log_event: LogEvent
    ) -> None:
        self.failure = ""
        """Why no trigger can be received; empty where they can."""
        self._options, self._topics, self._log_event = options, topics, log_event
        line = f"{socket.gethostname()}:{journal.absolute()}"
        self._client_id = f"stfpm-trigger-{hashlib.sha256(line.encode('utf-8', 'replace')).hexdigest()[:16]}"
        self._held_back_until_s = 0.0
        self._lock = threading.Lock()
        self._client: paho.Client | None = None
        self._unacknowledged = 0
        """Messages of this client's connection."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mqtt triggers", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Receive nothing more. Closing twice is fine."""
        self._closing.set()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        backoff = Backoff(0.2, 5.0)
        while not self._closing.is_set():
            client = make_client(self._options, self._client_id, SESSION_S)
            gone = threading.Event()
            client.on_disconnect = lambda *arguments, gone=gone: gone.set()
            client.on_message = self._receive
            try:
                with self._lock:
                    self._client, self._unacknowledged = client, 0
                connect(self._options, client, SESSION_S, self._on_connect)
                self._subscribe(client)
                if self.failure:
                    self._log_event("trigger", "the broker is reached again")
                self.failure = ""
                backoff.reset()
                while not (self._closing.wait(0.1) or gone.is_set()):
                    pass
                if gone.is_set() and not self._closing.is_set():
                    raise UnavailableError(f"the broker {self._options.host} is gone")
            except Exception as error:  # whatever it is: it is shown, and tried again
                if not isinstance(error, UnavailableError):
                    LOG.exception("triggers by MQTT: internal error")
                self._fail(
                    str(error) if isinstance(error, UnavailableError) else f"internal error: {type(error).__name__}"
                )
            finally:
                client.disconnect()
                client.loop_stop()
            self._closing.wait(backoff.next_s())

    def _subscribe(self, client: paho.Client) -> None:
        """Subscribe to all topics. Raises SinkError where the broker refuses one, or does not answer."""
        answered = threading.Event()
        codes: list[Any] = []

        def on_subscribe(client: object, data: object, number: object, reasons: list[Any], properties: object) -> None:
            codes.extend(reasons)
            answered.set()

        client.on_subscribe = on_subscribe
        topics = list(self._topics)
        client.subscribe([(topic, 1) for topic in topics])
        if not answered.wait(SUBSCRIBED_S):
            raise UnavailableError(f"the broker {self._options.host} does not answer the subscription")
        for topic, code in zip(topics, codes, strict=False):
            if code.is_failure:
                raise UnavailableError(f"the broker {self._options.host} refuses the subscription to {topic}: {code}")

    def _fail(self, reason: str) -> None:
        """Show why nothing is received; log and journal say it once for each reason."""
        if reason != self.failure:
            LOG.error("no triggers by MQTT: %s; trying again", reason)
            self._log_event("trigger", f"no triggers by MQTT: {reason}")
        self.failure = reason

    def _on_connect(self, session_present: bool) -> None:
        """Note when the broker resumed a session. Called by paho before any message of the connection."""
        self._held_back_until_s = time.monotonic() + HELD_BACK_S if session_present else 0.0

    def _receive(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        """Trigger the cameras of the message's topic, and acknowledge the message once their verdicts are journalled.

        A process that is killed before that gets the message again at its next start. Called by paho for each message.
        """
        triggers = () if message.retain else self._topics.get(message.topic, ())  # a retained one tells of the past
        part, error = "", self._why_late(message)
        try:
            part = parse_part(bytes(message.payload), plain_text=True)
        except TriggerError as problem:
            error = str(problem)
        open_answers = list(range(max(1, len(triggers))))
        with self._lock:
            self._unacknowledged += 1

        def answered(records: Sequence[Record] = ()) -> None:
            with self._lock:
                open_answers.pop()
                is_last = not open_answers and client is self._client
                if is_last and self._unacknowledged >= IN_FLIGHT - 1:  # what the broker could not send comes now
                    self._held_back_until_s = time.monotonic() + HELD_BACK_S
                self._unacknowledged -= is_last
            if is_last:
                client.ack(message.mid, message.qos)

        if not triggers:
            answered()
        at_ns = time.monotonic_ns()
        for trigger in triggers:
            if not trigger.put(TriggerRequest(at_ns, part, answered, error)):
                LOG.error("%s: a trigger was not taken (part %a): %s", message.topic, part, NOT_TAKEN)
                self._log_event("trigger", f"{message.topic}, part {part!a}: not taken: {NOT_TAKEN}")
                answered()

    def _why_late(self, message: paho.MQTTMessage) -> str:
        """Return LATE if the broker may have held the message back, else an empty text."""
        is_soon = time.monotonic() < self._held_back_until_s
        return LATE if is_soon or message.dup or self._unacknowledged >= IN_FLIGHT - 1 else ""
