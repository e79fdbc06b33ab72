"""One budget of time for the whole stop, which everything that has a thread shares."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

EACH_S = 5.0
"""The longest wait for one of them, in seconds."""


class Closable(Protocol):
    """Something with a thread, which `close` tells to end and waits for; it may be called twice."""

    def close(self, timeout_s: float) -> None:
        """End, and wait for the end for `timeout_s` seconds at most."""
        ...


def close_all(closables: Sequence[Closable], budget_s: float) -> None:
    """Tell all of them to end, then wait for each, the last one first; together for `budget_s` seconds at most."""
    until_s = time.monotonic() + budget_s
    for closable in reversed(closables):
        closable.close(0.0)
    for closable in reversed(closables):
        closable.close(max(0.0, min(EACH_S, until_s - time.monotonic())))
