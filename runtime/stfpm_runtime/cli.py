"""Running a command: an error that the user can fix is one line on stderr and status 1; a bug keeps its traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from .errors import StfpmError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""No space left, quota exceeded, input/output error: of the disk that stdout is written to."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: what is unfinished is cleaned up."""


def run(command: str, action: Callable[[], int]) -> int:
    """Run a command's action and return its exit code.

    The code is 0 on success, 1 for an error that the user can fix, 130 after Ctrl-C and 143 after SIGTERM. A line
    installs its own signal handlers. OpenCV's own log stays off stderr.
    """
    _silence_opencv()
    try:
        with _terminable():
            code = action()
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
    except StfpmError as error:
        print(f"{command}: error: {one_line(str(error))}", file=sys.stderr)
        _settle_stdout()
        return 1
    except KeyboardInterrupt as signalled:
        print(f"{command}: interrupted", file=sys.stderr)
        return 143 if isinstance(signalled, Terminated) else 130
    except UnicodeEncodeError as error:  # an argument whose bytes are no UTF-8
        print(f"{command}: error: got {error.object!a:.80}; expected text in UTF-8", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head` closed our stdout
        _settle_stdout()
        return 1
    except OSError as error:
        if not error.filename and error.errno not in FULL:
            raise
        place, what = (error.filename, "used") if error.filename else ("stdout", "written")
        print(f"{command}: error: {one_line(f'{place}: cannot be {what} ({error.strerror})')}", file=sys.stderr)
        _settle_stdout()
        return 1


def _silence_opencv() -> None:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    if (cv2 := sys.modules.get("cv2")) is not None:  # it has read the environment already
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Raise Terminated in the main thread when SIGTERM comes."""

    def terminate(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def one_line(text: str) -> str:
    """Return the text in one line: line breaks are folded, other control characters written out."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Return the text with every character that is not printable as an escape, so that it cannot forge a line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _settle_stdout() -> None:
    """Drop what stdout cannot take (a closed pipe, a full disk): Python would report it at exit, with status 120."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
