"""Triggers by a rising edge on a GPIO line: a light barrier wired to a Jetson's header."""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta

from stfpm_runtime.errors import MissingExtraError, OptionError
from stfpm_runtime.line.cameras.mailbox import TriggerRequest
from stfpm_runtime.line.journal.rows import LogEvent

from .base import NOT_TAKEN, QueuedTrigger

try:
    import gpiod
    from gpiod.line import Bias, Edge
except ImportError:
    raise MissingExtraError("gpiod", "gpio") from None

LOG = logging.getLogger("stfpm.gpio")
RETRY_S = 1.0
BOUNCE = timedelta(milliseconds=1)
"""Edges closer than this are one: contacts bounce."""


class GpioTrigger:
    """Waits in a thread for edges of one line. Raises OptionError where it cannot be had."""

    def __init__(self, address: str, trigger: QueuedTrigger, log_event: LogEvent) -> None:
        """`address` is CHIP:LINE, say /dev/gpiochip0:17."""
        self.failure = ""
        """Why no edge can be received; empty where they can."""
        self._name = f"gpio {address}"
        self._log_event = log_event
        chip, _, line = address.rpartition(":")
        settings = gpiod.LineSettings(edge_detection=Edge.RISING, bias=Bias.PULL_DOWN, debounce_period=BOUNCE)
        try:
            self._request = gpiod.request_lines(chip, consumer="stfpm-inspect", config={int(line): settings})
        except (OSError, ValueError) as error:
            raise OptionError(
                f"gpio {address}: cannot be used ({error}); expected CHIP:LINE of a line that is free, see gpioinfo"
            ) from None
        self._trigger = trigger
        self._closing = threading.Event()
        self._released = False
        self._thread = threading.Thread(target=self._work, name="gpio", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Give the line back. Closing twice is fine."""
        self._closing.set()
        self._thread.join(max(0.0, timeout_s))
        if not self._thread.is_alive() and not self._released:
            self._released = True
            self._request.release()

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                if self._request.wait_edge_events(timedelta(milliseconds=100)):
                    for _ in self._request.read_edge_events():
                        fire(self._trigger, self._name, self._log_event)
                self.failure = ""
            except Exception as error:  # the chip is gone, say: it is shown, and tried again
                if not self.failure:
                    LOG.exception("%s: no triggers are received", self._name)
                    self._log_event("trigger", f"{self._name}: {error}")
                self.failure = f"{self._name}: {error}"
                self._closing.wait(RETRY_S)


def fire(trigger: QueuedTrigger, name: str, log_event: LogEvent) -> None:
    """Ask for a verdict; a trigger that cannot be taken is logged and an event."""
    if not trigger.put(TriggerRequest(time.monotonic_ns())):
        LOG.error("%s: a trigger was not taken: %s", name, NOT_TAKEN)
        log_event("trigger", f"{name}: not taken: {NOT_TAKEN}")
