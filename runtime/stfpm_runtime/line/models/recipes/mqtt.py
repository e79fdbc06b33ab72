"""Recipes by MQTT: a message on TOPIC/recipe/set asks for one; TOPIC/recipe/state, retained, has the status.

The message is the number, or `{"id": 7, "who": "Ada"}`; 0 withdraws the recipe. What is refused is published on
TOPIC/recipe/refused. Messages that the broker has kept are not followed: the product may have been changed since.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from typing import TYPE_CHECKING, Any

from stfpm_runtime.errors import OptionError, UnavailableError
from stfpm_runtime.line.clients.mqtt import ANSWER_S, connect, make_client
from stfpm_runtime.line.config.outputs import MqttOptions
from stfpm_runtime.line.journal.rows import LogEvent

from .link import RecipeLink
from .recipes import Recipes
from .status import ACCEPTED, RecipeStatus

if TYPE_CHECKING:
    import paho.mqtt.client as paho

POLL_S = 0.5
GONE = RecipeStatus("none", reason="the line is not connected to the broker")


class MqttRecipes(RecipeLink):
    """Serves one broker, over a connection of its own. Methods that begin with `_on` are called by paho's thread."""

    def __init__(self, options: MqttOptions, recipes: Recipes, log_event: LogEvent) -> None:
        """Store where the broker is. Raises OptionError for certificates that cannot be read."""
        super().__init__(options.name, recipes, log_event)
        self._options, self._topic = options, f"{options.topic}/recipe"
        self._client = make_client(options)
        self._gone, self._subscribed = threading.Event(), threading.Event()
        self._refusal = ""
        self._version = -1

    def open(self) -> None:
        """Connect a new client, and subscribe; the broker keeps nothing for it while it is away."""
        self._gone.clear()
        self._subscribed.clear()
        self._refusal, self._version = "", -1
        client = self._client = make_client(self._options)
        client.will_set(f"{self._topic}/state", _state(GONE), qos=1, retain=True)
        client.on_disconnect = lambda *arguments: self._gone.set()
        client.on_subscribe, client.on_message = self._on_subscribe, self._on_message
        connect(self._options, client)
        client.subscribe(f"{self._topic}/set", 1)
        if not self._subscribed.wait(ANSWER_S):
            raise UnavailableError(f"the broker {self._options.host} does not answer the subscription")
        if self._refusal:
            raise UnavailableError(self._refusal)

    def serve(self) -> None:
        """Publish the status where it has changed."""
        version = self.recipes.wait_for_change(self._version, POLL_S)
        if self._gone.is_set():
            raise UnavailableError(f"the broker {self._options.host} is gone")
        if version != self._version and not self.stopping.is_set():
            self._version = version
            self._client.publish(f"{self._topic}/state", _state(self.recipes.status), qos=1, retain=True)

    def close(self) -> None:
        """Publish that the line is gone, and disconnect."""
        if self._client.is_connected():
            self._client.publish(f"{self._topic}/state", _state(GONE), qos=1, retain=True)
        self._client.disconnect()
        self._client.loop_stop()

    def _on_subscribe(self, client: object, data: object, number: int, reasons: list[Any], properties: object) -> None:
        if reasons[0].is_failure:
            self._refusal = f"the broker refuses the subscription to {self._topic}/set: {reasons[0]}"
        self._subscribed.set()

    def _on_message(self, client: object, data: object, message: paho.MQTTMessage) -> None:
        if message.retain:
            self._log_event("recipe", f"{self.name}: a retained message on {self._topic}/set is not followed")
            return
        number, who = parse_request(bytes(message.payload), self.name)
        try:
            answer = self.recipes.request(number, who, "MQTT")
        except OptionError:  # no name: nothing of the message is followed
            answer = self.recipes.request(None, self.name, "MQTT")
        if answer.code != ACCEPTED:
            text = json.dumps({"id": number, **dataclasses.asdict(answer)})
            self._client.publish(f"{self._topic}/refused", text, qos=1)


def parse_request(payload: bytes, name: str) -> tuple[int | None, str]:
    """Return the recipe that a message asks for and who does; None where it is not understood. `name` is the default.

    >>> parse_request(b'{"id": 7, "who": "Ada"}', "mqtt")
    (7, 'Ada')
    """
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return None, name
    number, who = (found.get("id"), found.get("who", name)) if isinstance(found, dict) else (found, name)
    if type(number) is not int or not isinstance(who, str):
        return None, name
    return number, who


def _state(status: RecipeStatus) -> str:
    return json.dumps(dataclasses.asdict(status))
