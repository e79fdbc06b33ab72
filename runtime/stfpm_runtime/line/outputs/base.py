"""What a sink is: the methods that one kind of receiver of verdicts has to have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from stfpm_runtime.line.journal.rows import Record


class OutputUnavailableError(Exception):
    """The other side cannot be reached, or refuses for now: try again later. The text has no secrets in it."""


class OutputDriver(Protocol):
    """Delivers to one other side, over a connection that is opened once and made anew after each SinkError.

    Each call ends within a time that the sink's options bound.
    """

    @property
    def batch(self) -> int:
        """Verdicts that `tell` takes at once, at most."""
        ...

    def open(self) -> None:
        """Connect. Raises SinkError."""
        ...

    def tell(self, records: Sequence[Record]) -> list[str]:
        """Deliver the first of these verdicts, at least one, in their order.

        Returns for each of them an empty text where it was acknowledged, or the reason of a refusal that will not
        change when it is offered again. Raises SinkError for everything else; then none counts as delivered.
        """
        ...

    def announce(self, record: Record) -> str:
        """Deliver an event (`kind`, `detail`, and the rest of its row); returns and raises what `tell` does."""
        ...

    def beat(self, count: int) -> None:
        """Send the count of the heartbeat. Raises SinkError."""
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


@dataclass(frozen=True)
class OutputPlan:
    """The function that makes a sink, and the times that it is served by."""

    name: str
    make: Callable[[], OutputDriver]
    heartbeat_s: float = 0.0
    """Between two heartbeats; 0: the sink has none."""
    max_age_s: float = 0.0
    """Older verdicts are not delivered; 0: all are."""
