"""Triggers that do not come by HTTP: a listener receives them and puts each into its camera's `Posted`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from stfpm_runtime.line.cameras.worker import CameraWorker
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.journal.rows import LogEvent

from .base import QueuedTrigger


class Listener(Protocol):
    """Receives triggers in a thread of its own until it is closed."""

    failure: str
    """Why no trigger can be received; empty where they can."""

    def close(self, timeout_s: float = 2.0) -> None:
        """Receive nothing more, and wait for the thread's end for so long at most. Closing twice is fine."""
        ...


def open_listeners(options: LineOptions, stations: Sequence[CameraWorker], log_event: LogEvent) -> Iterator[Listener]:
    """Whatever the cameras' triggers need. Raises StfpmError for a package or a line that is not there."""
    posted = {s.camera: s.trigger for s in stations if isinstance(s.trigger, QueuedTrigger)}
    topics: dict[str, list[QueuedTrigger]] = {}
    for camera, trigger in posted.items():
        if camera.trigger == "mqtt":
            topics.setdefault(camera.topic, []).append(trigger)
    if topics and options.mqtt:
        from .mqtt import MqttTriggers

        mqtt = MqttTriggers(options.mqtt, topics, options.journal.path, log_event)
        mqtt.start()
        yield mqtt
    for camera, trigger in posted.items():
        if camera.trigger == "gpio":
            from .gpio import GpioTrigger

            yield GpioTrigger(camera.gpio, trigger, log_event)
