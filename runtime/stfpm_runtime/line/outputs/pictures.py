"""Pictures of verdicts, written by a thread of their own.

The loop never waits for a picture: a verdict has none where the queue is full.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import cv2

from stfpm_runtime.detector import Verdict
from stfpm_runtime.imaging.overlay import draw_overlay
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.line.config.storage import PictureOptions
from stfpm_runtime.line.inspect import JudgedPart
from stfpm_runtime.line.journal.health import Backlog
from stfpm_runtime.line.journal.rows import LogEvent, LogPicture, VerdictRow
from stfpm_runtime.options import is_saved

from .base import Output
from .picture_folder import PictureFolder

LOG = logging.getLogger("stfpm.pictures")
SUFFIXES = {"png": ".png", "jpeg": ".jpg"}
PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]
"""Three times as fast as the default level, and a tenth more bytes."""
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]


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
    """Names a verdict's pictures if the queue has room, and writes them; the loop calls `prepare`, then `enqueue`."""

    keeps_real_time = False
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
        self._refused: dict[tuple[str, str], str] = {}
        """Why the newest part of each place was not looked at; empty where it was."""

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

        Of parts that follow each other and are not looked at for the same reason only the first has pictures: a line
        without an active recipe would else replace the pictures of all rejects by those of its faults.
        The names begin with the id of the journal: the numbers of another journal never give the same name.
        """
        self._prepared = None
        place, refusal = (row.camera, row.region), "" if judged.pictures else row.reason
        is_repeated = refusal != "" and refusal == self._refused.get(place)
        self._refused[place] = refusal
        is_sampled = row.decision == "pass" and self._random.random() < self._sample
        if (
            judged.image is None
            or not row.seq
            or is_repeated
            or not (is_sampled or is_saved(self._options.save, row.decision))
        ):
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

    def enqueue(self, row: VerdictRow) -> None:
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
