"""The file of a journal: its lock, and how a damaged one makes room for a new one."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import TextIO

from stfpm_runtime.errors import JournalError
from stfpm_runtime.files import keep_access, private_opener

from .rows import utc

HEADER = b"SQLite format 3\0"
"""The first bytes of an SQLite file."""


def lock(path: Path) -> TextIO:
    """Lock FILE.lock, so that two processes never give out the same number. The kernel unlocks it with the process.

    Raises JournalError where it is locked or cannot be written, and for a file that is no SQLite file and beside which
    there is no lock of an earlier line: it is another file, and no damaged journal.
    """
    try:
        file = path.resolve()  # a link has the lock of the file that it leads to
        lock_path = file.with_name(file.name + ".lock")
        if path.is_dir():
            raise JournalError(f"{path}: is a folder; expected the name of a file")
        if not lock_path.exists() and file.exists() and not _may_be_journal(file):
            raise JournalError(f"{path}: is no journal; expected one that stfpm-inspect wrote, or a name for a new one")
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = open(lock_path, "a+", encoding="ascii", opener=private_opener)  # noqa: SIM115 (kept open)
    except OSError as error:
        raise JournalError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        opened.seek(0)
        owner = opened.read().strip() or "unknown"
        opened.close()
        raise JournalError(
            f"{path}: another stfpm-inspect writes this journal (process {owner}); stop it, or choose another file"
        ) from None
    with contextlib.suppress(OSError):  # the number is only for the message: a full disk has no room for it
        opened.truncate(0)
        opened.write(str(os.getpid()))
        opened.flush()
    return opened


def _may_be_journal(file: Path) -> bool:
    with file.open("rb") as opened:
        first = opened.read(len(HEADER))
    return first in (b"", HEADER)


def set_aside(path: Path) -> Path:
    """Rename a damaged journal and its files -wal and -shm, and return its new name.

    An empty file with its mode is left in its place, for a new journal.
    """
    aside = path.with_name(f"{path.name}.damaged-{utc().replace(':', '').replace('.', '-')}")
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    with contextlib.suppress(OSError):  # a new journal says itself why it cannot be written
        os.close(private_opener(str(path), os.O_RDWR | os.O_CREAT))
        keep_access(path, aside.stat())
    return aside
