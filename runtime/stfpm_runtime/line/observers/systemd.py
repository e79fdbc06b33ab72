"""Messages to systemd from a service of Type=notify: datagrams of text, sd_notify(3)."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping

from .base import Observer


class Notifier(Observer):
    """Tells systemd that the service is ready, alive and stopping; does nothing without NOTIFY_SOCKET."""

    name = "systemd"

    def __init__(self, status: Callable[[], str] = str, environment: Mapping[str, str] = os.environ) -> None:
        """Store how to get the line's status in words, and read systemd's variables."""
        self._status = status
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        # open from the start, so that a process without a free file descriptor still feeds the watchdog
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket:
            self._socket.setblocking(False)  # a systemd that does not listen must not stop the line
        is_for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "") if is_for_us else ""
        self._watchdog_us = int(microseconds) if microseconds.isdecimal() else None
        self._due_s = 0.0

    def starting(self, longest_s: float) -> None:
        """Ask systemd to wait so many seconds for `ready`: TensorRT may build a model's engine for minutes."""
        self._send(f"EXTEND_TIMEOUT_USEC={longest_s * 1e6:.0f}\nSTATUS=loading the model")

    def ready(self, status: str) -> None:
        """Tell systemd that the first frame may come, and that the watchdog's time is the unit's from now on."""
        self._set_watchdog(self._watchdog_us)
        self._send(f"READY=1\nSTATUS={status}")

    def do_maintenance(self) -> None:
        """Tell systemd, twice within the watchdog's time, that the loop runs."""
        if self._watchdog_us is not None and time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + self._watchdog_us / 2e6
            self._send(f"WATCHDOG=1\nSTATUS={self._status()}")

    def stopping(self) -> None:
        """Tell systemd that no more frames are judged."""
        self._send("STOPPING=1")

    def restarting(self, longest_s: float) -> None:
        """Tell systemd that the line ends and starts again in the same process, within so many seconds.

        `ready` comes next. Until then no loop runs that could feed the watchdog, so its time is as long.
        """
        self._set_watchdog(round(longest_s * 1e6))
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def close(self) -> None:
        """Close the socket."""
        if self._socket:
            self._socket.close()

    def _set_watchdog(self, microseconds: int | None) -> None:
        """Set the time within which the next sign of life has to come, and give one, where the unit has a watchdog."""
        if self._watchdog_us is not None:
            self._send(f"WATCHDOG_USEC={microseconds}\nWATCHDOG=1")

    def _send(self, text: str) -> None:
        if self._socket:
            with contextlib.suppress(OSError):
                self._socket.sendto(text.encode(), self._address)
