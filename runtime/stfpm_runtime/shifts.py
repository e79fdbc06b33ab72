"""Shifts of a working day by the local time at which each begins, and the quarter hours that belong to them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from types import MappingProxyType

from .errors import OptionError

QUARTER_S = 900
"""Seconds of a quarter hour. Local hours, days and shifts begin at one, in every time zone of today."""
DEFAULT_SHIFTS: Mapping[str, str] = MappingProxyType({"early": "06:00", "late": "14:00", "night": "22:00"})
NAME = re.compile(r"[\w-]{1,40}")
BEGIN = re.compile(r"([01]\d|2[0-3]):(00|15|30|45)")


class Shifts:
    """The shifts of each day. The last one of a day may end on the next day, and belongs to the day it began on."""

    def __init__(self, begins: Mapping[str, str] = DEFAULT_SHIFTS) -> None:
        """Store the names of the shifts with their local begins, as `06:00`. Raises OptionError."""
        if not begins:
            raise OptionError('there is no shift; expected names with their begins, say early = "06:00"')
        for name, begin in begins.items():
            if not NAME.fullmatch(name):
                raise OptionError(f"got a shift named {name!r}; expected up to 40 letters, digits, - and _")
            if not BEGIN.fullmatch(begin):
                raise OptionError(f"{name}: got {begin!r}; expected the begin on a quarter of an hour, say 06:00")
        if len(set(begins.values())) < len(begins):
            raise OptionError("two shifts begin at the same time; expected begins that differ")
        self.begins, self.names = dict(begins), tuple(begins)
        self._latest_first = sorted(((time.fromisoformat(text), name) for name, text in begins.items()), reverse=True)
        self.of: Callable[[int], tuple[str, str]] = functools.lru_cache(maxsize=4096)(self._find)
        """Return the day, as `2026-11-24`, and the name of the shift that a quarter hour since 1970 belongs to."""

    def bounds(self, day: date, name: str) -> tuple[float, float]:
        """Return when the shift that begins on a day begins and ends, in seconds since 1970. Raises OptionError."""
        if name not in self.names:
            raise OptionError(f"there is no shift {name!r}; expected one of {', '.join(self.names)}")
        begins = sorted(time.fromisoformat(text) for text in self.begins.values())
        begin = time.fromisoformat(self.begins[name])
        later = [one for one in begins if one > begin]
        end = datetime.combine(day, later[0]) if later else datetime.combine(day + timedelta(days=1), begins[0])
        return datetime.combine(day, begin).timestamp(), end.timestamp()

    def _find(self, quarter: int) -> tuple[str, str]:
        moment = quarter * QUARTER_S
        today = date.fromtimestamp(moment)
        for day in (today, today - timedelta(days=1)):
            for begin, name in self._latest_first:
                if datetime.combine(day, begin).timestamp() <= moment:  # of a repeated hour the first one
                    return day.isoformat(), name
        raise AssertionError("every moment is later than the begins of the day before")


def parse_shifts(text: str) -> Shifts:
    """Return the shifts of a command line, as `early=06:00,late=14:00`. Raises OptionError."""
    pairs = [part.partition("=") for part in text.split(",")]
    begins = {name.strip(): begin.strip() for name, _, begin in pairs}
    if len(begins) < len(pairs):
        raise OptionError(f"got {text!r}; expected names of shifts that differ")
    return Shifts(begins)
