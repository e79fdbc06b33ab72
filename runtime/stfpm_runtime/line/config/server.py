"""The table `[dashboard]`: where the line's web server listens, and the token that it asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .toml_file import MistakeError

TOKEN_LENGTH = 16
"""The fewest characters of a token where other machines can reach the port."""


@dataclass(frozen=True)
class ServerOptions:
    """`[dashboard]`: pages, pictures, an API and HTTP triggers. Changes need a token, also from this machine.

    An address that other machines can reach is not opened without a token.
    """

    listen: str = "127.0.0.1:8766"
    """HOST:PORT; port 0 is any free one."""
    token: str = field(default="", repr=False)
    """The token that the header `Authorization: Bearer` must carry; empty: none."""

    users: Path | None = None
    """A file of further tokens, each of a named person with a role, which `stfpm-users` writes; None: none."""
    require_reason: bool = False
    """Whether a change of thresholds, regions or models over HTTP must say why."""

    def __post_init__(self) -> None:
        host, separator, port = self.listen.rpartition(":")
        if not (separator and host and port.isdecimal() and int(port) < 65536):
            raise MistakeError("listen", f"got {self.listen!r}; expected HOST:PORT")
        if not (self.token or self.users) and not self.is_local:
            raise MistakeError("listen", f"{host} can be reached by others; expected the key token or users too")
        if not self.is_local and self.token and len(self.token) < TOKEN_LENGTH:
            expected = f"expected {TOKEN_LENGTH} or more, because others can reach {host}: openssl rand -hex 16"
            raise MistakeError("token", f"got {len(self.token)} characters; {expected}")
        if not (self.token.isascii() and self.token.isprintable() and self.token == self.token.strip()):
            raise MistakeError("token", "expected ASCII letters, digits and signs, and no space or newline at its ends")

    @property
    def host(self) -> str:
        """Return the host, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Return the port, 0 to 65535."""
        return int(self.listen.rpartition(":")[2])

    @property
    def is_local(self) -> bool:
        """Return whether only this machine reaches the port."""
        return self.host in ("127.0.0.1", "::1", "localhost")
