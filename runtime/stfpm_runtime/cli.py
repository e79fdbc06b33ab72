"""What all commands share: one line on stderr and status 1 for what a user can mend; a bug keeps its traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from .errors import OutputError, StfpmError


def run(command: str, action: Callable[[], int]) -> int:
    """Run a command's action and return its exit code: 0 well, 1 what a user can mend, 130 for Ctrl-C."""
    try:
        return action()
    except StfpmError as error:
        print(f"{command}: error: {one_line(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` closed our stdout: keep the interpreter from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def one_line(text: str) -> str:
    """The text with its line breaks folded."""
    return " ".join(text.split())


def check_writable(path: Path) -> None:
    """Raise OutputError unless a file can be made at `path`: found out before the work, not after."""
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{path.name}.{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; expected the name of a file to write")
