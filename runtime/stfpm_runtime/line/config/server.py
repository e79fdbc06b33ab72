"""The tables `[dashboard]` and `[recipe_server]`: where the line's servers listen, and what they ask clients for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .toml_file import MistakeError

TOKEN_LENGTH = 16
"""The fewest characters of a token where other machines can reach the port."""
LOCAL = ("127.0.0.1", "::1", "localhost")
"""The hosts that only this machine reaches."""


def parse_address(listen: str) -> tuple[str, int]:
    """Return the host, without brackets, and the port, 0 to 65535, of HOST:PORT. Raises MistakeError."""
    host, separator, port = listen.rpartition(":")
    if not (separator and host and port.isdecimal() and int(port) < 65536):
        raise MistakeError("listen", f"got {listen!r}; expected HOST:PORT")
    return host.strip("[]"), int(port)


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
    """If true, a change of thresholds, regions or models over HTTP is refused without a reason in words."""

    def __post_init__(self) -> None:
        host, _ = parse_address(self.listen)
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
        return parse_address(self.listen)[0]

    @property
    def port(self) -> int:
        """Return the port, 0 to 65535."""
        return parse_address(self.listen)[1]

    @property
    def is_local(self) -> bool:
        """Return whether only this machine reaches the port."""
        return self.host in LOCAL


@dataclass(frozen=True)
class RecipeServerOptions:
    """`[recipe_server]`: an OPC UA server with a method that asks for a recipe.

    An address that other machines can reach is not opened without user and password.
    """

    listen: str = "127.0.0.1:4841"
    """HOST:PORT."""
    user: str = ""
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        host, port = parse_address(self.listen)
        if port == 0:
            raise MistakeError("listen", f"got {self.listen!r}; expected a port from 1 to 65535")
        if bool(self.user) != bool(self.password):
            raise MistakeError("user", "user and password belong together; expected both or neither")
        if host not in LOCAL and not self.user:
            raise MistakeError("listen", f"{host} can be reached by others; expected the keys user and password too")
        if self.password and host not in LOCAL and len(self.password) < TOKEN_LENGTH:
            raise MistakeError("password", f"got {len(self.password)} characters; expected {TOKEN_LENGTH} or more")
