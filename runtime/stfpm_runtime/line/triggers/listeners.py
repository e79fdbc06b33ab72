"""Triggers that do not come by HTTP: a listener receives them and puts each into its camera's `Posted`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from .config import LineOptions
from .sinks.follower import Remark
from .station import Station
from .triggers import Posted


class Listener(Protocol):
    """Receives triggers in a thread of its own until it is closed."""

    failure: str
    """Why no trigger can be received; empty where they can."""

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

        yield MqttTriggers(options.mqtt, topics, options.journal.path, remark)
    for camera, trigger in posted.items():
        if camera.trigger == "gpio":
            from .gpio_trigger import GpioTrigger

            yield GpioTrigger(camera.gpio, trigger, remark)
