"""Open connections of a server: how many there may be, and until when each of them has to have sent its request.

The limits leave file descriptors to the line: a peer that opens connections must not take those of cameras, journal,
pictures and sinks.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

HEADERS_S = 10.0
"""Seconds from the connection to the end of the request's headers."""
BODY_S = 10.0
"""Seconds from the end of the headers to the end of the body."""
IDLE_S = 15.0
"""Seconds from an answer to the end of the next request's headers on the same connection."""
RESERVED_DESCRIPTORS = 256
"""File descriptors that no server may use: cameras, journal, pictures, sinks, libraries."""
MOST_CONNECTIONS = 192
"""Connections of one port, where the limit of file descriptors allows them."""
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
"""The answer to a connection that is refused."""


def raise_descriptor_limit() -> int:
    """Raise the process's limit of open files as far as it may, and return it."""
    if resource is None:
        return RESERVED_DESCRIPTORS + 4 * MOST_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # some systems refuse what they call the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def connections_per_port(descriptors: int) -> int:
    """Return how many connections a port may have, 8 to 192: two ports with two descriptors for each, and a reserve."""
    return max(8, min(MOST_CONNECTIONS, (descriptors - RESERVED_DESCRIPTORS) // 4))


@dataclass(eq=False)
class Connection:
    """One open connection."""

    address: str
    """The peer's address, without its port."""
    close: Callable[[], None]
    """Ends it at once; for any thread, and more than once."""
    due_s: float
    """`time.monotonic()` at which it is closed."""
    answering: bool = False
    """Whether its request is complete, so that it is not closed to make room for others."""


class Connections:
    """The connections of one port. Where there are too many, the one that has been silent longest is closed.

    One address may have half of them. All methods are for any thread.
    """

    def __init__(self, log: logging.Logger, most: int) -> None:
        self._log = log
        self._most = most
        self._lock = threading.Lock()
        self._open: dict[Connection, None] = {}  # in the order of their last change

    def admit(self, address: str, close: Callable[[], None]) -> Connection | None:
        """Return the new connection, which has `HEADERS_S` for its request; None if there is no room for it."""
        connection = Connection(address, close, time.monotonic() + HEADERS_S)
        with self._lock:
            counts = Counter(other.address for other in self._open)
            full = counts[address] >= self._most // 2
            if full or len(self._open) >= self._most:
                largest = address if full else max(counts, key=counts.__getitem__)
                silent = (other for other in self._open if other.address == largest and not other.answering)
                oldest = next(silent, None)
                if oldest is None:
                    self._log.warning("too many connections; one of %s was refused", address)
                    return None
                self._log.warning("too many connections; the oldest silent one, of %s, was closed", oldest.address)
                del self._open[oldest]
                oldest.close()
            self._open[connection] = None
        return connection

    def expect(self, connection: Connection, timeout_s: float, answering: bool = False) -> None:
        """Give the connection `timeout_s` seconds for what comes next; `answering`: its request is complete."""
        with self._lock:
            if connection in self._open:
                connection.due_s, connection.answering = time.monotonic() + timeout_s, answering
                self._open[connection] = self._open.pop(connection)  # the newest change is last

    def release(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        with self._lock:
            self._open.pop(connection, None)

    def close_overdue(self) -> None:
        """Close the connections whose time is over. Called by the server several times a second."""
        now_s = time.monotonic()
        with self._lock:
            overdue = [connection for connection in self._open if connection.due_s < now_s]
            for connection in overdue:
                del self._open[connection]
        for connection in overdue:
            self._log.warning("%s sent no complete request in time; its connection was closed", connection.address)
            connection.close()

    def close(self, timeout_s: float) -> None:
        """Wait `timeout_s` seconds at most until all requests are answered, and close all connections."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            with self._lock:
                if not any(connection.answering for connection in self._open):
                    break
            time.sleep(0.005)
        with self._lock:
            remaining = list(self._open)
            self._open.clear()
        for connection in remaining:
            connection.close()
