"""What every observer has, and the guard that calls it: an observer changes no verdict and cannot end the loop."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from stfpm_runtime.line.inspect import JudgedPart
from stfpm_runtime.line.journal.rows import VerdictRow
from stfpm_runtime.model_check import Model

LOG = logging.getLogger("stfpm.line")
LOG_EVERY_S = 60.0
"""Seconds between two log lines and events about the same call."""

P = ParamSpec("P")
T = TypeVar("T")
KeptParts = Sequence[tuple[JudgedPart, VerdictRow]]
"""The parts of one frame, each with its row in the journal."""


class Observer:
    """Receives verdicts after the journal has them. The loop's thread calls all methods."""

    name: str
    """The name in the log and in events."""

    def observe(self, parts: KeptParts) -> None:
        """Use the verdicts on the parts of one frame."""

    def do_maintenance(self) -> None:
        """Do what is due between two frames."""

    def use_model(self, model: Model) -> None:
        """Begin again with another model, which judges from the next frame on."""

    def close(self) -> None:
        """End, when the line stops; the journal still takes events."""


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
