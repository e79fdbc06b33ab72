"""A folder into which somebody puts pictures: each is given once, when it is complete."""

from __future__ import annotations

import logging
import os
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from stfpm_runtime.errors import ImageError
from stfpm_runtime.imaging.images import decode_image, is_image, walk_files, why_left_out

from .base import Event, Frame, OnEvent
from .options import SourceOptions

LOG = logging.getLogger(__name__)

FORGET_S = 3600.0
"""How long a picture that is gone is remembered: a share that comes back within that is not inspected twice."""
SHARE = 20
"""A look into the folder takes at most a 20th of the time, however many pictures lie in it."""
LEFT_OUT_AFTER_S = 5.0
"""A file that is no picture is reported after this time: an upload may have another name until it is complete."""
TELL_EVERY_S = 1.0
"""The shortest time between two events about files that are not judged."""
CLOSE_S = 0.8
"""How long closing waits for the thread."""
TAIL = 64
"""Bytes at the end of a file by which two pictures are told apart."""
OVERWRITTEN = "overwritten before it was read"
NAMED = 20
"""Files that one such event names."""
UNFINISHED_SUFFIXES = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".unfinished")
"""Names that programs give to files that they are still writing."""
_ENDS = ((b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG", b"IEND\xaeB`\x82"))
"""First and last bytes of the formats whose end shows that the file is whole."""

Stamp = tuple[int, int, int, int]
"""Time of the last change of the contents in ns, size in bytes, inode, time of the last change of any kind in ns."""


@dataclass
class _File:
    stamp: Stamp
    since_ns: int
    """When this stamp was first seen."""
    arrived_ns: int
    """When the picture began to come: one that was being written before a trigger shows nothing that came after."""
    seen_s: float
    """When the file was last there."""
    given: bool = False
    """Whether it was given, is being decoded, or lay there before the start."""
    tried: bool = False
    """Whether it was decoded in vain since it changed."""
    tail: bytes = b""
    """Its last bytes, where they show that it is complete, so that nothing needs to be waited for."""
    checksum: int | None = None
    """CRC-32 of the contents that were given; None where they were not read."""
    read_s: float = 0.0
    """When it was read: what a look into the folder saw before then is out of date."""


class WatchedFolder:
    """The pictures that come into a folder and those below it, oldest first; those half written are waited for.

    A thread looks into the folder, however long the reader takes. `Frame.arrived_ns` is when the file appeared or began
    to change. A folder that is gone, or was never there, is an event; it may come (back) at any time. A file that does
    not become a picture is a frame with the reason. Pictures that were overwritten or taken away before they could be
    read, and files that are no pictures, are counted and named in events of kind `skipped`. Of pictures that replace
    each other between two looks (`poll_s`), only the last is seen.
    """

    live = False

    def __init__(self, folder: str, name: str, on_event: OnEvent, options: SourceOptions) -> None:
        self._folder = Path(folder)
        self._name = name
        self._on_event = on_event
        self._options = options
        self._files: dict[str, _File] = {}
        self._left_out: dict[str, float] = {}
        """When a file that is not read was first seen; infinity: before the start, or it was reported."""
        self._skipped: Counter[tuple[str, str]] = Counter()
        """Path and reason of what is to be reported."""
        self._told_s = 0.0
        self._closed = threading.Event()
        self._looked = threading.Condition()
        """Guards the files; notified after each look into the folder."""
        self._state = ""
        self._pause_s = 0.0
        self._looked_ns = 0
        """When the last look began: what was there then is known."""
        self._scan(given=not options.existing)
        self._thread = threading.Thread(target=self._watch, name=f"watching {name}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The folder, as the user named it."""
        return self._name

    @property
    def ended(self) -> bool:
        """Whether it was closed."""
        return self._closed.is_set()

    def close(self) -> None:
        """Stop waiting, and the thread, unless the folder's disk does not answer."""
        self._closed.set()
        with self._looked:
            self._looked.notify_all()
        self._thread.join(CLOSE_S)

    def next(self, timeout_s: float) -> Frame | None:
        """The oldest picture that is complete and was not given yet."""
        until = time.monotonic() + timeout_s
        while not self._closed.is_set():
            for path, file, settled_s in self._candidates():
                if (frame := self._read(path, file, settled_s)) is not None:
                    return frame
            left_s = until - time.monotonic()
            if left_s <= 0:
                return None
            with self._looked:
                self._looked.wait(min(left_s, self._options.poll_s))
        return None

    def _watch(self) -> None:
        while not self._closed.wait(self._pause_s):
            try:
                self._scan()
                self._tell_skipped()
            except Exception:
                LOG.exception("%s: a look into the folder failed", self._name)
                self._pause_s = 1.0
        self._told_s = float("-inf")
        self._tell_skipped()  # what was noted since the last event

    def _scan(self, given: bool = False) -> None:
        """Note what is in the folder now; `given`: as if it had been given already."""
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
                    found[path] = _stamp(status)
                elif not file.name.startswith(".") and file.suffix.lower() not in UNFINISHED_SUFFIXES:
                    others[path] = why_left_out(file)
        except OSError as error:
            self._turn("lost", f"cannot be read ({error.strerror}); waiting for it")
        else:
            earlier = f"pictures that were there before are not judged: {len(found)}" if given and found else ""
            self._turn("regained" if self._state else "opened", earlier)
            with self._looked:
                self._note(found, unread, given, began_s)
                self._looked_ns = round(began_s * 1e9)
                self._note_left_out(others, given)
                self._looked.notify_all()
        self._pause_s = max(self._options.poll_s, SHARE * (time.monotonic() - began_s))

    def _date(self, stamp: Stamp) -> int:
        """Return when a file of this stamp changed, as `time.monotonic_ns()`: after the last look, whatever its clock.

        The time of the look itself would let a picture from just before a trigger count as one from after it.
        """
        now_ns = time.monotonic_ns()
        changed_ns = now_ns - (time.time_ns() - stamp[3])
        return min(now_ns, max(self._looked_ns, changed_ns))

    def _note(self, found: dict[str, Stamp], unread: list[str], given: bool, began_s: float) -> None:
        now_s, now_ns = time.monotonic(), time.monotonic_ns()
        gone = {path for path in self._files.keys() - found.keys() if self._files[path].read_s < began_s}
        moved = {self._files[path].stamp[:3]: path for path in gone}
        for path, stamp in found.items():
            known = self._files.get(path)
            if known is not None and (known.stamp == stamp or known.read_s >= began_s):
                known.seen_s = now_s
                continue
            if known is not None and _same_contents(path, known, stamp):
                known.stamp, known.seen_s = stamp, now_s
                continue
            tail = b"" if given else _tail_of_whole(path)
            if known is not None and not known.given and tail and (known.stamp[1], known.tail) == (stamp[1], tail):
                known.stamp, known.seen_s = stamp, now_s  # it got another time or other rights
                continue
            arrived_ns = self._date(stamp) if known is None or known.given else known.arrived_ns
            if known is not None and _is_lost(known, stamp, tail):
                self._skipped[path, OVERWRITTEN] += 1
                arrived_ns = self._date(stamp)
            if (old := moved.pop(stamp[:3], None)) is not None:  # another file was renamed to this one
                self._files[path] = self._files.pop(old)
                self._files[path].stamp, self._files[path].seen_s = stamp, now_s
            else:
                self._files[path] = _File(stamp, now_ns, arrived_ns, now_s, given, tail=tail)
        for path in gone & self._files.keys():
            if self._files[path].given:
                if now_s - self._files[path].seen_s > FORGET_S:
                    del self._files[path]
            elif not any(path.startswith(f"{folder}{os.sep}") for folder in unread):
                self._take_away(path)

    def _note_left_out(self, others: dict[str, str], given: bool) -> None:
        now_s = time.monotonic()
        before, self._left_out = self._left_out, {}
        for path, reason in others.items():
            since_s = before.get(path, float("inf") if given else now_s)
            if now_s - since_s > LEFT_OUT_AFTER_S:
                self._skipped[path, reason] += 1
                since_s = float("inf")
            self._left_out[path] = since_s

    def _take_away(self, path: str) -> None:
        del self._files[path]
        self._skipped[path, "taken away before it was read"] += 1

    def _candidates(self) -> list[tuple[str, _File, float]]:
        """Files that are whole or have settled, by age, each with the seconds since its last change."""
        candidates = []
        older_settles = False
        with self._looked:
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

    def _read(self, path: str, file: _File, settled_s: float) -> Frame | None:
        """The picture; None where it is to be waited for, or is gone."""
        error = ""
        try:
            with open(path, "rb") as opened:  # noqa: PTH123 (text, as in scandir)
                stamp = _stamp(os.fstat(opened.fileno()))
                data = opened.read()
                if _stamp(os.fstat(opened.fileno())) != stamp:
                    return None  # it is being written; the next look sees that
        except FileNotFoundError:
            return None  # the next look reports it
        except OSError as problem:
            data, stamp, error = b"", file.stamp, f"{path}: cannot be read ({problem.strerror}); check its permissions"
        with self._looked:
            if self._files.get(path) is not file or not self._is_claimed(path, file, stamp, data):
                return None
        image = None
        if not error:
            try:
                options = self._options
                image = decode_image(data, path, bits=options.bits, max_megapixels=options.max_megapixels)
            except ImageError as problem:
                error = str(problem)
        if image is None and settled_s < self._options.give_up_s:
            with self._looked:
                file.given, file.tried = False, True
            return None
        return Frame(path, None, image, error, file.arrived_ns)

    def _is_claimed(self, path: str, file: _File, stamp: Stamp, data: bytes) -> bool:
        """Note what was read, and return whether it is to be decoded now; until then nothing counts as overwritten."""
        file.read_s = time.monotonic()
        if stamp != file.stamp:  # it changed after the last look
            tail = data[-TAIL:] if _is_whole(data[:8], data[-8:]) else b""
            if _is_lost(file, stamp, tail):
                self._skipped[path, OVERWRITTEN] += 1
                file.arrived_ns = self._date(stamp)
            file.stamp, file.since_ns, file.tried, file.tail = stamp, time.monotonic_ns(), False, tail
            if not tail:
                return False
        file.given, file.checksum = True, zlib.crc32(data)
        return True

    def _tell_skipped(self) -> None:
        """Report what is not judged, at most once in a while."""
        now_s = time.monotonic()
        if not self._skipped or now_s - self._told_s < TELL_EVERY_S:
            return
        self._told_s = now_s
        with self._looked:
            skipped, self._skipped = self._skipped, Counter()
        names = [f"{path}: {reason}{f' {n} times' if n > 1 else ''}" for (path, reason), n in skipped.items()]
        more = f"; and {len(names) - NAMED} more files" if len(names) > NAMED else ""
        self._on_event(Event(self._name, "skipped", f"{skipped.total()} not judged: {'; '.join(names[:NAMED])}{more}"))

    def _turn(self, state: str, detail: str) -> None:
        """Tell of a folder that went or came; not of one that stays gone, or there."""
        lost = state == "lost"
        if not self._state or lost != (self._state == "lost"):
            self._on_event(Event(self._name, "lost" if lost else "regained" if self._state else "opened", detail))
        self._state = "lost" if lost else "there"


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns


def _is_lost(known: _File, stamp: Stamp, tail: bytes) -> bool:
    """Whether a picture that was not given lay under this name, before the file got the new stamp and tail.

    A file that grows was none, and neither was one that got another time or other rights.
    """
    if known.given or known.stamp[1] == 0:
        return False
    if known.tail:
        return (known.stamp[1], known.tail) != (stamp[1], tail)
    return known.stamp[2] != stamp[2]


def _same_contents(path: str, known: _File, stamp: Stamp) -> bool:
    """Whether only the file's rights, links or inode changed since it was given: that is no new picture."""
    if stamp[:2] != known.stamp[:2] or known.checksum is None:
        return False
    try:
        return zlib.crc32(Path(path).read_bytes()) == known.checksum
    except OSError:
        return False


def _tail_of_whole(path: str) -> bytes:
    """Return the last bytes of a file that is complete by them; nothing of another one."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (text, as in scandir)
            first = file.read(8)
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            tail = file.read(TAIL)
            return tail if _is_whole(first, tail) else b""
    except OSError:
        return b""


def _is_whole(first: bytes, last: bytes) -> bool:
    return any(first.startswith(start) and last.endswith(end) for start, end in _ENDS)
