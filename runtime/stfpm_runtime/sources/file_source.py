"""A source of files: each frame is given once, when asked for; none is ever dropped."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from .base import Event, Frame, OnEvent
from .files import UNCHECKED_VIDEOS, checks_videos, find_files, is_video, read_frames, summarise
from .options import SourceOptions


class FileSource:
    """The frames of pictures, videos, folders and patterns, in the order of `find_files`.

    Raises DataError where `find_files` does. It arrives when it has been read: `arrived_ns` is that moment.
    An event names the files that are left out.
    """

    def __init__(
        self, sources: Sequence[str], options: SourceOptions | None = None, on_event: OnEvent | None = None
    ) -> None:
        options = options or SourceOptions()
        self._name = ", ".join(sources)
        files = find_files(sources)
        if files.left_out and on_event is not None:
            on_event(Event(options.name or self._name, "skipped", summarise(files.left_out)))
        if on_event is not None and any(map(is_video, files.paths)) and not checks_videos():
            on_event(Event(options.name or self._name, "unchecked", UNCHECKED_VIDEOS))
        self._frames = read_frames(files.paths, options.bits, options.max_megapixels)
        self._ended = False

    @property
    def name(self) -> str:
        """The sources, as the user named them."""
        return self._name

    @property
    def live(self) -> bool:
        """False: files wait."""
        return False

    def next(self, timeout_s: float) -> Frame | None:
        """The next frame, read now; None once there is no more."""
        for frame in self._frames:
            return dataclasses.replace(frame, arrived_ns=time.monotonic_ns())
        self._ended = True
        return None

    @property
    def ended(self) -> bool:
        """Whether `next` has found the end."""
        return self._ended

    def close(self) -> None:
        """Read no more."""
        self._frames = iter(())
