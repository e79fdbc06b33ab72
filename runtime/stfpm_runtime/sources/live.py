"""Live cameras: a thread reads as fast as frames come and keeps the newest alone, so that nobody works on old ones.

A camera that is lost is opened again, at once and then after ever longer pauses, for as long as it takes. One that says
nothing is taken for lost, one whose every byte stays the same for frozen: a sensor has noise.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import OptionError
from ..preprocessing import Image
from .addresses import kind_of, shown
from .base import Event, Frame, OnEvent, Source
from .camera import Camera, CameraError
from .clip import FileSource

CLOSING_S = 0.9
"""How long `close` waits for the thread; one that hangs in a driver dies with the process."""


@dataclass(frozen=True)
class LiveOptions:
    """How patient to be with a camera."""

    frozen_after_s: float = 5.0
    """So long the same frame, and it is frozen; 0: never."""
    silent_after_s: float = 5.0
    """So long no frame, and it is lost."""
    first_pause_s: float = 0.2
    """Before the second attempt to open it; doubled each time ..."""
    longest_pause_s: float = 10.0
    """... up to this, less a random part of up to a half, lest all cameras come back at once."""


def open_source(
    address: str,
    *,
    on_event: OnEvent,
    watch: bool = False,
    frozen_after_s: float = LiveOptions.frozen_after_s,
    silent_after_s: float = LiveOptions.silent_after_s,
) -> Source:
    """The source that an address names; a camera is opened by its own thread, and need not be there yet.

    With `watch`, the address is a folder that fills. Raises OptionError for what can never be opened here, DataError
    for files that are not there, MissingExtraError for a driver that is not installed.
    """
    kind = kind_of(address)
    if watch:
        if kind != "files":
            raise OptionError(f"got watch with {shown(address)}; expected a folder")
        from .watched import WatchedFolder

        return WatchedFolder(address, on_event)
    if kind == "files":
        return FileSource([address])
    options = LiveOptions(frozen_after_s, silent_after_s)
    return LiveSource(shown(address), _driver(address, silent_after_s), on_event, options)


def _driver(address: str, silent_after_s: float) -> Callable[[], Camera]:
    """What makes a camera of the address. Raises where that can never work here."""
    if kind_of(address) == "aravis":
        from .aravis_camera import AravisCamera

        name = address.partition(":")[2]
        return lambda: AravisCamera(name, silent_after_s)
    from .opencv_camera import OpenCvCamera, check_supported

    check_supported(address)
    return lambda: OpenCvCamera(address, silent_after_s)


class LiveSource:
    """A camera with its thread. `make` makes a Camera, anew for each attempt."""

    live = True

    def __init__(self, name: str, make: Callable[[], Camera], on_event: OnEvent, options: LiveOptions) -> None:
        self.name = name
        self._make, self._on_event, self._options = make, on_event, options
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._count = 0
        """Frames since it was opened first."""
        self._given = 0
        """Number of the last frame that was given, from 1."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"camera {name}", daemon=True)
        self._thread.start()

    def next(self, timeout_s: float) -> Frame | None:
        """The newest frame, if it was not given already, or the one that comes within the time."""
        with self._changed:
            if self._newest is None:
                self._changed.wait(timeout_s)
            frame, self._newest = self._newest, None
            if frame is None or frame.index is None:
                return None
            dropped = frame.index - self._given
            self._given = frame.index + 1
        return Frame(self.name, frame.index, frame.image, arrived_ns=frame.arrived_ns, dropped=dropped)

    @property
    def ended(self) -> bool:
        """Never, until it is closed."""
        return self._closing.is_set()

    def close(self) -> None:
        """Stop reading; a thread that hangs in a driver is left behind."""
        self._closing.set()
        with self._changed:
            self._newest = None
            self._changed.notify_all()
        self._thread.join(CLOSING_S)

    def _work(self) -> None:
        pause_s, was_open, is_lost = self._options.first_pause_s, False, False
        while not self._closing.is_set():
            camera = None
            try:
                camera = self._make()
                camera.open()
                for image in WatchedFrames(camera, self._options, self._closing, self._tell):
                    if is_lost or not was_open:
                        self._tell("regained" if was_open else "opened")
                        was_open, is_lost = True, False
                        pause_s = self._options.first_pause_s
                    self._keep(image)
            except CameraError as error:
                if not is_lost and not self._closing.is_set():
                    self._tell("lost", str(error))
                is_lost = True
            finally:
                if camera is not None:
                    camera.close()
            self._closing.wait(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, self._options.longest_pause_s)

    def _keep(self, image: Image) -> None:
        with self._changed:
            self._newest = Frame(self.name, self._count, image, arrived_ns=time.monotonic_ns())
            self._count += 1
            self._changed.notify_all()

    def _tell(self, kind: str, detail: str = "") -> None:
        if not self._closing.is_set():
            self._on_event(Event(self.name, kind, detail))  # type: ignore[arg-type]


class WatchedFrames:
    """The frames of an open camera, watched: CameraError when it falls silent, events when it freezes and thaws."""

    def __init__(
        self, camera: Camera, options: LiveOptions, closing: threading.Event, tell: Callable[[str, str], None]
    ) -> None:
        self._camera, self._options, self._closing, self._tell = camera, options, closing, tell
        self._digest, self._same_since_s, self._is_frozen = b"", 0.0, False

    def __iter__(self) -> WatchedFrames:
        return self

    def __next__(self) -> Image:
        """The next frame; ends when the source is closed."""
        heard_s = time.monotonic()
        while not self._closing.is_set():
            image = self._camera.read()
            if image is not None:
                self._watch(image)
                return image
            if time.monotonic() - heard_s > self._options.silent_after_s:
                raise CameraError(f"no frame for {self._options.silent_after_s:g} s")
        raise StopIteration

    def _watch(self, image: Image) -> None:
        """Tell when every byte has stayed the same for too long, and when that is over."""
        if not self._options.frozen_after_s:
            return
        digest, now_s = hashlib.blake2b(image.data, digest_size=16).digest(), time.monotonic()
        if digest != self._digest:
            self._digest, self._same_since_s = digest, now_s
            if self._is_frozen:
                self._is_frozen = False
                self._tell("thawed", "")
        elif not self._is_frozen and now_s - self._same_since_s > self._options.frozen_after_s:
            self._is_frozen = True
            self._tell("frozen", f"the same frame for {self._options.frozen_after_s:g} s")
