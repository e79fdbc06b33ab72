"""Pictures of verdicts on the disk, within a quota.

The loop never waits for a picture: a verdict has none where the queue is full. A file's name holds the journal's id and
the verdict's number, in a folder for each day. These numbers decide which file is the oldest, since a clock may be
wrong; files of another journal count as older than those of this one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import logging
import queue
import random
import shutil
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import cv2

from stfpm_runtime.detector import Verdict
from stfpm_runtime.files import private_opener
from stfpm_runtime.imaging.overlay import draw_overlay
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.line.config.storage import PictureOptions
from stfpm_runtime.line.inspect import JudgedPart
from stfpm_runtime.line.journal.health import Backlog
from stfpm_runtime.line.journal.rows import LogEvent, LogPicture, VerdictRow
from stfpm_runtime.options import is_saved

from .base import Output

LOG = logging.getLogger("stfpm.pictures")
SUFFIXES = {"png": ".png", "jpeg": ".jpg"}
PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]
"""Three times as fast as the default level, and a tenth more bytes."""
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
UNFINISHED = ".unfinished"
RETRY_DELETION_S = 60.0
"""Seconds before a file that could not be deleted is tried again."""


@dataclass(frozen=True, eq=False)
class Job:
    """Pictures whose names a verdict already has."""

    image: Image
    verdict: Verdict
    picture: str
    """Path below the folder; empty where none is wanted."""
    overlay: str
    since_s: float
    """When the verdict was made, `time.monotonic()`."""


class Pictures(Output):
    """Names a verdict's pictures if the queue has room, and writes them; the loop calls `prepare`, `take` by turns."""

    in_real_time = False
    name = "pictures"

    def __init__(
        self, options: PictureOptions, log_event: LogEvent, sample: float = 0.0, log_picture: LogPicture | None = None
    ) -> None:
        """Store which pictures are saved, and where; `sample` is the share of passed parts that are saved besides."""
        super().__init__("pictures")
        self._sample = sample
        self._random = random.Random()
        self.problem = ""
        """Why the last picture was not written; empty where it was."""
        self.dropped = 0
        """Verdicts without pictures because the queue was full."""
        self.failed = 0
        """Verdicts whose pictures could not be written."""
        self._options, self._log_event = options, log_event
        self._backlog = Backlog()
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._room = threading.BoundedSemaphore(options.queue)
        self._overflowing = False
        self._folder = PictureFolder(options, log_event, log_picture)
        self._prepared: Job | None = None

    @property
    def failure(self) -> str:
        """Return why pictures cannot be written; an empty text where they can."""
        return self.problem

    @property
    def lag_s(self) -> float:
        """Return for how many seconds the oldest unwritten picture has waited; 0 where there is none."""
        return self._backlog.lag_s

    def prepare(self, row: VerdictRow, judged: JudgedPart, journal: str) -> VerdictRow:
        """Return the row with the names of its pictures, or as it is where none are wanted or the queue is full.

        The names begin with the id of the journal: the numbers of another journal never give the same name.
        """
        self._prepared = None
        is_sampled = row.decision == "pass" and self._random.random() < self._sample
        if judged.image is None or not row.seq or not (is_sampled or is_saved(self._options.save, row.decision)):
            return row
        if not self._room.acquire(blocking=False):
            self.dropped += 1
            if not self._overflowing:
                self._log_event("pictures", "come faster than they can be written; verdicts go on without")
            self._overflowing = True
            return row
        if self._overflowing:
            self._log_event("pictures", f"are written again; {self.dropped} verdicts in all have none")
            self._overflowing = False
        stem = f"{row.time[:10]}/{journal}-{row.seq:012d}-{row.camera}-{row.region}"
        picture = stem + SUFFIXES[self._options.format] if self._options.original else ""
        overlay = f"{stem}.overlay.jpg" if self._options.overlay else ""
        verdict = dataclasses.replace(judged.verdict, decision=row.decision, reason=row.reason)
        self._prepared = Job(judged.image, verdict, picture, overlay, time.monotonic())
        return dataclasses.replace(row, picture=picture, overlay=overlay)

    def take(self, row: VerdictRow) -> None:
        """Write the pictures that were prepared for this row, unless it is not in the journal as it was."""
        job, self._prepared = self._prepared, None
        if job is None:
            return
        if row.picture or row.overlay:
            self._backlog.begin()
            self._jobs.put(job)
        else:
            self._room.release()

    def wake(self) -> None:
        """Close the queue: what is in it is still written."""
        self._jobs.put(None)

    def run(self) -> None:
        """Write pictures until the stop, and then those that wait."""
        try:
            self._folder.measure()
        except OSError as error:
            self.problem = f"the folder cannot be read: {error}"
            LOG.error("pictures: %s", self.problem)
            self._log_event("pictures", self.problem)
        while (job := self._jobs.get()) is not None:
            self._backlog.set_age(time.monotonic() - job.since_s)
            try:
                self._write(job)
                self.problem = self._folder.refusal
            except Exception as error:  # whatever it is, it costs this picture alone
                if not self.failed:
                    LOG.error("a picture cannot be written (%s); verdicts go on without", error)
                    self._log_event("pictures", f"one cannot be written: {error}")
                self.failed += 1
                self.problem = f"one cannot be written: {error}"
            finally:
                self._room.release()
                if self._jobs.empty():
                    self._backlog.set_age(None)

    def _write(self, job: Job) -> None:
        if job.picture:
            flags = PNG if job.picture.endswith(".png") else JPEG
            self._folder.write(job.picture, cv2.imencode(Path(job.picture).suffix, job.image, flags)[1].tobytes())
        if job.overlay:
            verdict = job.verdict
            drawn = draw_overlay(
                job.image, verdict.decision, verdict.score, verdict.threshold, verdict.anomaly_map, verdict.reason
            )
            self._folder.write(job.overlay, cv2.imencode(".jpg", drawn, JPEG)[1].tobytes())


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
            unfinished.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise

    def _make_room(self, size: int) -> bool:
        folder = next(path for path in (self._folder, *self._folder.absolute().parents) if path.exists())
        while self._used + size > self._quota or shutil.disk_usage(folder).free - size < self._least_free:
            if not self._delete_oldest():
                return False
        return True

    def _delete_oldest(self) -> bool:
        """Delete the oldest file that can be deleted; return False if there is none."""
        while self._oldest or self._find_oldest_day():
            path = self._oldest.popleft()
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:  # another program has deleted it
                return True
            except OSError as error:
                self._skip(path, error)
                continue
            self._log_picture(path.relative_to(self._folder).as_posix(), "")
            self._used -= size
            with contextlib.suppress(OSError):  # of a day that is not empty yet
                path.parent.rmdir()
            return True
        if not self._undeletable:
            self._used = 0  # the folder is empty
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
            others = [path for path in files if path not in own]
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
