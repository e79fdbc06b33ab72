"""Log lines on stderr: for a person, or as JSON for a machine."""

from __future__ import annotations

import json
import logging
import sys
import time

from ..cli import printable
from .entry import utc


class ForPeople(logging.Formatter):
    """`2026-11-24 02:13:10 error: left: the camera is lost`, local time."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a bug's traceback below it."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        text = f"{moment} {level}{printable(record.getMessage())}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class ForMachines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        line = {
            "time": utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(as_json: bool) -> None:
    """Send all that our loggers say to stderr; once more than once changes the form alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ForMachines() if as_json else ForPeople())
    logger = logging.getLogger("stfpm")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
