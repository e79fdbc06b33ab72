"""Live sources: a camera read by a thread that keeps its newest frame, watches over it and calls it again when lost."""

from __future__ import annotations

import dataclasses
import logging
import random
import threading
import time
from functools import partial
from importlib.util import find_spec
from typing import Literal

import cv2

from stfpm_runtime.errors import ImageError
from stfpm_runtime.imaging.preprocessing import to_bgr8

from .address import Address, parse_address
from .base import Event, Frame, OnEvent, Source
from .camera import FreezeDetector, OpenCamera
from .connection import Connection, Newest
from .file_source import FileSource
from .options import SourceOptions
from .watched import WatchedFolder

LOG = logging.getLogger(__name__)

MOST_STUCK = 3
"""Calls into a driver that never came back, before no further one is made until one of them does."""
CLOSE_S = 0.8
"""How long closing waits for the threads; what hangs in a driver is left behind, and closes the camera on return."""


def open_source(address: str, *, on_event: OnEvent, options: SourceOptions | None = None) -> Source:
    """The source of this address; docs/sources.md has the kinds. Close it when done.

    A camera need not be there: it is called until it comes, and events tell of it. Raises OptionError for an address
    or an option that makes no sense here or needs what is not installed, DataError for files that do not exist.
    """
    options = options or SourceOptions()
    found = parse_address(address)
    if found.kind == "watched" or (found.kind == "files" and options.watch):
        return WatchedFolder(found.target, options.name or found.name, on_event, options)
    if found.kind == "files":
        return FileSource([found.target], options, on_event)
    if found.kind == "aravis":  # its pixel format says how many bits there are, and all come at full scale
        options = dataclasses.replace(options, bits=16)
    return LiveSource(options.name or found.name, _opener(found, options), on_event, options)


def _opener(address: Address, options: SourceOptions) -> OpenCamera:
    if address.kind == "aravis":
        from .aravis import aravis_opener

        return aravis_opener(address, options)
    if address.kind != "stream":
        return _opencv_opener(address, options)
    open_video = _video_opener(address, options)
    if not address.target.startswith("http"):
        return open_video
    from .http import http_opener

    return http_opener(address, options, open_video)


def _video_opener(address: Address, options: SourceOptions) -> OpenCamera:
    """Return what opens a compressed stream: PyAV where it is installed, OpenCV otherwise."""
    if find_spec("av") is None:
        return _opencv_opener(address, options)
    from .video import VideoCamera

    return partial(VideoCamera, address, options)


def _opencv_opener(address: Address, options: SourceOptions) -> OpenCamera:
    from .opencv import opencv_opener

    return opencv_opener(address, options)


class LiveSource:
    """A camera, from the first call to the last. One thread supervises and tells of events, one reads."""

    live = True

    def __init__(self, name: str, open_camera: OpenCamera, on_event: OnEvent, options: SourceOptions) -> None:
        self._name = name
        self._open_camera = open_camera
        self._on_event = on_event
        self._options = options
        self._newest = Newest()
        self._recent = FreezeDetector()
        self._wake = threading.Event()
        self._closing = False
        self._seen = False  # whether anything was told of the camera yet
        self._lost = False
        self._unchecked = False  # whether it was told that damage cannot be found
        self._connection: Connection | None = None
        self._supervisor = threading.Thread(target=self._supervise, name=f"source {name}", daemon=True)
        self._supervisor.start()

    @property
    def name(self) -> str:
        """Without credentials."""
        return self._name

    @property
    def ended(self) -> bool:
        """Whether it was closed: a camera that is gone may come back."""
        return self._closing

    def next(self, timeout_s: float) -> Frame | None:
        """The newest frame that was not given yet; None when none comes in time, and while the camera is frozen."""
        taken = self._newest.take(timeout_s)
        if taken is None:
            return None
        try:
            image, error = to_bgr8(taken.shot.develop(taken.shot.raw), self._options.bits), ""
        except (ImageError, cv2.error) as problem:
            image, error = None, str(problem)
        return Frame(self._name, taken.index, image, error, taken.arrived_ns, taken.dropped, repeated=taken.repeated)

    def close(self) -> None:
        """Stop the threads; within a second, even where the camera's driver hangs."""
        self._closing = True  # before the wake: whoever clears that looks at this afterwards
        until = time.monotonic() + CLOSE_S
        self._newest.close()
        self._wake.set()
        self._supervisor.join(CLOSE_S / 2)
        if self._connection is not None:
            self._connection.let_go()
            self._connection.thread.join(max(0.0, until - time.monotonic()))

    def _supervise(self) -> None:
        attempt = 0
        stuck: list[Connection] = []
        while not self._closing:
            stuck = [connection for connection in stuck if connection.thread.is_alive()]
            if len(stuck) < MOST_STUCK:
                began = time.monotonic()
                self._connection = self._connect()
                reason = self._watch(self._connection)
                self._connection.let_go()
                stuck.append(self._connection)
                if reason:
                    self._newest.clear()
                    self._tell_lost(reason)
                # One that stood long starts anew; one that comes and goes is called ever less often.
                attempt = 0 if time.monotonic() - began > self._options.retry_most_s else attempt
            self._pause(attempt)
            attempt += 1

    def _connect(self) -> Connection:
        return Connection(self._open_camera, self._newest, self._recent, self._wake, self._options, self._name)

    def _watch(self, connection: Connection) -> str:
        """Tell of what befalls the connection until it is lost; why it is, empty when we are closed."""
        frozen = came = False
        while True:
            self._wake.clear()  # first: what happens from here on wakes us again
            if self._closing:
                return ""
            reason, now_frozen = connection.reason, connection.frozen_s > 0
            if connection.frames and not came:
                came = True
                self._tell_came(connection)
            if now_frozen != frozen:
                frozen = now_frozen
                self._tell_frozen(connection, frozen)
            if reason is not None:
                return reason
            left_s = connection.patience_s()
            if left_s <= 0:
                return f"no frame for {connection.quiet_s():.1f} s"
            self._wake.wait(left_s)

    def _tell_came(self, connection: Connection) -> None:
        self._tell("regained" if self._seen else "opened", connection.size)
        if connection.unchecked and not self._unchecked:
            self._unchecked = True
            self._tell("unchecked", connection.unchecked)
        self._seen, self._lost = True, False

    def _tell_lost(self, reason: str) -> None:
        """Once for each loss: not again for attempts that fail."""
        if not self._lost:
            self._tell("lost", reason)
        self._seen = self._lost = True

    def _tell_frozen(self, connection: Connection, frozen: bool) -> None:
        if frozen:
            self._tell(
                "frozen", f"the same picture to the last bit for {connection.frozen_s:.1f} s; it is not given on"
            )
        else:
            self._tell("thawed", "frames differ again")

    def _tell(self, kind: Literal["opened", "lost", "regained", "frozen", "thawed", "unchecked"], detail: str) -> None:
        try:
            self._on_event(Event(self._name, kind, detail))
        except Exception:
            LOG.exception("source %s: whoever listens for events failed", self._name)

    def _pause(self, attempt: int) -> None:
        options = self._options
        longest_s = min(options.retry_most_s, options.retry_first_s * 2 ** min(attempt, 30))
        until = time.monotonic() + longest_s * (1 - options.jitter * random.random())
        while not self._closing and (left_s := until - time.monotonic()) > 0:
            self._wake.wait(left_s)
            self._wake.clear()
