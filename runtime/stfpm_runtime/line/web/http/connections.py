"""The limits of the web server's connections: their number, and the time that each has to send its request.

They leave file descriptors to the line: a client that opens connections must not take those of cameras, journal,
pictures and outputs.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

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
PART_S = 120.0
"""Seconds for each part of a long answer, which may be a picture over a slow network."""
RESERVED_DESCRIPTORS = 256
"""File descriptors that are kept for cameras, journal, pictures, outputs and libraries."""
MAX_CONNECTIONS = 192
"""The most connections, where the limit of file descriptors allows them."""
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
"""The answer to a connection that is refused."""


def raise_descriptor_limit() -> int:
    """Raise the process's limit of open files as far as it may, and return it."""
    if resource is None:
        return RESERVED_DESCRIPTORS + 2 * MAX_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # some systems refuse what they call the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def connection_limit(descriptors: int) -> int:
    """Return how many connections the server may have, 8 to 192: two descriptors for each, and the reserve."""
    return max(8, min(MAX_CONNECTIONS, (descriptors - RESERVED_DESCRIPTORS) // 2))


@dataclass(eq=False)
class Connection:
    """One open connection."""

    address: str
    """The client's address, without its port."""
    close: Callable[[], None]
    """Ends the connection at once; it may be called more than once."""
    due_s: float
    """The moment on `time.monotonic()` at which it is closed."""
    answering: bool = False
    """True while a complete request that passed the token check is answered; it then keeps its place."""

    def extend(self, timeout_s: float) -> None:
        """Give what is going on `timeout_s` seconds from now. For any thread."""
        self.due_s = time.monotonic() + timeout_s


def connection_of(scope: MutableMapping[str, Any]) -> Connection | None:
    """Return the connection of a request by its ASGI scope; None in a server without limits."""
    found = scope.get("state", {}).get("connection")
    return found if isinstance(found, Connection) else None


def kept_open(connection: Connection | None, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts of a long answer; its client has `PART_S` seconds for each."""
    for part in parts:
        if connection:
            connection.extend(PART_S)
        yield part


class Connections:
    """The open connections. Where there are too many, the one that has been silent longest is closed.

    One address may have half of them. All methods belong to the server's event loop.
    """

    def __init__(self, log: logging.Logger, most: int) -> None:
        """Store the logger and the most connections."""
        self._log = log
        self._most = most
        self._open: dict[Connection, None] = {}  # in the order of their last change

    def admit(self, address: str, close: Callable[[], None]) -> Connection | None:
        """Return the new connection, which has `HEADERS_S` for its request; None if there is no room for it."""
        connection = Connection(address, close, time.monotonic() + HEADERS_S)
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
            self.release(oldest)
            oldest.close()
        self._open[connection] = None
        return connection

    def expect(self, connection: Connection, timeout_s: float) -> None:
        """Give the connection `timeout_s` seconds for what comes next. Until it is answering, it may be closed."""
        if connection in self._open:
            connection.due_s, connection.answering = time.monotonic() + timeout_s, False
            self._open[connection] = self._open.pop(connection)  # the newest change is last

    def release(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.pop(connection, None)

    def close_overdue(self) -> None:
        """Close the connections whose time is over. The server calls it several times a second."""
        now_s = time.monotonic()
        for connection in [connection for connection in self._open if connection.due_s < now_s]:
            self.release(connection)
            self._log.warning("%s sent no complete request in time; its connection was closed", connection.address)
            connection.close()
