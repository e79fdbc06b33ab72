"""Live sources: one thread reads a camera and keeps its newest frame, another one opens it again when it is lost."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass

import cv2

from stfpm_runtime.errors import ImageError
from stfpm_runtime.imaging.preprocessing import to_bgr8
from stfpm_runtime.lifecycle import Backoff, Worker

from .base import Event, EventKind, Frame, FreezeDetector, OnEvent, SourceOptions
from .camera import CameraLostError, OpenCamera, RawFrame
from .mailbox import Droppable, FrameMailbox

LOG = logging.getLogger(__name__)

MAX_STUCK_CALLS = 3
"""Calls into a driver that never returned, before no further one is made until one of them returns."""
CLOSE_S = 0.8
"""How long closing waits for the threads; one that hangs in a driver is abandoned, and closes the camera on return."""
GRACE_S = 0.5
"""How much longer than a camera's own time-out the supervisor waits for the call that should have kept it."""
WANTED_S = 0.1
"""How often a thread that waits for a request for a picture checks whether it must stop, in seconds."""


@dataclass(eq=False)
class ReceivedFrame(Droppable):
    """A raw frame in a live source's mailbox."""

    raw: RawFrame
    index: int
    """Its number since the source was started, from 0."""
    arrived_ns: int
    repeated: bool


class LiveSource(Worker):
    """A camera, from its first opening to the last. Its own thread supervises and reports events, another one reads."""

    live = True

    def __init__(self, name: str, open_camera: OpenCamera, on_event: OnEvent, options: SourceOptions) -> None:
        """Store everything; `start` opens the camera."""
        super().__init__(f"source {name}")
        self.mailbox = FrameMailbox[ReceivedFrame]()
        self.freeze_detector = FreezeDetector(options.frozen_after_s)
        """Knows frames of all connections: a picture from before a loss may come again after it."""
        self.events = queue.SimpleQueue[tuple[_Connection | None, EventKind, str]]()
        """Events of the connections for the supervisor, with their details."""
        self.options = options
        self.open_camera = open_camera
        self.received = 0
        """Number of frames that were put into the mailbox."""
        self._name = name
        self._on_event = on_event
        self._reported: set[EventKind] = set()  # kinds of events that were sent
        self._lost = False
        self._connection: _Connection | None = None

    @property
    def name(self) -> str:
        """Return its name without credentials."""
        return self._name

    @property
    def ended(self) -> bool:
        """Return whether it was closed: a camera that is gone may come back."""
        return self.stopping.is_set()

    def next(self, timeout_s: float) -> Frame | None:
        """Return the newest frame that was not given yet; None if none comes in time or the camera is frozen."""
        for received in self.mailbox.pop_all(timeout_s):
            image, error = None, ""
            try:
                image = to_bgr8(received.raw.decode(received.raw.raw), self.options.bits)
            except (ImageError, cv2.error) as problem:
                error = str(problem)
            arrived_ns, dropped = received.arrived_ns, received.dropped
            return Frame(self._name, received.index, image, error, arrived_ns, dropped, repeated=received.repeated)
        return None

    def close(self) -> None:
        """Stop the threads within a second, even where the camera's driver hangs."""
        self.stop(time.monotonic() + CLOSE_S)

    def stop(self, deadline_s: float) -> None:
        """Stop the supervisor, then the reading thread, until `deadline_s` on `time.monotonic()`."""
        super().stop((time.monotonic() + deadline_s) / 2)
        if self._connection is not None:
            self._connection.stop(deadline_s)

    def wake(self) -> None:
        """Wake the supervisor and the thread that waits for a frame."""
        self.mailbox.close()
        self.events.put((None, "lost", ""))

    def run(self) -> None:
        """Open the camera, watch it until it is lost, and open it again, until the source is closed."""
        options = self.options
        backoff = Backoff(options.retry_first_s, options.retry_most_s, options.jitter)
        stuck: list[_Connection] = []
        while not self.stopping.is_set():
            stuck = [connection for connection in stuck if connection.is_alive]
            if len(stuck) < MAX_STUCK_CALLS:
                began_s = time.monotonic()
                self._connection = _Connection(self)
                self._connection.start()
                reason = self._watch(self._connection)
                self._connection.request_stop()
                stuck.append(self._connection)
                if reason:
                    self.mailbox.clear("")
                    self._report("lost", reason)
                if time.monotonic() - began_s > options.retry_most_s:
                    backoff.reset()  # after a long connection the waits begin again with the shortest one
            self.stopping.wait(backoff.next_s())

    def _watch(self, connection: _Connection) -> str:
        """Report the events of the connection. Return why it is lost; an empty text when the source is closed."""
        while not self.stopping.is_set():
            try:
                sender, kind, detail = self.events.get(timeout=max(0.0, connection.left_s()))
            except queue.Empty:
                if connection.left_s() <= 0:
                    return f"no frame for {connection.quiet_s():.1f} s"
                continue
            if sender is connection and kind == "lost":
                return detail
            if sender is connection:
                self._report(kind, detail)
        return ""

    def _report(self, kind: EventKind, detail: str) -> None:
        """Send an event. A loss is reported once, not for each attempt to open the camera again; so is `unchecked`."""
        if (kind == "lost" and self._lost) or (kind == "unchecked" and kind in self._reported):
            return
        if kind == "opened" and self._reported:
            kind = "regained"
        if kind in ("lost", "regained"):
            self._lost = kind == "lost"
        self._reported.add(kind)
        try:
            self._on_event(Event(self._name, kind, detail))
        except Exception:
            LOG.exception("source %s: the receiver of events failed", self._name)


class _Connection(Worker):
    """Opens a camera once and reads it in its own thread, until it is lost or the thread is stopped; then closes it.

    It puts frames into the source's mailbox, except while they are frozen, and sends events to the supervisor. A thread
    that hangs in the driver puts nothing more once it was stopped.
    """

    def __init__(self, source: LiveSource) -> None:
        super().__init__(f"camera {source.name}")
        self._source = source
        self._frames = 0
        self._frozen = False
        self._opened = False  # a camera that waits for a trigger may give no frame for long after that
        self._on_demand = False
        self._last_ns = time.monotonic_ns()

    def quiet_s(self) -> float:
        """Return the seconds since the last frame, or since the camera was opened."""
        return (time.monotonic_ns() - self._last_ns) / 1e9

    def left_s(self) -> float:
        """Return for how many seconds more the camera may be silent; not above 0 when it is lost."""
        options = self._source.options
        limit_s = options.silent_after_s if self._frames else options.open_timeout_s
        may_be_silent = not limit_s or (self._opened and not options.silent_after_s)
        if self._on_demand or may_be_silent:  # requests for pictures have time limits of their own
            return threading.TIMEOUT_MAX
        return limit_s + GRACE_S - self.quiet_s()

    def run(self) -> None:
        """Read the camera until it is lost, and send the reason."""
        try:
            self._read()
        except CameraLostError as error:
            self._send("lost", str(error))
        except Exception as error:
            LOG.exception("a bug ended the thread of a camera")
            self._send("lost", f"internal error ({type(error).__name__})")

    def _read(self) -> None:
        self._source.freeze_detector.forget_number()
        camera = self._source.open_camera()
        self._opened, self._on_demand = True, camera.on_demand
        try:
            while not self.stopping.is_set():
                if self._frames and self._on_demand and not self._source.mailbox.wait_until_wanted(WANTED_S):
                    continue
                raw = camera.read()
                if raw is not None and not self.stopping.is_set():
                    self._put(raw, camera.unchecked)
        except CameraLostError as error:
            self._send("lost", str(error))  # at once: closing may take its time
        finally:
            camera.close()

    def _put(self, raw: RawFrame, unchecked: str) -> None:
        source, now_ns = self._source, time.monotonic_ns()
        repeated = source.freeze_detector.is_repeated(raw.raw if raw.content is None else raw.content, raw.number)
        frozen_s = source.freeze_detector.frozen_s()
        self._last_ns = now_ns
        self._frames += 1
        if not frozen_s or self._on_demand:
            arrived_ns = raw.arrived_ns or now_ns
            source.mailbox.put("", ReceivedFrame(raw, source.received, arrived_ns, repeated, droppable=True))
            source.received += 1
        if self._frames == 1:
            self._send("opened", raw.size)
            if unchecked:
                self._send("unchecked", unchecked)
        if (frozen_s > 0) != self._frozen:
            self._frozen = frozen_s > 0
            detail = f"the same picture to the last bit for {frozen_s:.1f} s; it is not given on"
            self._send(*("frozen", detail) if self._frozen else ("thawed", "frames differ again"))

    def _send(self, kind: EventKind, detail: str) -> None:
        self._source.events.put((self, kind, detail))
