"""The heartbeat: a count that rises only while frames can be judged and journalled."""

from __future__ import annotations

import time

STEP_S = 0.1
"""The count rises by one at most this often."""


class Heartbeat:
    """Counts turns of the loop in which a frame could have been judged and journalled.

    Only the loop's thread may call `advance`. The outputs send `count` and send nothing while it stands still, so a
    loop that hangs, an engine that fails and a journal that cannot be written all stop the heartbeat.
    """

    def __init__(self) -> None:
        self.count = 0
        """Rises from 0; any thread may read it."""
        self._due_s = 0.0

    def advance(self, able: bool) -> None:
        """Raise the count if the line is `able` to judge and journal a frame. Called by the loop's thread alone."""
        now_s = time.monotonic()
        if able and now_s >= self._due_s:
            self._due_s = now_s + STEP_S
            self.count += 1
