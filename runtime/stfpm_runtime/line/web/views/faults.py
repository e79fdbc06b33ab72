"""What is wrong with a line now, what to do about it, and who has seen it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from stfpm_runtime.errors import OptionError
from stfpm_runtime.line.journal.rows import utc

ADVICE = (
    (
        r"camera is lost|not opened yet|camera's thread has ended",
        "Check the camera's power, its cable and its address. The line connects again by itself.",
    ),
    (
        r"camera is frozen|the same picture before",
        "The camera repeats an old picture. Switch the camera off and on.",
    ),
    (
        r"no frame within|no picture came before|no trigger asked",
        "Triggers and pictures do not match. Check the light barrier, the trigger cable and the camera's exposure.",
    ),
    (
        r"got a frame of|polygon|rectangle",
        "The picture does not fit the configuration. Check the camera's settings and the regions of the line.",
    ),
    (
        r"recipe \d+ .*cannot be used",
        "Bring the recipe's model and its golden file from one export again, then choose the recipe again.",
    ),
    (
        r"no recipe|recipe \d+ .*not active|no recipe can be asked for",
        "Choose the recipe of the product. Until it is active no part is passed.",
    ),
    (
        r"journal",
        "Check that the disk of the journal is not full and can be written. Until then no part is passed.",
    ),
    (
        r"no triggers are received",
        "Check the network, and the broker or the input that triggers come from.",
    ),
    (
        r"loop has not run|internal error|thread ended",
        "Restart the line. If this comes again, save its log for support.",
    ),
    (
        r"oldest undelivered|is refused|connect|answer|timed out",
        "Check the network and the other side. Verdicts are kept in the journal and sent later.",
    ),
    (
        r"score is|engine|not finite",
        "The model cannot judge this picture. Restart the line. If this comes again, use the model before.",
    ),
)
"""Patterns of causes, the first that is found counts, with what to do."""
LONGEST = 400
"""Characters of a cause; what is beyond is left out."""
OTHER_ADVICE = "Take the part out. If this comes again, call the engineer of the line."


@dataclass(frozen=True)
class Acknowledgement:
    """Who has seen a fault, and when, UTC."""

    who: str
    time: str


class FaultCards:
    """The faults that exist now, each with its acknowledgement. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._acknowledged: dict[str, Acknowledgement | None] = {}
        """By the key of each fault that exists."""

    def update(self, causes: Iterable[str]) -> list[dict[str, str]]:
        """Return the cards of these causes, each once; what was acknowledged and exists no more is forgotten."""
        with self._lock:
            keys = {key_of(cause): cause for cause in (cause[:LONGEST] for cause in causes)}
            self._acknowledged = {key: self._acknowledged.get(key) for key in keys}
            return [_card(cause, self._acknowledged[key]) for key, cause in keys.items()]

    def acknowledge(self, cause: str, who: str) -> dict[str, str]:
        """Note that a person has seen a fault, and return its card. Raises OptionError where there is no such fault."""
        with self._lock:
            if key_of(cause) not in self._acknowledged:
                raise OptionError("there is no such fault any more; nothing is to be acknowledged")
            self._acknowledged[key_of(cause)] = Acknowledgement(who, utc())
            return _card(cause, self._acknowledged[key_of(cause)])


def key_of(cause: str) -> str:
    """Return what stays the same while a fault lasts: the cause without its numbers, such as a growing time."""
    return re.sub(r"\d+(\.\d+)?", "#", cause)


def advice_for(cause: str) -> str:
    """Return what to do about a fault."""
    return next((advice for pattern, advice in ADVICE if re.search(pattern, cause)), OTHER_ADVICE)


def _card(cause: str, seen: Acknowledgement | None) -> dict[str, str]:
    who, moment = (seen.who, seen.time) if seen else ("", "")
    return {"cause": cause, "advice": advice_for(cause), "acknowledged_by": who, "acknowledged_at": moment}
