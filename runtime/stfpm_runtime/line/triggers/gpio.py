"""Triggers by a rising edge on a GPIO line: a light barrier wired to a Jetson's header."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from stfpm_runtime.errors import MissingExtraError, OptionError
from stfpm_runtime.line.journal.rows import LogEvent

from .base import NOT_TAKEN, Listener, QueuedTrigger, TriggerRequest

try:
    import gpiod
    from gpiod.line import Bias, Edge
except ImportError:
    raise MissingExtraError("gpiod", "gpio") from None

LOG = logging.getLogger("stfpm.gpio")
RETRY_S = 1.0
POLL = timedelta(milliseconds=100)
"""How long one wait for an edge takes."""
BOUNCE = timedelta(milliseconds=1)
"""Edges closer than this are one: contacts bounce."""


class GpioTrigger(Listener):
    """Waits in its thread for edges of one line, and puts a request into the trigger for each."""

    def __init__(self, address: str, trigger: QueuedTrigger, log_event: LogEvent) -> None:
        """Store everything; `address` is CHIP:LINE, such as /dev/gpiochip0:17."""
        super().__init__(f"gpio {address}")
        self._address = address
        self._name = f"gpio {address}"
        self._trigger = trigger
        self._log_event = log_event

    def start(self) -> None:
        """Request the line from the kernel and start the thread. Raises OptionError where the line cannot be used."""
        chip, _, line = self._address.rpartition(":")
        settings = gpiod.LineSettings(edge_detection=Edge.RISING, bias=Bias.PULL_DOWN, debounce_period=BOUNCE)
        try:
            self._lines = gpiod.request_lines(chip, consumer="stfpm-inspect", config={int(line): settings})
        except (OSError, ValueError) as error:
            raise OptionError(
                f"{self._name}: cannot be used ({error}); expected CHIP:LINE of a line that is free, see gpioinfo"
            ) from None
        super().start()

    def run(self) -> None:
        """Wait for edges until the worker is stopped; then release the line."""
        while not self.stopping.is_set():
            try:
                if self._lines.wait_edge_events(POLL):
                    for _ in self._lines.read_edge_events():
                        request_verdict(self._trigger, self._name, self._log_event)
                self.failure = ""
            except Exception as error:  # the chip is gone, for example: it is reported, and tried again
                if not self.failure:
                    LOG.exception("%s: no triggers are received", self._name)
                    self._log_event("trigger", f"{self._name}: {error}")
                self.failure = f"{self._name}: {error}"
                self.stopping.wait(RETRY_S)
        self._lines.release()


def request_verdict(trigger: QueuedTrigger, name: str, log_event: LogEvent) -> None:
    """Put a request into the trigger; one that is refused is logged and an event."""
    if not trigger.put(TriggerRequest(time.monotonic_ns())):
        LOG.error("%s: a trigger was not taken: %s", name, NOT_TAKEN)
        log_event("trigger", f"{name}: not taken: {NOT_TAKEN}")
