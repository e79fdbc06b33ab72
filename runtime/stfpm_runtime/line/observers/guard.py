"""Calls that no verdict depends on: what they raise is counted and logged, and never ends the loop."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import ParamSpec, TypeVar

LOG = logging.getLogger("stfpm.line")
LOG_EVERY_S = 60.0
"""Between two log lines and events about the same call."""

P = ParamSpec("P")
T = TypeVar("T")


class Guard:
    """Calls functions by a name and catches what they raise. For the loop's thread; `failures` may be read from any."""

    def __init__(self, log_event: Callable[[str, str], None]) -> None:
        self.failures: Counter[str] = Counter()
        """How often each named call has raised an exception."""
        self._log_event = log_event
        self._due_s: dict[str, float] = {}

    def call(self, name: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return what the function returns; None where it raises, which is logged and an event once a minute."""
        try:
            return function(*args, **kwargs)
        except Exception as error:
            self.failures[name] += 1
            now_s = time.monotonic()
            if now_s >= self._due_s.get(name, 0.0):
                self._due_s[name] = now_s + LOG_EVERY_S
                LOG.exception("%s: internal error, %d so far; verdicts go on without it", name, self.failures[name])
                text = f"{name}: {type(error).__name__}: {error} ({self.failures[name]} so far)"
                self._log_event("internal error", text)
            return None
