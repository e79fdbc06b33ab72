"""The ability of a model: it rejects the known defects of its product, and passes good parts.

Parity says that a file computes what was trained; it says nothing about what was learnt. A model that is to take
another's place is therefore tried on pictures with known answers, and compared with the other one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from .binomial import binomial_quantile
from .detector import Detector, Picture, Verdict
from .errors import DataError, name_some

CONFIDENCE = 0.975
"""So many false alarms or fewer have this probability at the model's own rate: more are too many."""
Expected = Literal["reject", "pass", ""]
"""The known answer: a known defect must be rejected, a good part passed; empty where nobody has said what it is."""


@dataclass(frozen=True, eq=False)
class Case:
    """A picture, its known answer if it has one, and what the models say of it."""

    picture: str
    """The name of its file."""
    expected: Expected
    new: Verdict
    old: Verdict | None
    """The verdict of the model whose place is taken; None where there is none."""

    @property
    def is_wrong(self) -> bool:
        """Return whether the new model does not give the known answer."""
        return bool(self.expected) and self.new.decision != self.expected

    @property
    def was_wrong(self) -> bool:
        """Return whether the old model does not give the known answer."""
        return self.old is not None and bool(self.expected) and self.old.decision != self.expected

    @property
    def differs(self) -> bool:
        """Return whether the two models decide differently."""
        return self.old is not None and self.old.decision != self.new.decision

    def without_maps(self) -> Case:
        """Return the case without the anomaly maps: those of many pictures need much memory."""
        old = self.old and dataclasses.replace(self.old, anomaly_map=None)
        return dataclasses.replace(self, new=dataclasses.replace(self.new, anomaly_map=None), old=old)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        verdicts = {"new": self.new, "old": self.old}
        return {"picture": self.picture, "must": self.expected or None} | {
            whose: {"decision": one.decision, "relative_score": one.relative_score}
            for whose, one in verdicts.items() if one is not None
        }  # fmt: skip


@dataclass(frozen=True)
class Ability:
    """What a new model does on pictures with known answers, beside an old one."""

    cases: tuple[Case, ...]
    false_alarm_rate: float
    """The rate that the new model promises, 0 to 1."""

    @property
    def defects(self) -> list[Case]:
        """Return the known defects."""
        return [case for case in self.cases if case.expected == "reject"]

    @property
    def good(self) -> list[Case]:
        """Return the good parts."""
        return [case for case in self.cases if case.expected == "pass"]

    @property
    def escaped(self) -> list[Case]:
        """Return the known defects that the new model does not reject, but the old one does, if there is one."""
        return [case for case in self.defects if case.is_wrong and not case.was_wrong]

    @property
    def still_passed(self) -> list[Case]:
        """Return the known defects that neither model rejects: they are no reason to keep the old one."""
        return [case for case in self.defects if case.is_wrong and case.was_wrong]

    @property
    def false_alarms(self) -> list[Case]:
        """Return the good parts that the new model does not pass."""
        return [case for case in self.good if case.is_wrong]

    @property
    def false_alarms_allowed(self) -> int:
        """Return the most false alarms that the model's own rate explains, or as many as the old model has."""
        before = sum(case.was_wrong for case in self.good)
        return max(before, binomial_quantile(CONFIDENCE, len(self.good), self.false_alarm_rate))

    @property
    def failures(self) -> tuple[str, ...]:
        """Return in words why the new model may not take the place; empty where it may."""
        found = []
        if escaped := self.escaped:
            names = name_some(case.picture for case in escaped)
            found.append(f"{len(escaped)} of {len(self.defects)} known defects are not rejected ({names})")
        if len(alarms := self.false_alarms) > self.false_alarms_allowed:
            names = name_some(case.picture for case in alarms)
            found.append(f"{len(alarms)} of {len(self.good)} good parts are not passed ({names}), "
                         f"expected at most {self.false_alarms_allowed}")  # fmt: skip
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "passes": not self.failures, "failures": list(self.failures), "false_alarm_rate": self.false_alarm_rate,
            "false_alarms_allowed": self.false_alarms_allowed,
            "known_defects": len(self.defects), "escaped": len(self.escaped), "still_passed": len(self.still_passed),
            "good": len(self.good), "false_alarms": len(self.false_alarms),
            "pictures": len(self.cases),
            "changed": [case.to_dict() for case in self.cases if case.differs or case.is_wrong],
        }  # fmt: skip


def measure_ability(
    new: Detector,
    old: Detector | None,
    pictures: Iterable[tuple[str, Picture, Expected]],
    on_case: Callable[[Case, Picture], None] = lambda case, picture: None,
) -> Ability:
    """Judge pictures, each with its name and known answer; `on_case` gets each case with its picture.

    Raises DataError for a picture that cannot be judged: it would hide what the model is able to do.
    """
    cases = []
    for name, picture, expected in pictures:
        verdict = new.inspect(picture)
        if verdict.decision == "fault":
            raise DataError(f"{name}: cannot be judged ({verdict.reason}); repair or remove it")
        case = Case(name, expected, verdict, old.inspect(picture) if old else None)
        on_case(case, picture)
        cases.append(case.without_maps())
    return Ability(tuple(cases), new.engine.spec.false_alarm_rate or 0.01)
