"""Where a server listens, and what it asks of whoever comes: shared by all tables that open a port."""

from __future__ import annotations

from dataclasses import dataclass, field

from .toml_file import MistakeError

TOKEN_LENGTH = 16
"""Characters of a token, at least, where others can reach the port."""


@dataclass(frozen=True)
class ServerOptions:
    """HOST:PORT and a token. What others can reach is not opened without one."""

    listen: str = "127.0.0.1:0"
    """HOST:PORT; port 0 is any free one."""
    token: str = field(default="", repr=False)
    """What the header `Authorization: Bearer` has to say; empty: nothing."""

    def __post_init__(self) -> None:
        host, separator, port = self.listen.rpartition(":")
        if not (separator and host and port.isdecimal() and int(port) < 65536):
            raise MistakeError("listen", f"got {self.listen!r}; expected HOST:PORT")
        if not self.token and not self.is_local:
            raise MistakeError("listen", f"{host} can be reached by others; expected the key token beside it")
        if not self.is_local and len(self.token) < TOKEN_LENGTH:
            expected = f"expected {TOKEN_LENGTH} or more, because others can reach {host}: openssl rand -hex 16"
            raise MistakeError("token", f"got {len(self.token)} characters; {expected}")
        if not (self.token.isascii() and self.token.isprintable() and self.token == self.token.strip()):
            raise MistakeError("token", "expected ASCII letters, digits and signs, and no space or newline at its ends")

    @property
    def host(self) -> str:
        """Without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """0 to 65535."""
        return int(self.listen.rpartition(":")[2])

    @property
    def is_local(self) -> bool:
        """Whether this machine alone reaches it."""
        return self.host in ("127.0.0.1", "::1", "localhost")
