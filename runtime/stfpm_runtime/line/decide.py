"""From a verdict on one frame to the line's decision: debounce, and how unusual the score is among good parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from stfpm_runtime.artifact.conformal import PValues
from stfpm_runtime.detector import Decision

from .inspect import Judged


class Debounce:
    """N of M: a reject stands if at least `wanted` of the last `window` frames were not passed; a fault always does.

    A frame that could not be judged counts as one that was not passed. So one flicker is no alarm, and an alarm ends
    when fewer than N of the last M frames speak for it. Before M frames were seen, N of those there are.
    """

    def __init__(self, wanted: int, window: int) -> None:
        self._wanted = wanted
        self._frames: deque[tuple[int, bool]] = deque(maxlen=window)
        """Number of each frame's verdict, and whether the frame was passed by itself."""

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


class Decider:
    """The decision on each part, with what its camera saw before where that is asked for."""

    def __init__(self, held_out: Sequence[float]) -> None:
        self._p_values = PValues(held_out)
        self._debounces: dict[tuple[str, str], Debounce] = {}

    def decide(self, judged: Judged, seq: int) -> tuple[Decision, str]:
        """Return the decision on a part and its reason. `seq` is the number that its verdict has in the journal."""
        camera, verdict = judged.shot.camera, judged.verdict
        if camera.debounce is None:
            return verdict.decision, verdict.reason
        key = camera.name, judged.region.name
        if key not in self._debounces:
            self._debounces[key] = Debounce(*camera.debounce)
        decision, reason = self._debounces[key].decide(verdict.decision, seq)
        return decision, reason or verdict.reason

    def p_value(self, judged: Judged) -> float | None:
        """The share of good parts that would score as high or higher; None of a fault, or with nothing held out."""
        score = judged.verdict.score
        return None if score is None else self._p_values.of(score, judged.looks)
