"""Triggers by MQTT: a message on a camera's topic asks for a verdict; it may carry the part's id.

The verdict is published where all are: TOPIC/verdict/CAMERA/REGION. The broker keeps the session while the line is
away, so a trigger that was sent meanwhile is not lost. It comes late, though, and its part may have left the camera: it
becomes a fault, as does a trigger whose message is not understood. A trigger that cannot be taken is an event; nothing
is passed for it.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stfpm_runtime.errors import TriggerError
from stfpm_runtime.line.clients.mqtt import ANSWER_S, IN_FLIGHT, RECONNECT_S, address_of, make_client, session_arguments
from stfpm_runtime.line.config.outputs import MqttOptions
from stfpm_runtime.line.journal.rows import LogEvent, Record

from .base import NOT_TAKEN, Listener, QueuedTrigger, TriggerRequest
from .part_id import parse_part

if TYPE_CHECKING:
    import paho.mqtt.client as paho

LOG = logging.getLogger("stfpm.mqtt")
SESSION_S = 86_400
"""How long the broker keeps the triggers of a line that is away, in seconds."""
HELD_BACK_S = 1.0
"""Seconds in which the broker may have held a trigger back: after a session was resumed, and after the broker could not
send because too many messages were unacknowledged."""
LATE = "the trigger may have waited at the broker; its part may have left the camera"


class MqttTriggers(Listener):
    """Receives the triggers of all topics over one connection, which paho makes anew when it is lost.

    The methods whose names begin with `_on` are called by paho's thread.
    """

    def __init__(
        self, options: MqttOptions, topics: Mapping[str, Sequence[QueuedTrigger]], journal: Path, log_event: LogEvent
    ) -> None:
        """Store the triggers by topic: a message triggers every camera of its topic.

        `journal` names the session, so that two lines never share one. Raises OptionError for certificates that cannot
        be read.
        """
        super().__init__("mqtt triggers")
        self._topics, self._log_event = topics, log_event
        line = f"{socket.gethostname()}:{journal.absolute()}"
        client_id = f"stfpm-trigger-{hashlib.sha256(line.encode('utf-8', 'replace')).hexdigest()[:16]}"
        self._broker = "the broker {}:{}".format(*address_of(options))
        self._held_back_until_s = 0.0
        self._lock = threading.Lock()
        self._unacknowledged = 0
        """Messages of this connection."""
        self._connection = 0
        """The number of this connection: a message of an earlier one is never acknowledged."""
        self._is_subscribed = False
        self._answer_due_s = 0.0
        """When the broker should have answered the subscription, `time.monotonic()`."""
        self._client = client = make_client(options, client_id, SESSION_S)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        client.on_subscribe, client.on_message = self._on_subscribe, self._on_message
        client.on_error = self._on_error
        self._options = options
        self._connect()

    def run(self) -> None:
        """Receive until the stop; a subscription that was refused or not answered is tried again."""
        self._client.loop_start()
        while not self.stopping.wait(1.0):
            is_due = not self._is_subscribed and time.monotonic() > self._answer_due_s
            if is_due and self._client.is_connected():
                if not self.failure:
                    self._fail(f"{self._broker} does not answer the subscription")
                self._subscribe()
        self._client.disconnect()
        self._client.loop_stop()

    def _connect(self) -> None:
        """Make paho's thread connect anew."""
        self._client.connect_async(*address_of(self._options), **session_arguments(self._options, SESSION_S))

    def _subscribe(self) -> None:
        self._answer_due_s = time.monotonic() + ANSWER_S
        self._client.subscribe([(topic, 1) for topic in self._topics])

    def _fail(self, reason: str) -> None:
        """Show why nothing is received; log and journal say it once for each reason."""
        if reason != self.failure and not self.stopping.is_set():
            LOG.error("no triggers by MQTT: %s; trying again", reason)
            self._log_event("trigger", f"no triggers by MQTT: {reason}")
            self.failure = reason

    def _on_connect(self, client: object, data: object, flags: Any, reason: Any, properties: object) -> None:  # noqa: ANN401
        """Begin a connection, before any of its messages is received."""
        if reason.is_failure:
            self._fail(f"{self._broker} refuses the connection: {reason}")
            return
        with self._lock:
            self._connection, self._unacknowledged, self._is_subscribed = self._connection + 1, 0, False
        self._held_back_until_s = time.monotonic() + HELD_BACK_S if flags.session_present else 0.0
        self._subscribe()

    def _on_connect_fail(self, *arguments: object) -> None:
        """Show why the broker cannot be reached."""
        self._fail(f"{self._broker} cannot be reached ({self._client.connect_error})")

    def _on_error(self, error: Exception) -> bool:
        """Show an error that paho does not catch, and connect anew a little later; return False at the stop."""
        reason = f"internal error: {type(error).__name__}"
        if reason != self.failure:
            LOG.error("triggers by MQTT: internal error", exc_info=error)
        with self._lock:
            self._connection += 1
        self._fail(reason)
        if self.stopping.wait(RECONNECT_S[1]):
            return False
        self._connect()
        return True

    def _on_disconnect(self, *arguments: object) -> None:
        """End the connection: its messages are not acknowledged any more. Show that it is lost, unless it is known why.

        An acknowledgement that waits in paho would be sent before the next connection begins, which ends that one.
        """
        with self._lock:
            self._connection += 1
        if not self.failure:
            self._fail(f"{self._broker} is gone")

    def _on_subscribe(self, client: object, data: object, number: int, reasons: list[Any], properties: object) -> None:
        """Show a topic that the broker refuses, or that triggers are received."""
        for topic, reason in zip(self._topics, reasons, strict=False):
            if reason.is_failure:
                self._fail(f"{self._broker} refuses the subscription to {topic}: {reason}")
                return
        self._is_subscribed = True
        if self.failure:
            self._log_event("trigger", "the broker is reached again")
        self.failure = ""

    def _on_message(self, client: object, data: object, message: paho.MQTTMessage) -> None:
        """Trigger the cameras of the message's topic, and acknowledge the message once their verdicts are journalled.

        A process that is killed before that gets the message again at its next start.
        """
        triggers = () if message.retain else self._topics.get(message.topic, ())  # a retained message is old
        part, error = "", self._why_late(message)
        try:
            part = parse_part(bytes(message.payload), plain_text=True)
        except TriggerError as problem:
            error = str(problem)
        open_answers = list(range(max(1, len(triggers))))
        with self._lock:
            self._unacknowledged += 1
            connection = self._connection

        def answered(records: Sequence[Record] = ()) -> None:
            with self._lock:
                open_answers.pop()
                is_last = not open_answers and connection == self._connection
                if is_last and self._unacknowledged >= IN_FLIGHT - 1:  # what the broker could not send comes now
                    self._held_back_until_s = time.monotonic() + HELD_BACK_S
                self._unacknowledged -= is_last
            if is_last:
                self._client.ack(message.mid, message.qos)

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
