"""What every connection has over which recipes are asked for: it is made anew when it is lost, and says why."""

from __future__ import annotations

import logging

from stfpm_runtime.errors import StfpmError
from stfpm_runtime.lifecycle import Backoff
from stfpm_runtime.line.journal.rows import LogEvent
from stfpm_runtime.line.triggers.base import Listener

from .recipes import Recipes

LOG = logging.getLogger("stfpm.recipes")
RETRY_S = (0.2, 5.0)
"""Between attempts to connect: the first wait, doubled up to the second."""


class RecipeLink(Listener):
    """Receives requests for recipes from one other side, and tells it the status. A subclass writes three methods."""

    lacking = "no recipe can be asked for"

    def __init__(self, name: str, recipes: Recipes, log_event: LogEvent) -> None:
        """Store the other side's name, which log, events and requests have."""
        super().__init__(f"recipes of {name}")
        self.name, self.recipes = name, recipes
        self._log_event = log_event

    def open(self) -> None:
        """Connect. Raises UnavailableError."""
        raise NotImplementedError

    def serve(self) -> None:
        """Receive and tell what is due, within a second. Raises UnavailableError where the other side is gone."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the connection back, if there is one."""
        raise NotImplementedError

    def run(self) -> None:
        """Serve the other side until the stop."""
        backoff = Backoff(*RETRY_S)
        while not self.stopping.is_set():
            try:
                self.open()
                while not self.stopping.is_set():
                    self.serve()
                    backoff.reset()
                    self._recover()
            except StfpmError as error:
                self._fail(str(error))
            except Exception as error:
                self._fail(f"internal error: {type(error).__name__}", error)
            finally:
                try:
                    self.close()
                except Exception as error:
                    self._fail(f"internal error: {type(error).__name__}", error)
            self.stopping.wait(backoff.next_s())

    def _fail(self, reason: str, error: Exception | None = None) -> None:
        """Show why nothing is received; log and journal say it once for each reason."""
        if reason != self.failure and not self.stopping.is_set():
            LOG.error("%s: %s: %s; trying again", self.name, self.lacking, reason, exc_info=error)
            self._log_event("recipe", f"{self.name}: {self.lacking}: {reason}")
            self.failure = reason

    def _recover(self) -> None:
        if self.failure:
            self._log_event("recipe", f"{self.name}: reached again")
        self.failure = ""
