"""What systemd wants to hear from a service of Type=notify: a datagram of text, sd_notify(3)."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping


class Notifier:
    """Tells systemd that the service is ready, alive and stopping; says nothing where nobody asked (NOTIFY_SOCKET)."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if self._address else None
        if self._socket:
            self._socket.setblocking(False)  # systemd that does not listen must not stop the line
        meant_for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "") if meant_for_us else ""
        self._interval_s = int(microseconds) / 2e6 if microseconds.isdecimal() else None
        self._due_s = 0.0

    def starting(self, longest_s: float) -> None:
        """Ask systemd to wait so long for READY: a model is loaded, and TensorRT may build its engine for minutes."""
        self._send(f"EXTEND_TIMEOUT_USEC={longest_s * 1e6:.0f}\nSTATUS=loading the model")

    def ready(self, status: str) -> None:
        """The first frame may come."""
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self, status: Callable[[], str]) -> None:
        """The loop turns: called each time, it tells so twice within the watchdog's time."""
        if self._interval_s is not None and time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + self._interval_s
            self._send(f"WATCHDOG=1\nSTATUS={status()}")

    def stopping(self) -> None:
        """The last frame is judged."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket:
            self._socket.close()

    def _send(self, text: str) -> None:
        if not self._socket:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError):  # it is a courtesy; a watchdog that hears nothing acts by itself
            self._socket.sendto(text.encode(), address)
