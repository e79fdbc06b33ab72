"""Checks which requests a server of the line answers, by host name, origin and token; wrong tokens are slowed down."""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections import OrderedDict
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from stfpm_runtime.errors import ConfigError, StfpmError
from stfpm_runtime.line.config.server import ServerOptions

from .users import User, hash_of, read_users

LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
FIRST_DELAY_S = 0.1
"""Seconds before the first wrong token of an address is answered; they double with each further one."""
LONGEST_DELAY_S = 5.0
REMEMBERED_ADDRESSES = 1024
"""Addresses whose failures are counted; those that failed longest ago are forgotten first."""
FORGOTTEN_S = 600.0
"""Seconds without a failure after which the count of an address begins again at 0."""


BEARER = "Bearer "
NO_TOKEN = BEARER.encode()


class AuthorizationError(Exception):
    """A request that is not allowed, answered with this status and message after `delay_s` seconds."""

    def __init__(self, status: HTTPStatus, message: str, delay_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.delay_s = delay_s


class Authorizer:
    """Checks requests of one server. All methods are for any thread."""

    def __init__(self, options: ServerOptions, log: logging.Logger) -> None:
        self.has_token = bool(options.token or options.users)
        self.failed_tokens = 0
        """Requests with a wrong token since the start."""
        self._expected = f"{BEARER}{options.token}".encode()
        self._users_file = _UsersFile(options.users) if options.users else None
        self._log = log
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()  # address: how many, when the last one

    def check(self, address: str, host: str, origin: str, authorization: str) -> User:
        """Check the peer's address and three headers, each empty if absent; return who asks. Raises AuthorizationError.

        A right token is accepted at once, whatever its address has sent before: failures lock no address out.
        """
        if not self.has_token:
            if origin and urlsplit(origin).netloc.lower() != host.lower():  # no page of another site knows the token
                raise AuthorizationError(
                    HTTPStatus.FORBIDDEN, "the request comes from another site's page; expected a page of this server"
                )
            if _host_name(host) not in LOCAL_NAMES:  # another site's name that leads to this machine
                raise AuthorizationError(
                    HTTPStatus.FORBIDDEN, "expected the address 127.0.0.1 or localhost, or a token"
                )
            return User("", "view")
        user = self._user_of(authorization)
        if user:
            with self._lock:
                self._failures.pop(address, None)
            return user
        message = "expected the header Authorization: Bearer TOKEN"
        raise AuthorizationError(HTTPStatus.UNAUTHORIZED, message, self._failed(address) if authorization else 0.0)

    def _user_of(self, authorization: str) -> User | None:
        """Return whose token it is; None for a wrong one. Raises AuthorizationError where the file cannot be read."""
        if self._expected != NO_TOKEN and hmac.compare_digest(self._expected, authorization.encode("utf-8", "replace")):
            return User("", "administer")
        if self._users_file is None or not authorization.startswith(BEARER):
            return None
        try:
            return self._users_file.users().get(hash_of(authorization.removeprefix(BEARER)))
        except StfpmError as error:  # nobody is let in who may have been removed
            raise AuthorizationError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None

    def _failed(self, address: str) -> float:
        """Count and log a wrong token, and return how long its answer has to wait, in seconds."""
        now_s = time.monotonic()
        with self._lock:
            self.failed_tokens += 1
            count, last_s = self._failures.pop(address, (0, now_s))
            count = 0 if now_s - last_s > FORGOTTEN_S else count
            self._failures[address] = count + 1, now_s
            if len(self._failures) > REMEMBERED_ADDRESSES:
                self._failures.popitem(last=False)
        self._log.warning("a wrong token came from %s", address)
        return min(FIRST_DELAY_S * 2.0 ** min(count, 16), LONGEST_DELAY_S)


class _UsersFile:
    """The users of a file, which is read again when it has changed. For any thread."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises ConfigError."""
        self._path = path
        self._known: tuple[tuple[int, int, int], dict[str, User]] | None = None
        self.users()

    def users(self) -> dict[str, User]:
        """Return the users by the hashes of their tokens. Raises ConfigError."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be read ({error.strerror}); restore the file of users") from None
        version = status.st_mtime_ns, status.st_size, status.st_ino
        if self._known is None or self._known[0] != version:
            self._known = version, {user.token_sha256: user for user in read_users(self._path)}
        return self._known[1]


def _host_name(host: str) -> str:
    """Return the name in a Host header, in small letters, without port and brackets; empty if it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
