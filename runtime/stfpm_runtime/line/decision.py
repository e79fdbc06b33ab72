"""From a verdict on one frame to the line's decision: debounce, and how unusual the score is among good parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ..conformal import PValues
from ..detector import Decision
from .inspector import Judged

LISTED = 8
"""Verdicts that a reason names, the newest ones."""


class Debounce:
    """N of M: a reject stands if at least `wanted` of the last `window` frames were not passed; a fault always does.

    A frame that could not be judged counts as one that was not passed. So one flicker is no alarm, and an alarm ends
    when fewer than N of the last M frames speak for it. Before M frames were seen, N of those there are.
    """

    def __init__(self, wanted: int, window: int) -> None:
        self._wanted = wanted
        self._last: deque[tuple[bool, int]] = deque(maxlen=window)
        """Of each of the last frames: whether it was not passed, and its verdict's number."""

    def decide(self, decision: Decision, seq: int = 0) -> tuple[Decision, str]:
        """Return the decision on the newest frame, and its reason with the verdicts that caused it.

        `seq` is the number that the verdict will have in the journal; 0 where it has none. The reason is empty for a
        frame that passes by itself and for a fault, which has its own.
        """
        self._last.append((decision != "pass", seq))
        not_passed = [number for is_not_passed, number in self._last if is_not_passed]
        alarmed: Decision = "reject" if len(not_passed) >= self._wanted else "pass"
        if decision == "fault" or decision == alarmed == "pass":
            return decision, ""
        listed = ", ".join(str(number) for number in not_passed[-LISTED:] if number)
        more = "..., " if len(not_passed) > LISTED else ""
        verdicts = f" (verdicts {more}{listed})" if listed else ""
        return (
            alarmed,
            f"debounced: {len(not_passed)} of the last {len(self._last)} not passed{verdicts}, "
            f"{self._wanted} make a reject",
        )


class Decider:
    """The decision on each part, with what its camera saw before where that is asked for."""

    def __init__(self, held_out: Sequence[float]) -> None:
        self._p_values = PValues(held_out)
        self._debounces: dict[tuple[str, str], Debounce] = {}

    def decide(self, judged: Judged, seq: int = 0) -> tuple[Decision, str]:
        """Return decision and reason; `seq` is the number that the verdict will have in the journal."""
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
