"""Debounce: one frame above the threshold is no reject, N of the last M are."""

from __future__ import annotations

from collections import deque

from stfpm_runtime.detector import Decision


class Debounce:
    """N of M: a part is rejected if at least `wanted` of its last `window` frames were not passed.

    A fault stays a fault, and counts as a frame that was not passed. So one flicker is no alarm, and an alarm ends when
    fewer than N of the last M frames were not passed. Before M frames were seen, those that there are count.
    """

    def __init__(self, wanted: int, window: int) -> None:
        self._wanted = wanted
        self._frames: deque[tuple[int, bool]] = deque(maxlen=window)
        """The number of each frame's verdict, and whether the frame alone was passed."""

    def decide(self, decision: Decision, seq: int) -> tuple[Decision, str]:
        """Return the decision on the newest frame, and the reason: which frames it follows from.

        `seq` is the number that the frame's verdict has in the journal. The reason is empty for a fault and for a pass
        in a window without any frame that was not passed.
        """
        self._frames.append((seq, decision == "pass"))
        not_passed = [str(number or "not journalled") for number, passed in self._frames if not passed]
        debounced: Decision = "reject" if len(not_passed) >= self._wanted else "pass"
        if decision == "fault" or not not_passed:
            return decision, ""
        return debounced, (
            f"debounced: {len(not_passed)} of the last {len(self._frames)} frames not passed "
            f"({', '.join(not_passed)}); {self._wanted} make a reject"
        )
