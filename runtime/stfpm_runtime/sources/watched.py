"""A folder into which somebody puts pictures: each is given once, when it is complete."""

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
from .options import SourceOptions

FORGET_S = 3600.0
"""How long a picture that is gone is remembered: a share that comes back within that is not inspected twice."""
SHARE = 20
"""A look into the folder takes at most a 20th of the time, however many pictures lie in it."""

Stamp = tuple[int, int]
"""Time of the last change in ns, and size in bytes: a file that was written anew is another picture."""


@dataclass
class _File:
    stamp: Stamp
    since_ns: int
    """When this stamp was first seen."""
    seen_s: float
    """When the file was last there."""
    given: bool = False
    tried: bool = False
    """Whether it was decoded in vain since it changed."""


class WatchedFolder:
    """The pictures that come into a folder and those below it, oldest first; those half written are waited for.

    It looks into the folder when asked for a frame. A folder that is gone, or was never there, is an event; it may
    come (back) at any time. A file that does not become a picture is a frame with the reason.
    """

    live = False

    def __init__(self, folder: str, name: str, on_event: OnEvent, options: SourceOptions) -> None:
        self._folder = Path(folder)
        self._name = name
        self._on_event = on_event
        self._options = options
        self._files: dict[str, _File] = {}
        self._closed = threading.Event()
        self._state = ""
        self._look_at = 0.0
        self._scan(given=not options.existing)

    @property
    def name(self) -> str:
        """The folder, as the user named it."""
        return self._name

    @property
    def ended(self) -> bool:
        """Whether it was closed."""
        return self._closed.is_set()

    def close(self) -> None:
        """Stop waiting."""
        self._closed.set()

    def next(self, timeout_s: float) -> Frame | None:
        """The oldest picture that is complete and was not given yet."""
        until = time.monotonic() + timeout_s
        while not self._closed.is_set():
            if time.monotonic() >= self._look_at:
                self._scan()
            if (frame := self._ready()) is not None:
                return frame
            left_s = until - time.monotonic()
            if left_s <= 0:
                return None
            self._closed.wait(min(left_s, max(0.0, self._look_at - time.monotonic())))
        return None

    def _scan(self, given: bool = False) -> None:
        """Note what is in the folder now; `given`: as if it had been given already."""
        began = time.monotonic()
        try:
            found = dict(_pictures(self._folder))
        except OSError as error:
            self._turn("lost", f"cannot be read ({error.strerror}); waiting for it")
        else:
            self._turn("regained" if self._state else "opened", "")
            self._note(found, given)
        spent_s = time.monotonic() - began
        self._look_at = time.monotonic() + max(self._options.poll_s, SHARE * spent_s)

    def _note(self, found: dict[str, Stamp], given: bool) -> None:
        now_s, now_ns = time.monotonic(), time.monotonic_ns()
        for path, stamp in found.items():
            known = self._files.get(path)
            if known is None or known.stamp != stamp:
                self._files[path] = _File(stamp, now_ns, now_s, given)
            else:
                known.seen_s = now_s
        gone = [path for path in self._files.keys() - found.keys() if self._is_forgotten(path, now_s)]
        for path in gone:
            del self._files[path]

    def _is_forgotten(self, path: str, now_s: float) -> bool:
        return not self._files[path].given or now_s - self._files[path].seen_s > FORGET_S

    def _ready(self) -> Frame | None:
        """The first file, by age, that has settled and is a picture, or never became one."""
        now_ns = time.monotonic_ns()
        waiting = [(file.stamp[0], path) for path, file in self._files.items() if not file.given]
        for _, path in sorted(waiting):
            file = self._files[path]
            settled_s = (now_ns - file.since_ns) / 1e9
            if settled_s < self._options.settle_s or (file.tried and settled_s < self._options.give_up_s):
                continue
            if (frame := self._read(path, file, settled_s)) is not None:
                file.given = True
                return frame
        return None

    def _read(self, path: str, file: _File, settled_s: float) -> Frame | None:
        """The picture; None where it is to be waited for."""
        file.tried = True
        try:
            image, error = read_image(Path(path)), ""
        except ImageError as problem:
            image, error = None, str(problem)
        try:
            if _stamp(os.stat(path)) != file.stamp:  # noqa: PTH116 (a str, as in scandir)
                return None  # it was written to meanwhile: the next look sees that
        except OSError:
            if image is None:
                return None  # taken away before it was read: whoever did has it
        if image is None and settled_s < self._options.give_up_s:
            return None
        return Frame(path, None, image, error, file.since_ns)

    def _turn(self, state: str, detail: str) -> None:
        """Tell of a folder that went or came; not of one that stays gone, or there."""
        lost = state == "lost"
        if not self._state or lost != (self._state == "lost"):
            self._on_event(Event(self._name, "lost" if lost else "regained" if self._state else "opened", detail))
        self._state = "lost" if lost else "there"


def _pictures(folder: Path | str) -> Iterator[tuple[str, Stamp]]:
    """All pictures in the folder and below it. Raises OSError where the folder itself cannot be read."""
    below = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                elif is_image(Path(entry.name)) and entry.is_file():
                    yield entry.path, _stamp(entry.stat())
            except OSError:
                continue  # gone between two calls
    for path in below:
        try:
            yield from _pictures(path)
        except OSError:
            continue


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_size
