"""A folder into which pictures are put: each is given once, when it is complete."""

from __future__ import annotations

import logging
import os
import threading
import time
import zlib
from collections import Counter
from pathlib import Path

from stfpm_runtime.errors import ImageError
from stfpm_runtime.imaging.images import decode_image, is_image, walk_files, why_left_out
from stfpm_runtime.lifecycle import Worker

from .base import Event, EventKind, Frame, FreezeDetector, OnEvent, SourceOptions
from .watched_file import TAIL, Stamp, WatchedFile, stamp_of, tail_of_file, tail_of_whole

LOG = logging.getLogger(__name__)

FORGET_S = 3600.0
"""How long a picture that is gone is remembered: a share that comes back within that is not inspected twice."""
SHARE = 20
"""A scan of the folder takes at most a 20th of the time, however many pictures lie in it."""
LEFT_OUT_AFTER_S = 5.0
"""A file that is no picture is reported after this time: an upload may have another name until it is complete."""
REPORT_EVERY_S = 1.0
"""The shortest time between two events about files that are not judged."""
CLOSE_S = 0.8
"""How long closing waits for the thread."""
OVERWRITTEN = "overwritten before it was read"
TAKEN_AWAY = "taken away before it was read"
NAMED = 20
"""Files that one such event names."""
UNFINISHED_SUFFIXES = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".unfinished")
"""Names that programs give to files that they are still writing."""


class WatchedFolder(Worker):
    """The pictures that come into a folder, at any depth, oldest first; those half written are waited for.

    A thread scans the folder, however long the reader takes. `Frame.arrived_ns` is when the file appeared or began to
    change. A folder that is gone, or was never there, is an event; it may come (back) at any time. A file that does not
    become a picture is a frame with the reason. Pictures that were overwritten or taken away before they could be
    read, and files that are no pictures, are counted and named in events of kind `skipped`. Of pictures that replace
    each other between two scans (`poll_s`), only the last is seen.
    """

    live = False

    def __init__(self, folder: str, name: str, on_event: OnEvent, options: SourceOptions) -> None:
        """Store everything; `start` scans the folder for the first time."""
        super().__init__(f"watching {name}")
        self._folder = Path(folder)
        self._name = name
        self._on_event = on_event
        self._options = options
        self._freeze_detector = FreezeDetector(options.frozen_after_s)
        self._files: dict[str, WatchedFile] = {}
        self._left_out: dict[str, float] = {}
        """When a file that is not read was first seen; infinity: before the start, or it was reported."""
        self._skipped: Counter[tuple[str, str]] = Counter()
        """Path and reason of what is to be reported."""
        self._reported_s = 0.0
        self._scanned = threading.Condition()
        """Guards the files; notified after each scan."""
        self._lost: bool | None = None
        """Whether the folder is gone; None: before the first scan."""
        self._pause_s = 0.0
        self._scanned_ns = 0
        """When the last scan began: what was there then is known."""

    @property
    def name(self) -> str:
        """Return the folder, as the user named it."""
        return self._name

    @property
    def ended(self) -> bool:
        """Return whether it was closed."""
        return self.stopping.is_set()

    def start(self) -> None:
        """Scan the folder, so that what is there already is known, and start the thread."""
        self._scan(given=not self._options.existing)
        super().start()

    def close(self) -> None:
        """Stop the thread, unless the folder's disk does not answer."""
        self.stop(time.monotonic() + CLOSE_S)

    def wake(self) -> None:
        """Wake the reader that waits for a picture."""
        with self._scanned:
            self._scanned.notify_all()

    def next(self, timeout_s: float) -> Frame | None:
        """Return the oldest picture that is complete and was not given yet; None if there is none in time."""
        until_s = time.monotonic() + timeout_s
        while not self.stopping.is_set():
            for path, file, settled_s in self._candidates():
                if (frame := self._read(path, file, settled_s)) is not None:
                    return frame
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return None
            with self._scanned:
                self._scanned.wait(min(left_s, self._options.poll_s))
        return None

    def run(self) -> None:
        """Scan the folder again and again, and report what is skipped."""
        while not self.stopping.wait(self._pause_s):
            try:
                self._scan()
                self._report_skipped()
            except Exception:
                LOG.exception("%s: a scan of the folder failed", self._name)
                self._pause_s = 1.0
        self._reported_s = float("-inf")
        self._report_skipped()  # what was skipped since the last event

    def _scan(self, given: bool = False) -> None:
        """Take in what is in the folder now; `given`: as if it had been given already."""
        began_s = time.monotonic()
        found: dict[str, Stamp] = {}
        others: dict[str, str] = {}
        unread: list[str] = []
        try:
            for path, status, problem in walk_files(self._folder):
                if status is None:
                    unread.append(path)
                    others[path] = problem
                elif is_image(file := Path(path)):
                    found[path] = stamp_of(status)
                elif not file.name.startswith(".") and file.suffix.lower() not in UNFINISHED_SUFFIXES:
                    others[path] = why_left_out(file)
        except OSError as error:
            self._report_state(True, f"cannot be read ({error.strerror}); waiting for it")
        else:
            earlier = f"pictures that were there before are not judged: {len(found)}" if given and found else ""
            self._report_state(False, earlier)
            with self._scanned:
                self._update_files(found, unread, given, began_s)
                self._update_left_out(others, given)
                self._scanned_ns = round(began_s * 1e9)
                self._scanned.notify_all()
        self._pause_s = max(self._options.poll_s, SHARE * (time.monotonic() - began_s))

    def _update_files(self, found: dict[str, Stamp], unread: list[str], given: bool, began_s: float) -> None:
        now_s = time.monotonic()
        gone = {path for path in self._files.keys() - found.keys() if self._files[path].read_s < began_s}
        renamed = self._take_renamed(found, began_s)
        for path, stamp in found.items():
            known = self._files.get(path)
            if known is not None and known.read_s >= began_s:  # what the scan saw is out of date
                known.seen_s = now_s
            elif known is not None and known.is_unchanged(path, stamp):
                known.stamp, known.seen_s = stamp, now_s
            else:
                self._update_file(path, stamp, known, given, renamed.get(path))
        for path in gone & self._files.keys():
            file = self._files[path]
            if file.given:
                if now_s - file.seen_s > FORGET_S:
                    del self._files[path]
            elif not any(path.startswith(f"{folder}{os.sep}") for folder in unread):
                del self._files[path]
                self._skipped[path, TAKEN_AWAY] += 1

    def _take_renamed(self, found: dict[str, Stamp], began_s: float) -> dict[str, WatchedFile]:
        """Remove the files that have another path now, and return them by it; another file may have their old path."""
        moved = {
            file.stamp[2]: path
            for path, file in self._files.items()
            if file.read_s < began_s and (path not in found or found[path][2] != file.stamp[2])
        }
        old = {}
        for path, stamp in found.items():
            before = moved.get(stamp[2])
            if before is not None and self._files[before].is_renamed(path, stamp):
                old[path] = moved.pop(stamp[2])
        return {path: self._files.pop(before) for path, before in old.items()}

    def _update_file(
        self, path: str, stamp: Stamp, known: WatchedFile | None, given: bool, renamed: WatchedFile | None
    ) -> None:
        """Take in a new or changed file; `renamed` is what is known of it by its old path."""
        tail = b"" if given else tail_of_file(path)
        lost = known is not None and known.is_lost(stamp, tail)
        if lost:
            self._skipped[path, OVERWRITTEN] += 1
        if renamed is not None and renamed.stamp[:3] == stamp[:3]:
            self._files[path] = renamed
            renamed.stamp, renamed.seen_s = stamp, time.monotonic()
        else:
            earlier = renamed or (None if known is None or known.given or lost else known)
            arrived_ns = self._date(stamp) if earlier is None else earlier.arrived_ns
            self._files[path] = WatchedFile(stamp, time.monotonic_ns(), arrived_ns, time.monotonic(), given, tail=tail)

    def _update_left_out(self, others: dict[str, str], given: bool) -> None:
        now_s = time.monotonic()
        before, self._left_out = self._left_out, {}
        for path, reason in others.items():
            since_s = before.get(path, float("inf") if given else now_s)
            if now_s - since_s > LEFT_OUT_AFTER_S:
                self._skipped[path, reason] += 1
                since_s = float("inf")
            self._left_out[path] = since_s

    def _date(self, stamp: Stamp) -> int:
        """Return when a file of this stamp changed, as `time.monotonic_ns()`: after the last scan, whatever its clock.

        The time of this scan would let a picture from just before a trigger count as one from after it.
        """
        now_ns = time.monotonic_ns()
        return min(now_ns, max(self._scanned_ns, now_ns - (time.time_ns() - stamp[3])))

    def _candidates(self) -> list[tuple[str, WatchedFile, float]]:
        """Return the files that are whole or have settled, by age, each with the seconds since its last change."""
        candidates = []
        older_settles = False
        with self._scanned:
            now_ns = time.monotonic_ns()
            waiting = [(file.stamp[0], path) for path, file in self._files.items() if not file.given]
            for _, path in sorted(waiting):
                file = self._files[path]
                settled_s = (now_ns - file.since_ns) / 1e9
                at_once = file.tail and not older_settles  # files of several kinds keep their order
                if settled_s < (self._options.give_up_s if file.tried else 0.0 if at_once else self._options.settle_s):
                    older_settles = older_settles or not file.tried
                    continue
                candidates.append((path, file, settled_s))
        return candidates

    def _read(self, path: str, file: WatchedFile, settled_s: float) -> Frame | None:
        """Return the picture; None where it is to be waited for, or is gone."""
        options, error = self._options, ""
        try:
            with open(path, "rb") as opened:  # noqa: PTH123 (text, as in scandir)
                stamp = stamp_of(os.fstat(opened.fileno()))
                data = opened.read()
                if stamp_of(os.fstat(opened.fileno())) != stamp:
                    return None  # it is being written; the next scan sees that
        except FileNotFoundError:
            return None  # the next scan reports it
        except OSError as problem:
            data, stamp, error = b"", file.stamp, f"{path}: cannot be read ({problem.strerror}); check its permissions"
        with self._scanned:
            if self._files.get(path) is not file or not self._claim(path, file, stamp, data):
                return None
        if not error:
            try:
                image = decode_image(data, path, bits=options.bits, max_megapixels=options.max_megapixels)
                repeated = self._freeze_detector.is_repeated(image)
                return Frame(path, None, image, "", file.arrived_ns, repeated=repeated)
            except ImageError as problem:
                error = str(problem)
        if settled_s < options.give_up_s:
            with self._scanned:
                file.given, file.tried = False, True
            return None
        return Frame(path, None, None, error, file.arrived_ns)

    def _claim(self, path: str, file: WatchedFile, stamp: Stamp, data: bytes) -> bool:
        """Return whether the data is to be decoded now; from then on the file does not count as overwritten."""
        file.read_s = time.monotonic()
        if stamp != file.stamp:  # it changed after the last scan
            tail = tail_of_whole(data[:8], data[-TAIL:])
            if file.is_lost(stamp, tail):
                self._skipped[path, OVERWRITTEN] += 1
                file.arrived_ns = self._date(stamp)
            file.stamp, file.since_ns, file.tried, file.tail = stamp, time.monotonic_ns(), False, tail
            if not tail:
                return False
        file.given, file.checksum = True, zlib.crc32(data)
        return True

    def _report_skipped(self) -> None:
        """Report what is not judged, once in `REPORT_EVERY_S` at most."""
        now_s = time.monotonic()
        if not self._skipped or now_s - self._reported_s < REPORT_EVERY_S:
            return
        self._reported_s = now_s
        with self._scanned:
            skipped, self._skipped = self._skipped, Counter()
        names = [f"{path}: {reason}{f' {n} times' if n > 1 else ''}" for (path, reason), n in skipped.items()]
        more = f"; and {len(names) - NAMED} more files" if len(names) > NAMED else ""
        self._on_event(Event(self._name, "skipped", f"{skipped.total()} not judged: {'; '.join(names[:NAMED])}{more}"))

    def _report_state(self, lost: bool, detail: str) -> None:
        """Report that the folder is lost or there, if that is new."""
        if lost != self._lost:
            kind: EventKind = "lost" if lost else "opened" if self._lost is None else "regained"
            self._on_event(Event(self._name, kind, detail))
        self._lost = lost
