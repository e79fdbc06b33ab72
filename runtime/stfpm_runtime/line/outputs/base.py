"""What every output has: the part that the loop and the status see, and the driver of one kind of other side."""

from __future__ import annotations

from collections.abc import Sequence

from stfpm_runtime.lifecycle import Worker
from stfpm_runtime.line.inspect import JudgedPart
from stfpm_runtime.line.journal.cursor import Position
from stfpm_runtime.line.journal.rows import Record, VerdictRow

LAG_LIMIT_S = 30.0
"""An output whose oldest undelivered verdict is older than this is not healthy."""


class Output(Worker):
    """Receives verdicts, in a thread of its own."""

    name: str
    """Name in the log, in events and in the status."""

    @property
    def lag_s(self) -> float:
        """Return the age of the oldest undelivered verdict in seconds; 0 where everything is delivered."""
        raise NotImplementedError

    @property
    def failure(self) -> str:
        """Return why it does not work; an empty text where it does."""
        raise NotImplementedError

    def prepare(self, row: VerdictRow, judged: JudgedPart, journal: str) -> VerdictRow:
        """Return the row with the names of the files that will be written for it.

        Called by the loop before the row is written into the journal with the id `journal`.
        """
        return row

    def enqueue(self, row: VerdictRow) -> None:
        """Begin to deliver a row. Called by the loop once it is journalled; `seq` is 0 where it could not be."""
        raise NotImplementedError


class OutputDriver:
    """Delivers to one other side, over a connection that is opened once and made anew after each UnavailableError.

    Each call ends within a time that the driver's options bound. All calls come from one thread.
    """

    name: str
    """Name of the cursor, in the log, in events and in the status."""
    heartbeat_s = 0.0
    """Between two heartbeats, in seconds; 0: the other side has none."""
    max_age_s = 0.0
    """Older verdicts are not delivered; 0: all are."""
    batch = 1
    """Verdicts that `send_verdicts` takes at once, at most."""
    has_cursor = True
    """Whether a cursor file keeps the position; False: `open` returns it."""

    def open(self) -> Position | None:
        """Connect, and return the last verdict that the other side has, where it knows it. Raises UnavailableError."""
        raise NotImplementedError

    def is_open(self) -> bool:
        """Return whether the connection still leads to the other side; False makes a new one at once."""
        return True

    def send_verdicts(self, records: Sequence[Record]) -> list[str]:
        """Deliver the first of these verdicts, at least one, in their order.

        Returns for each of them an empty text where it was acknowledged, or the reason of a refusal that will not
        change when it is offered again. Raises UnavailableError for everything else; then none counts as delivered.
        Each record has the columns and the key `age_ms`: its age in ms, or None where that is not known.
        """
        raise NotImplementedError

    def send_event(self, record: Record) -> str:
        """Deliver an event (`kind`, `detail`, the rest of its row); returns and raises what `send_verdicts` does."""
        return ""

    def send_head(self, head: str) -> None:
        """Deliver the newest head of the journal's chain, as JSON, so that there is a copy of it elsewhere.

        Raises UnavailableError.
        """

    def send_heartbeat(self, count: int) -> None:
        """Send the count of the heartbeat, if the other side takes one. Raises UnavailableError."""

    def close(self) -> None:
        """Give the connection back."""


def problem_of(output: Output) -> str:
    """Return what is wrong with the output in words, or an empty text."""
    if output.failure:
        return f"{output.name}: {output.failure}"
    if (lag_s := output.lag_s) > LAG_LIMIT_S:
        return f"{output.name}: the oldest undelivered verdict is {lag_s:.0f} s old"
    return ""
