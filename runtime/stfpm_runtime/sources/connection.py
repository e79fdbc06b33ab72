"""One opening of a camera in a thread of its own, and the place where its newest frame waits to be taken."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from dataclasses import dataclass

from .camera import CameraLostError, FreezeDetector, OpenCamera, RawFrame
from .options import SourceOptions

LOG = logging.getLogger(__name__)

GRACE_S = 0.5
"""How much longer than a camera's own time-out we wait for the call that ought to have kept it."""
WANTED_S = 0.1
"""How long a thread waits for a request for a picture before it looks whether it is to end, in seconds."""


@dataclass(frozen=True, eq=False)
class Taken:
    """A frame as it is taken from its place."""

    shot: RawFrame
    index: int
    """Its number since the start, from 0."""
    arrived_ns: int
    dropped: int
    """Frames before it that nobody took."""
    repeated: bool
    """Whether it equals an earlier one, so that it shows the past."""


class Newest:
    """Room for one frame: a newer one takes the place of one that nobody took, and counts it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: Taken | None = None
        self._count = 0  # of all frames that came
        self._dropped = 0  # of them, since the last that was taken
        self._wanted = False
        self._closed = False

    def put(self, shot: RawFrame, arrived_ns: int, repeated: bool) -> None:
        """Take in a frame."""
        with self._changed:
            self._dropped += self._waiting is not None
            self._waiting = Taken(shot, self._count, arrived_ns, 0, repeated)
            self._count += 1
            self._wanted = False
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Taken | None:
        """Return the frame that waits or comes in time; None if none comes."""
        with self._changed:
            if self._waiting is None and not self._wanted:
                self._wanted = True
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting is not None or self._closed, timeout_s)
            if self._waiting is None or self._closed:
                return None
            taken = dataclasses.replace(self._waiting, dropped=self._dropped)
            self._waiting, self._dropped = None, 0
            return taken

    def wait_until_wanted(self, timeout_s: float) -> bool:
        """Return whether somebody waits for a frame; one request is for one frame, however long that takes."""
        with self._changed:
            return self._changed.wait_for(lambda: self._wanted, timeout_s)

    def clear(self) -> None:
        """Drop the frame that waits, and the request for one: the camera is gone, and it would be old when taken."""
        with self._changed:
            self._dropped += self._waiting is not None
            self._waiting, self._wanted = None, False

    def close(self) -> None:
        """Let whoever waits go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Connection:
    """Opens a camera and reads it until it is lost or let go; then closes it. All of that in its own thread.

    It brings frames to `newest`, except while they are frozen, and sets `wake` when something else befalls it.
    """

    def __init__(
        self,
        open_camera: OpenCamera,
        newest: Newest,
        recent: FreezeDetector,
        wake: threading.Event,
        options: SourceOptions,
        name: str,
    ) -> None:
        """`recent` holds frames of earlier connections: a picture from before a loss may come again after it."""
        recent.forget_number()
        self.reason: str | None = None
        """Why it was lost; None while it was not."""
        self.frozen_s = 0.0
        """For how long the camera has given the same picture, if that is too long; 0 otherwise."""
        self.opened = False
        """Whether the camera answered; one that waits for a trigger may give no frame for long after that."""
        self.unchecked = ""
        """What damage of its frames cannot be found."""
        self.frames = 0
        self.size = ""
        """Of the first frame: 640x480."""
        self._open_camera = open_camera
        self._newest = newest
        self._wake = wake
        self._options = options
        self._recent = recent
        self._on_demand = False
        self._last_ns = time.monotonic_ns()
        self._let_go = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"camera {name}", daemon=True)
        self.thread.start()

    def let_go(self) -> None:
        """Have the thread end as soon as the driver gives it back; no frame of it counts any more."""
        self._let_go.set()

    def quiet_s(self) -> float:
        """Seconds since the last frame, or since the camera was called."""
        return (time.monotonic_ns() - self._last_ns) / 1e9

    def patience_s(self) -> float:
        """For how many seconds more nothing need come; not above 0 when it is over."""
        if self._on_demand:
            return threading.TIMEOUT_MAX  # it comes when it is asked for, and its requests have time limits
        limit_s = self._options.silent_after_s if self.frames else self._options.open_timeout_s
        if not limit_s or (not self.frames and not self._options.silent_after_s and self.opened):
            return threading.TIMEOUT_MAX
        return limit_s + GRACE_S - self.quiet_s()

    def _run(self) -> None:
        try:
            self._read_on()
        except CameraLostError as error:
            self.reason = str(error)
        except Exception as error:
            LOG.exception("a bug ended the thread of a camera")
            self.reason = f"internal error ({type(error).__name__})"
        self._wake.set()

    def _read_on(self) -> None:
        camera = self._open_camera()
        self.opened, self._on_demand, self.unchecked = True, camera.on_demand, camera.unchecked
        try:
            while not self._let_go.is_set():
                if self.frames and self._on_demand and not self._newest.wait_until_wanted(WANTED_S):
                    continue
                shot = camera.read()
                if shot is not None and not self._let_go.is_set():
                    self._bring(shot, time.monotonic_ns())
        except CameraLostError as error:
            self.reason = str(error)  # at once: closing may take its time
            self._wake.set()
        finally:
            camera.close()

    def _bring(self, shot: RawFrame, now_ns: int) -> None:
        content = shot.raw if shot.content is None else shot.content
        watched = self._options.frozen_after_s > 0
        repeated = watched and self._recent.is_repeated(content, shot.number)
        still_s = (now_ns - self._recent.differed_ns) / 1e9
        frozen_s = still_s if repeated and still_s > self._options.frozen_after_s else 0.0
        changed = (frozen_s > 0) != (self.frozen_s > 0) or not self.frames
        self.size = self.size or shot.size
        self.frozen_s, self._last_ns = frozen_s, now_ns
        self.frames += 1
        if not frozen_s or self._on_demand:
            self._newest.put(shot, shot.arrived_ns or now_ns, repeated)
        if changed:
            self._wake.set()
