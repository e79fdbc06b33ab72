"""Triggers that come from elsewhere than HTTP: a listener hears them and puts each into its camera's `Posted`."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from .config import LineOptions
from .sinks.follower import Remark
from .station import Station
from .triggers import Posted


class Listener(Protocol):
    """Something that hears triggers, until it is closed."""

    name: str
    failure: str
    """Why no trigger can be received; empty while they can."""

    def close(self, timeout_s: float = 2.0) -> None:
        """Receive nothing more, and wait for the thread's end for so long at most. Closing twice is fine."""
        ...


def open_listeners(options: LineOptions, stations: Sequence[Station], remark: Remark) -> Iterator[Listener]:
    """Whatever the cameras' triggers need. Raises StfpmError for a package or a line that is not there."""
    posted = {s.camera: s.trigger for s in stations if isinstance(s.trigger, Posted)}
    topics: dict[str, list[Posted]] = {}
    for camera, trigger in posted.items():
        if camera.trigger == "mqtt":
            topics.setdefault(camera.topic, []).append(trigger)
    if topics and options.mqtt:
        from .mqtt_trigger import MqttTriggers

        yield MqttTriggers(options.mqtt, topics, remark, _client_id(options.journal.path))
    for camera, trigger in posted.items():
        if camera.trigger == "gpio":
            from .gpio_trigger import GpioTrigger

            yield GpioTrigger(camera.gpio, trigger, remark)


def _client_id(journal: Path) -> str:
    """Return the name of this line's session at a broker: one line of one machine writes a journal."""
    line = f"{socket.gethostname()}:{journal.absolute()}"
    return f"stfpm-{hashlib.sha256(os.fsencode(line)).hexdigest()[:16]}"
