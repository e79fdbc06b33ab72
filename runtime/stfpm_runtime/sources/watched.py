"""A folder that fills: the way many lines hand pictures over. Each new picture is given once, when it is whole.

The folder is looked through a few times a second: a network drive tells nobody what happens on it. A picture is whole
when its size and time stay the same from one look to the next and it can be decoded; one that cannot is given time, for
its writer may be slow, and then given as a frame with an error. Pictures that were there before are of the past.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageError
from ..images import is_image, read_image
from .base import Event, Frame, OnEvent

LOOK_S = 0.1
PATIENCE_S = 5.0
"""So long may a picture that cannot be decoded stay as it is before it is given up."""

Stamp = tuple[int, int, int]
"""Size, time of the last change, number of the file."""


@dataclass
class _Growing:
    stamp: Stamp
    since_s: float


class WatchedFolder:
    """Pictures as they come, in the order of their times, in the folder and all below it.

    A folder that is not there yet, or is gone for a while, is waited for. A picture that is replaced is a new one.
    """

    live = False

    def __init__(
        self, folder: str, on_event: OnEvent, *, look_s: float = LOOK_S, patience_s: float = PATIENCE_S
    ) -> None:
        self.name = folder
        self._folder = Path(folder)
        self._on_event = on_event
        self._look_s, self._patience_s = look_s, patience_s
        self._given: dict[str, Stamp] = {}
        self._growing: dict[str, _Growing] = {}
        self._is_there: bool | None = None
        self._closing = threading.Event()
        self._given = dict(self._look() or {})

    @property
    def ended(self) -> bool:
        """Never, until it is closed."""
        return self._closing.is_set()

    def next(self, timeout_s: float) -> Frame | None:
        """The next whole picture, if one comes within the time."""
        until_s = time.monotonic() + timeout_s
        while not self._closing.is_set():
            frame = self._whole()
            if frame is not None:
                return frame
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return None
            self._closing.wait(min(self._look_s, left_s))
        return None

    def close(self) -> None:
        """Look no more."""
        self._closing.set()

    def _whole(self) -> Frame | None:
        """The oldest picture that is whole."""
        found = self._look()
        if found is None:
            return None
        self._given = {path: stamp for path, stamp in self._given.items() if path in found}
        self._growing = {path: growing for path, growing in self._growing.items() if path in found}
        now_s = time.monotonic()
        for path, stamp in sorted(found.items(), key=lambda item: (item[1][1], item[0])):
            if self._given.get(path) == stamp:
                continue
            growing = self._growing.get(path)
            if growing is None or growing.stamp != stamp:
                self._growing[path] = _Growing(stamp, now_s)
            elif (frame := self._read(path, now_s - growing.since_s > self._patience_s)) is not None:
                self._given[path] = stamp
                del self._growing[path]
                return frame
        return None

    def _read(self, path: str, is_hopeless: bool) -> Frame | None:
        """The picture; None if it cannot be decoded yet."""
        try:
            return Frame(path, image=read_image(Path(path)), arrived_ns=time.monotonic_ns())
        except ImageError as error:
            return Frame(path, error=str(error), arrived_ns=time.monotonic_ns()) if is_hopeless else None

    def _look(self) -> dict[str, Stamp] | None:
        """All pictures in the folder; None while it is not there. Events tell of that."""
        try:
            self._folder.stat()
            found = dict(_pictures(str(self._folder)))
        except OSError as error:
            self._tell(False, error.strerror or "it is not there")
            return None
        self._tell(True)
        return found

    def _tell(self, is_there: bool, reason: str = "") -> None:
        if is_there != self._is_there:
            kind = "lost" if not is_there else "opened" if self._is_there is None else "regained"
            self._on_event(Event(self.name, kind, reason))  # type: ignore[arg-type]
        self._is_there = is_there


def _pictures(folder: str) -> Iterator[tuple[str, Stamp]]:
    """Path and stamp of each picture; a folder or file that vanishes meanwhile is passed over."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_dir():
                    yield from _pictures(entry.path)
                elif is_image(Path(entry.name)):
                    status = entry.stat()
                    yield entry.path, (status.st_size, status.st_mtime_ns, status.st_ino)
            except OSError:
                continue
