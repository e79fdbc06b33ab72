"""The worker thread of one camera: it waits for the trigger, takes the frame, and puts it into the line's mailbox."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from stfpm_runtime.errors import MissingExtraError, OptionError, StfpmError
from stfpm_runtime.lifecycle import Backoff, Worker
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.triggers.base import Trigger, TriggerRequest
from stfpm_runtime.sources import Event, Frame, OnEvent, Source
from stfpm_runtime.sources.mailbox import Droppable, FrameMailbox

LOG = logging.getLogger("stfpm.camera")
POLL_S = 0.1
"""The longest wait of a camera worker or of the loop, in seconds, before it checks whether it must stop."""
DEAD = "internal error: the camera's thread has ended"
REPEATED = "the camera gave the same picture before, to the last bit; check the camera, or set frozen_after_s = 0"
UNASKED = "no trigger asked for this picture; check that triggers come before their pictures, and one for each"
RETRY_S = (1.0, 30.0)
"""Between attempts to open a source: the first wait, doubled up to the second."""

OpenSource = Callable[[CameraOptions, OnEvent], Source]
EventCallback = Callable[[str, Event], None]
"""Takes a camera's name and an event of its source; it must not block."""


@dataclass(eq=False)
class TriggeredFrame(Droppable):
    """A frame, and the request for it. A frame without pixels has the reason, and becomes a fault."""

    camera: CameraOptions
    frame: Frame
    request: TriggerRequest


class CameraWorker(Worker):
    """One camera, from its trigger to the line's mailbox. It opens the source itself, and tries again where that fails.

    A camera that is lost or frozen gives one fault for that, if its trigger is `continuous`; frames of a frozen camera
    are faults. A requested part is judged on a picture that came after its trigger and that did not come before.
    """

    def __init__(
        self,
        camera: CameraOptions,
        trigger: Trigger,
        open_source: OpenSource,
        mailbox: FrameMailbox[TriggeredFrame],
        report: EventCallback,
    ) -> None:
        """Store everything; the thread opens the source, so that the sources of all cameras open at the same time."""
        super().__init__(f"camera {camera.name}")
        self.camera = camera
        self.trigger = trigger
        self.ended = False
        """True once the camera will give no more frames, and the mailbox has received every frame that it gave."""
        self.state = "opening"
        """The last change of the camera: opened, lost, regained, frozen or thawed."""
        self.failure: StfpmError | None = None
        """The error for which the source can never be opened; None if there is none."""
        self._open_source = open_source
        self._mailbox = mailbox
        self._report = report
        self._shape: tuple[int, ...] = ()
        self._frozen = ""
        self._faults: list[str] = []
        """Reasons why the camera gave no frames: each becomes a fault."""
        self._by_parts = camera.trigger in ("http", "mqtt", "gpio")
        """True where each trigger stands for one part. A picture in a watched folder then belongs to one trigger, or
        is a fault because no trigger asked for it."""
        self._request: TriggerRequest | None = None
        """The request that has no frame yet."""
        self._next_request: TriggerRequest | None = None
        """The request after it, where it came already."""
        self._next_frame: Frame | None = None
        """The picture that came after it."""

    def frame_without_image(self, request: TriggerRequest, reason: str) -> TriggeredFrame:
        """Return a frame without pixels, which becomes a fault with this reason."""
        arrived_ns = request.at_ns or time.monotonic_ns()
        frame = Frame(self.camera.name, error=reason, arrived_ns=arrived_ns, part=request.part)
        return TriggeredFrame(self.camera, frame, request)

    def on_event(self, event: Event) -> None:
        """Report an event of the source. Called by the source's threads."""
        self._report(self.camera.name, event)
        detail = f" ({event.detail})" if event.detail else ""
        if event.kind not in ("skipped", "unchecked"):  # they do not change the camera's state
            self.state = event.kind
            self._frozen = f"the camera is frozen{detail}" if event.kind == "frozen" else ""
        level = logging.WARNING if event.kind in ("lost", "frozen", "skipped", "unchecked") else logging.INFO
        LOG.log(level, "%s: %s%s", self.camera.name, event.kind, detail)
        if event.kind in ("lost", "frozen") and self.camera.trigger == "continuous":
            self._faults.append(f"the camera is {event.kind}{detail}")

    def run(self) -> None:
        """Open the source and put its frames into the mailbox, until the worker is stopped or the source has ended."""
        try:
            if (source := self._open()) is None:
                return
            with contextlib.closing(source):
                if self.state == "opening":  # files send no event
                    self.state = "opened"
                while not self.stopping.is_set() and self._serve(source):
                    pass
        except StfpmError as error:
            self.failure = error
        except Exception:
            LOG.exception("camera %s: a bug ended its thread", self.camera.name)
            self.on_event(Event(self.camera.name, "lost", DEAD))
            request, self._request = self._request or TriggerRequest(), None
            self._put(self.frame_without_image(request, DEAD))
        finally:
            if not self.stopping.is_set():  # a line that stops answers the requests itself
                self._answer_all_with_faults()
            self.ended = True

    def _answer_all_with_faults(self) -> None:
        """Accept no more requests, and answer the accepted ones with faults."""
        waiting = self.trigger.close()
        for request in (self._request, self._next_request, *waiting):
            if request and self._by_parts:
                self._put(self.frame_without_image(request, DEAD))

    def _open(self) -> Source | None:
        """Return the source, as soon as it can be opened; None when the line stops before."""
        backoff = Backoff(*RETRY_S)
        reported = False
        while not self.stopping.is_set():
            try:
                return self._open_source(self.camera, self.on_event)
            except (OptionError, MissingExtraError):
                raise
            except StfpmError as error:
                if not reported:
                    self.on_event(Event(self.camera.name, "lost", str(error)))
                reported = True
            until_s = time.monotonic() + backoff.next_s()
            while time.monotonic() < until_s and not self.stopping.is_set():
                self._put_faults()
                if self.camera.trigger == "continuous":
                    self.stopping.wait(POLL_S)
                elif request := self.trigger.wait(POLL_S):
                    self._put(self.frame_without_image(request, request.error or "the source was not opened yet"))
        return None

    def _serve(self, source: Source) -> bool:
        """Put one frame into the mailbox, or nothing if none came; return False at the end."""
        if not self._put_faults():
            return False
        request = self._request = self._next_request or self.trigger.wait(POLL_S)
        self._next_request = None
        if request is None:
            if self._watches_parts(source):
                self._take_unasked(source)
            return not source.ended or self._by_parts
        if request.error:
            accepted = self._put(self.frame_without_image(request, request.error))
        elif self.camera.trigger == "continuous":
            frame = source.next(POLL_S)
            if frame is None:
                return self._put_faults() and not source.ended
            accepted = self._put_frame(request, self._check(frame, source), droppable=source.live)
        else:
            frame = self._frame_for(request, source)
            if source.ended and self.camera.trigger == "every" and frame.image is None and not frame.index:
                return False
            accepted = self._put_frame(request, dataclasses.replace(self._check(frame, source), part=request.part))
        self._request = None
        return accepted

    def _watches_parts(self, source: Source) -> bool:
        return self._by_parts and self.camera.watch and not source.live

    def _take_unasked(self, source: Source) -> None:
        """Take a picture that came without a request: a fault, unless its request has come in the meantime."""
        frame, self._next_frame = self._next_frame or source.next(0.0), None
        if frame is not None and self._belongs_to_next(frame):
            self._next_frame = frame
        elif frame is not None:
            self._put_unasked(frame)

    def _put_unasked(self, frame: Frame) -> None:
        self._put_frame(TriggerRequest(), dataclasses.replace(frame, image=None, error=frame.error or UNASKED))

    def _belongs_to_next(self, frame: Frame) -> bool:
        self._next_request = self._next_request or self.trigger.wait(0.0)
        return self._next_request is not None and frame.arrived_ns >= self._from_ns(self._next_request)

    def _from_ns(self, request: TriggerRequest) -> int:
        """Return the earliest time of arrival of a picture for this request."""
        return request.at_ns + self.camera.delay_ms * 1_000_000

    def _frame_for(self, request: TriggerRequest, source: Source) -> Frame:
        """Return the first frame after the request and the delay; one with an error if none comes in time.

        Of a watched folder, pictures from before are faults of their own, and one that came after the next request is
        kept for that: a picture too many or too few does not shift those of later parts.
        """
        from_ns = self._from_ns(request)
        until_ns = from_ns + self.camera.timeout_ms * 1_000_000
        self.stopping.wait(max(0.0, (from_ns - time.monotonic_ns()) / 1e9))
        while not self.stopping.is_set() and not source.ended and (now_ns := time.monotonic_ns()) < until_ns:
            frame, self._next_frame = self._next_frame, None
            frame = frame or source.next(min(POLL_S, (until_ns - now_ns) / 1e9))
            if frame is None:
                if self._frozen:
                    return Frame(source.name, error=self._frozen, arrived_ns=request.at_ns)
            elif frame.arrived_ns >= from_ns or not (source.live or self._by_parts):
                if not (self._watches_parts(source) and self._belongs_to_next(frame)):
                    return frame
                self._next_frame = frame
                return Frame(source.name, error="no picture came before the next trigger", arrived_ns=request.at_ns)
            elif not source.live:
                self._put_unasked(frame)
        why = "the line is stopping" if self.stopping.is_set() else "the source has ended" if source.ended else ""
        why = why or f"no frame within {self.camera.timeout_ms} ms of the trigger"
        return Frame(source.name, error=why, arrived_ns=request.at_ns)

    def _check(self, frame: Frame, source: Source) -> Frame:
        """Return the frame, without pixels if the camera is frozen, repeats it, or changed its size."""
        if frame.image is None:
            return frame
        error, is_part = "", self._by_parts or (source.live and self.camera.trigger != "continuous")
        if source.live and self.camera.same_size:
            self._shape = self._shape or frame.image.shape
            if frame.image.shape != self._shape:
                error = f"got a frame of {_size(frame.image.shape)}, the camera began with {_size(self._shape)}"
                error += "; correct the camera's settings, or start again"
        error = self._frozen or (REPEATED if frame.repeated and is_part else error)
        return dataclasses.replace(frame, image=None, error=error) if error else frame

    def _put_frame(self, request: TriggerRequest, frame: Frame, droppable: bool = False) -> bool:
        if not frame.arrived_ns:
            frame = dataclasses.replace(frame, arrived_ns=request.at_ns or time.monotonic_ns())
        droppable = droppable and frame.image is not None
        return self._put(TriggeredFrame(self.camera, frame, request, droppable=droppable, dropped=frame.dropped))

    def _put_faults(self) -> bool:
        """Put a fault into the mailbox for each time the camera was lost or frozen."""
        while self._faults:
            if not self._put_frame(TriggerRequest(), Frame(self.camera.name, error=self._faults.pop(0))):
                return False
        return True

    def _put(self, frame: TriggeredFrame) -> bool:
        """Put a frame into the mailbox; return False when that is closed."""
        return self._mailbox.put(self.camera.name, frame)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}, {shape[2] if len(shape) > 2 else 1} channels"
