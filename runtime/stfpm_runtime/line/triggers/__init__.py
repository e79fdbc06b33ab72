"""What requests a verdict: every frame, an interval, HTTP, MQTT, a GPIO edge. `open_listeners` opens the last two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.journal.rows import LogEvent

from .base import Listener, QueuedTrigger, Trigger


def open_listeners(
    options: LineOptions, triggers: Mapping[CameraOptions, Trigger], log_event: LogEvent
) -> Iterator[Listener]:
    """Yield a listener, not started, for each broker or GPIO line that the cameras' triggers need.

    Raises StfpmError for a package that is not installed.
    """
    queued = {camera: trigger for camera, trigger in triggers.items() if isinstance(trigger, QueuedTrigger)}
    topics: dict[str, list[QueuedTrigger]] = {}
    for camera, trigger in queued.items():
        if camera.trigger == "mqtt":
            topics.setdefault(camera.topic, []).append(trigger)
    if topics and options.mqtt:
        from .mqtt import MqttTriggers

        yield MqttTriggers(options.mqtt, topics, options.journal.path, log_event)
    for camera, trigger in queued.items():
        if camera.trigger == "gpio":
            from .gpio import GpioTrigger

            yield GpioTrigger(camera.gpio, trigger, log_event)
