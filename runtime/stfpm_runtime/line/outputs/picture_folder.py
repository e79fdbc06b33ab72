"""The folder of pictures, within a quota.

A file's name holds the journal's id and the verdict's number, in a folder for each day. These numbers decide which file
is the oldest, since a clock may be wrong; files of another journal count as older than those of this one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import time
from collections import deque
from pathlib import Path

from stfpm_runtime.files import private_opener
from stfpm_runtime.line.config.storage import PictureOptions
from stfpm_runtime.line.journal.rows import LogEvent, LogPicture

LOG = logging.getLogger("stfpm.pictures")
UNFINISHED = ".unfinished"
RETRY_DELETION_S = 60.0
"""Seconds before a file that could not be deleted is tried again."""


class PictureFolder:
    """Files in a folder that exceed neither the quota nor the disk: the oldest are deleted first. For one thread."""

    def __init__(self, options: PictureOptions, log_event: LogEvent, log_picture: LogPicture | None = None) -> None:
        """Store the limits."""
        self._log_picture = log_picture or (lambda name, sha256: None)
        self._folder, self._quota = options.folder, options.quota_mb * 1e6
        self._least_free = options.free_mb * 1e6
        self._log_event = log_event
        self._used = 0
        self._oldest: deque[Path] = deque()
        self._journal = ""
        """Id of the journal that the newest picture belongs to."""
        self._undeletable: set[Path] = set()
        self._undeletable_until_s = 0.0
        self._has_undeletable_event = False
        self.refusal = ""
        """Why the last file was not written; empty where it was."""

    def measure(self) -> None:
        """Add up the sizes of the files, and delete what a killed process left unfinished. Raises OSError."""
        self._used = 0
        for path in (path for day in self._days() for path in day.iterdir()):
            with contextlib.suppress(OSError):
                if path.name.endswith(UNFINISHED):
                    path.unlink()
                else:
                    self._used += path.stat().st_size

    def write(self, name: str, data: bytes) -> bool:
        """Write a whole file or nothing; return False where there is no room even without the older files.

        Raises OSError for a file that cannot be written.
        """
        path = self._folder / name
        self._journal = path.name.partition("-")[0]
        if not self._make_room(len(data)):
            self._report("have no room left on the disk; verdicts go on without")
            return False
        try:
            self._write_file(path, data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._delete_oldest():
                raise
            self._write_file(path, data)
        self._log_picture(name, hashlib.sha256(data).hexdigest())
        self._used += len(data)
        self._report("")
        return True

    def _write_file(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + UNFINISHED)
        try:
            with open(unfinished, "wb", opener=private_opener) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # the journal is about to keep its SHA-256
            unfinished.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise

    def _make_room(self, size: int) -> bool:
        folder = next(path for path in (self._folder, *self._folder.absolute().parents) if path.exists())

        def is_full() -> bool:
            return self._used + size > self._quota or shutil.disk_usage(folder).free - size < self._least_free

        while is_full():
            if not self._oldest:
                self.measure()  # another program may have removed some
            if is_full() and not self._delete_oldest():
                return False
        return True

    def _delete_oldest(self) -> bool:
        """Delete the oldest file that can be deleted; return False if there is none."""
        while self._oldest or self._find_oldest_day():
            path = self._oldest.popleft()
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:  # another program has removed it, and perhaps more
                self._oldest.clear()
                return True
            except OSError as error:
                self._skip(path, error)
                continue
            self._log_picture(path.relative_to(self._folder).as_posix(), "")
            self._used -= size
            with contextlib.suppress(OSError):  # of a day that is not empty yet
                path.parent.rmdir()
            return True
        return False

    def _skip(self, path: Path, error: OSError) -> None:
        """Keep a file that cannot be deleted from being tried again for a while; the first one is an event."""
        if not self._undeletable:
            self._undeletable_until_s = time.monotonic() + RETRY_DELETION_S
        self._undeletable.add(path)
        if not self._has_undeletable_event:
            self._has_undeletable_event = True
            LOG.error("pictures: %s cannot be deleted (%s); others are deleted in its place", path, error.strerror)
            self._log_event("pictures", f"{path.name} cannot be deleted ({error.strerror}); check its permissions")

    def _find_oldest_day(self) -> bool:
        """Store the files of the oldest day, the oldest file first; return False if there are none."""
        if time.monotonic() >= self._undeletable_until_s:
            self._undeletable.clear()
        days = []
        for day in self._days():
            files = sorted(path for path in day.iterdir() if path.is_file() and path not in self._undeletable)
            own = [path for path in files if path.name.startswith(f"{self._journal}-")]
            others = [path for path in files if not path.name.startswith(f"{self._journal}-")]
            if files:
                days.append((not others, "" if others else own[0].name, day.name, others + own))
        self._oldest.extend(min(days)[3] if days else ())
        return bool(days)

    def _days(self) -> list[Path]:
        """Return the folders that are named as a day: nothing else in the folder is ever deleted."""
        pattern = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
        return sorted(day for day in self._folder.glob(pattern) if day.is_dir())

    def _report(self, refusal: str) -> None:
        """Report that files are refused, or with an empty text that they are written again; each once."""
        if bool(refusal) != bool(self.refusal):
            text = refusal or "have room again"
            LOG.log(logging.ERROR if refusal else logging.WARNING, "pictures %s", text)
            self._log_event("pictures", text)
        self.refusal = refusal
