"""What a line's TOML file may say of its dashboard."""

from __future__ import annotations

from dataclasses import dataclass

from .server import ServerOptions


@dataclass(frozen=True)
class DashboardOptions(ServerOptions):
    """`[dashboard]`: pages, pictures and an API for people and machines. Changes need a token, also on this machine."""

    listen: str = "127.0.0.1:8766"
