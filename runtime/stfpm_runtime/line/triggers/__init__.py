"""What requests a verdict: every frame, an interval, HTTP, MQTT, a GPIO edge. `open_listeners` opens the last two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.journal.rows import LogEvent

from .base import QueuedTrigger, Trigger


class Listener(Protocol):
    """Receives triggers in a thread of its own, and puts each into its camera's `QueuedTrigger`."""

    failure: str
    """Why no trigger can be received; empty where they can."""

    def close(self, timeout_s: float = 2.0) -> None:
        """Receive nothing more, and wait for the thread's end, for so long at most. May be called twice."""
        ...


def open_listeners(
    options: LineOptions, triggers: Mapping[CameraOptions, Trigger], log_event: LogEvent
) -> Iterator[Listener]:
    """Yield a started listener for each broker or GPIO line that the cameras' triggers need.

    Raises StfpmError for a package or a line that is not there.
    """
    queued = {camera: trigger for camera, trigger in triggers.items() if isinstance(trigger, QueuedTrigger)}
    topics: dict[str, list[QueuedTrigger]] = {}
    for camera, trigger in queued.items():
        if camera.trigger == "mqtt":
            topics.setdefault(camera.topic, []).append(trigger)
    if topics and options.mqtt:
        from .mqtt import MqttTriggers

        mqtt = MqttTriggers(options.mqtt, topics, options.journal.path, log_event)
        mqtt.start()
        yield mqtt
    for camera, trigger in queued.items():
        if camera.trigger == "gpio":
            from .gpio import GpioTrigger

            gpio = GpioTrigger(camera.gpio, trigger, log_event)
            gpio.start()
            yield gpio
