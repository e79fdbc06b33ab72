"""Log lines on stderr: for a person, or as JSON for a machine."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time

from stfpm_runtime.cli import printable
from stfpm_runtime.line.journal.rows import utc

REPEAT_INTERVAL_S = 60.0
"""Seconds in which a warning that clients can cause is logged once."""


class TextFormatter(logging.Formatter):
    """Formats a record as `2026-11-24 02:13:10 error: left: the camera is lost`, in local time."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and the traceback of an internal error below it."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        text = f"{moment} {level}{printable(record.getMessage())}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object: time (UTC), level, logger, message, and traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record in one line."""
        line = {"time": utc(record.created), "level": record.levelname.lower(), "logger": record.name}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class RepeatLimit(logging.Filter):
    """Passes a warning once a minute for each message text, with the number of those left out before it."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._passed: dict[str, tuple[float, int]] = {}  # text before its arguments: when it passed, left out since

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is logged."""
        if record.levelno < logging.WARNING:
            return True
        key, now_s = str(record.msg), time.monotonic()
        with self._lock:
            last_s, left_out = self._passed.get(key, (float("-inf"), 0))
            is_due = now_s - last_s >= REPEAT_INTERVAL_S
            self._passed[key] = (now_s, 0) if is_due else (last_s, left_out + 1)
        if is_due and left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more since the last such line)", None
        return is_due


def limit_repeats(*loggers: logging.Logger) -> None:
    """Limit each warning of these loggers to one a minute, from now on."""
    for logger in loggers:
        logger.filters[:] = [RepeatLimit()]


def log_to_stderr(as_json: bool) -> None:
    """Send what our loggers log to stderr, as text or as JSON. A second call changes the form alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logger = logging.getLogger("stfpm")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
