"""What a line's TOML file may say of its dashboard."""

from __future__ import annotations

from dataclasses import dataclass

from ..listening import ListenOptions


@dataclass(frozen=True)
class DashboardOptions(ListenOptions):
    """`[dashboard]`: pages, pictures and an API for people and machines. Changes need a token, also on this machine."""

    listen: str = "127.0.0.1:8766"
