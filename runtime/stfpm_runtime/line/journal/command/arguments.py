"""Values of the command line: moments, thresholds, shifts."""

from __future__ import annotations

import argparse
import math
import re
import time
from datetime import datetime, timedelta
from datetime import time as time_of_day

from stfpm_runtime.errors import OptionError
from stfpm_runtime.line.journal.rows import parse_moment, seconds_of, utc
from stfpm_runtime.shifts import Shifts, parse_shifts

AGO = re.compile(r"(\d+)([mhd])")
AGO_S = {"m": 60, "h": 3600, "d": 86_400}
DAYS_AGO = {"today": 0, "yesterday": 1}
CLOCK = re.compile(r"\d\d:\d\d(:\d\d)?")
"""A time of day: the last one that has passed."""


def shifts_of(text: str) -> Shifts:
    """Return the shifts of the command line."""
    try:
        return parse_shifts(text)
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def interval_of(parser: argparse.ArgumentParser, args: argparse.Namespace) -> tuple[str, str, str]:
    """Return begin and end of what is shown, and the name of its shifts; an empty text where there is no such limit."""
    since, until, shift = args.since or "", args.until or "", args.shift
    if "/" not in shift and shift in ("", *(args.shifts or Shifts()).names):
        return since, until, shift
    if since or until:
        parser.error("--shift DAY/NAME with --since or --until: expected one of them")
    try:
        return *_bounds_of(shift, args.shifts or Shifts()), ""
    except (OptionError, argparse.ArgumentTypeError) as error:
        parser.error(f"got --shift {shift}: {error}")


def _bounds_of(text: str, shifts: Shifts) -> tuple[str, str]:
    """Return begin and end of one shift. Raises OptionError, and ArgumentTypeError for another text."""
    day, _, name = text.rpartition("/")
    begin = datetime.fromtimestamp(seconds_of(moment_of(day))) if day else datetime.now()
    first, last = shifts.bounds(begin.date(), name)
    return utc(first), utc(last)


def threshold_of(text: str) -> float | None:
    """Return a threshold of the command line; None for `configured`."""
    if text == "configured":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a finite number, or: configured")
    return value


def moment_of(text: str) -> str:
    """Return a moment of the command line as the journal writes it."""
    now = datetime.now()
    today = datetime.combine(now.date(), time_of_day())
    if text in DAYS_AGO:
        return utc((today - timedelta(days=DAYS_AGO[text])).astimezone().timestamp())
    try:
        if match := AGO.fullmatch(text):
            return utc(time.time() - int(match[1]) * AGO_S[match[2]])
        if CLOCK.fullmatch(text):
            clock = datetime.combine(now.date(), time_of_day.fromisoformat(text))
            return utc((clock if clock <= now else clock - timedelta(days=1)).astimezone().timestamp())
        return parse_moment(text)
    except (ValueError, OverflowError, OSError):  # the last two: the calendar does not reach so far
        expected = "expected 2026-11-24, 2026-11-24T06:00, 06:00, today, yesterday, 30m, 8h or 7d"
        raise argparse.ArgumentTypeError(f"got {text!r}, {expected}") from None
