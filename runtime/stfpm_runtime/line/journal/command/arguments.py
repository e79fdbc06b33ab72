"""Values of the command line: moments, thresholds, shifts."""

from __future__ import annotations

import argparse
import math
import re
import time
from datetime import datetime, timedelta
from datetime import time as time_of_day

from stfpm_runtime.errors import OptionError
from stfpm_runtime.line.journal.rows import utc
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
    if match := AGO.fullmatch(text):
        return utc(time.time() - int(match[1]) * AGO_S[match[2]])
    now = datetime.now()
    today = datetime.combine(now.date(), time_of_day())
    if text in DAYS_AGO:
        return utc((today - timedelta(days=DAYS_AGO[text])).astimezone().timestamp())
    try:
        if CLOCK.fullmatch(text):
            clock = datetime.combine(now.date(), time_of_day.fromisoformat(text))
            return utc((clock if clock <= now else clock - timedelta(days=1)).astimezone().timestamp())
        return utc(datetime.fromisoformat(text).astimezone().timestamp())
    except ValueError:
        expected = "expected 2026-11-24, 2026-11-24T06:00, 06:00, today, yesterday, 30m, 8h or 7d"
        raise argparse.ArgumentTypeError(f"got {text!r}, {expected}") from None
