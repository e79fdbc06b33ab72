"""Triggers by a rising edge on a GPIO line: a light barrier wired to a Jetson's header."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from ..errors import MissingExtraError, OptionError
from .shots import Firing
from .triggers import Posted

try:
    import gpiod
    from gpiod.line import Bias, Edge
except ImportError:
    raise MissingExtraError("gpiod", "gpio") from None

BOUNCE = timedelta(milliseconds=1)
"""Edges closer than this are one: contacts bounce."""


class GpioTrigger:
    """Waits in a thread for edges of one line. Raises OptionError where it cannot be had."""

    def __init__(self, address: str, trigger: Posted) -> None:
        """`address` is CHIP:LINE, say /dev/gpiochip0:17."""
        self.failure = ""
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
        self._thread = threading.Thread(target=self._work, name="gpio", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give the line back."""
        if not self._closing.is_set():
            self._closing.set()
            self._thread.join(2.0)
            self._request.release()

    def _work(self) -> None:
        while not self._closing.is_set():
            if self._request.wait_edge_events(timedelta(milliseconds=100)):
                for _ in self._request.read_edge_events():
                    self._trigger.put(Firing(time.monotonic_ns()))
