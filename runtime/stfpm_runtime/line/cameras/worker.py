"""A camera at its post: a thread that waits for the trigger, takes the frame, and brings it to the loop."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable

from stfpm_runtime.errors import MissingExtraError, OptionError, StfpmError
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.triggers.base import Trigger
from stfpm_runtime.sources import Event, Frame, Source
from stfpm_runtime.sources.base import OnEvent
from stfpm_runtime.sources.camera import FreezeDetector

from .mailbox import FrameMailbox, TriggeredFrame, TriggerRequest

LOG = logging.getLogger("stfpm.camera")
POLL_S = 0.1
"""How long a thread may wait before it looks whether it is to stop."""
DEAD = "internal error: the camera's thread has ended"
REPEATED = "the camera gave the same picture before, to the last bit; check the camera, or set frozen_after_s = 0"
UNASKED = "no trigger asked for this picture; check that triggers come before their pictures, and one for each"
RETRY_S = (1.0, 30.0)
"""Between attempts to open a source: the first wait, doubled up to the second."""

OpenSource = Callable[[CameraOptions, OnEvent], Source]
Note = Callable[[str, Event], None]
"""Takes a camera's name and what befell it; it must not block."""


class CameraWorker:
    """One camera, from its trigger to the meeting. It opens the source itself, and tries again where that fails.

    A camera that is lost or frozen while every frame counts gives one fault for it; a frozen one's frames are faults.
    A part that somebody asked for is judged on a picture that came after its trigger and that did not come before.
    """

    def __init__(
        self, camera: CameraOptions, trigger: Trigger, open_source: OpenSource, meeting: FrameMailbox, note: Note
    ) -> None:
        self.camera = camera
        self.trigger = trigger
        self.ended = False
        """Whether nothing will come any more, and all that came was brought."""
        self.state = "opening"
        """What befell the camera last: opened, lost, regained, frozen, thawed or ended."""
        self.failure: StfpmError | None = None
        """What no waiting will mend."""
        self._open_source = open_source
        self._meeting = meeting
        self._note = note
        self._closing = threading.Event()
        self._shape: tuple[int, ...] = ()
        self._frozen = ""
        self._unseen: list[str] = []
        """Why the camera saw nothing: each becomes a fault of its own."""
        self._by_parts = camera.trigger in ("http", "mqtt", "gpio")
        """Whether each firing is a part, so that each picture of a watched folder belongs to one or to none."""
        self._firing: TriggerRequest | None = None
        """The firing that has no frame yet."""
        self._next_firing: TriggerRequest | None = None
        """The firing after it, where it came already."""
        self._next_frame: Frame | None = None
        """The picture that came after it."""
        self._recent = FreezeDetector()
        self._thread = threading.Thread(target=self._work, name=f"camera {camera.name}", daemon=True)

    def start(self) -> None:
        """Begin; the source is opened by the thread, so that several open at a time."""
        self._thread.start()

    def close(self) -> list[TriggerRequest]:
        """Tell the thread to end, without waiting for it; gives the firings that had no frame yet."""
        self._closing.set()
        return self.trigger.close()

    def shot_without_frame(self, firing: TriggerRequest, reason: str) -> TriggeredFrame:
        """What becomes a fault."""
        arrived_ns = firing.at_ns or time.monotonic_ns()
        return TriggeredFrame(
            self.camera, Frame(self.camera.name, error=reason, arrived_ns=arrived_ns, part=firing.part), firing
        )

    def _work(self) -> None:
        try:
            source = self._open()
            if source is None:
                return
            if self.state == "opening":  # a file says nothing of itself
                self.state = "opened"
            try:
                while not self._closing.is_set() and self._serve(source):
                    pass
            finally:
                source.close()
        except StfpmError as error:
            self.failure = error
        except Exception:
            LOG.exception("camera %s: a bug ended its thread", self.camera.name)
            self.on_event(Event(self.camera.name, "lost", DEAD))
            firing, self._firing = self._firing or TriggerRequest(), None
            self._meeting.bring(self.shot_without_frame(firing, DEAD))
        finally:
            self._refuse_the_rest()
            self.ended = True

    def _refuse_the_rest(self) -> None:
        """Accept no more triggers, and answer the accepted ones with faults; a line that stops does it itself."""
        if self._closing.is_set():
            return
        waiting = self.trigger.close()
        firings = [firing for firing in (self._firing, self._next_firing, *waiting) if firing and self._by_parts]
        for firing in firings:
            self._meeting.bring(self.shot_without_frame(firing, DEAD))

    def _open(self) -> Source | None:
        """The source, as soon as it can be opened; None when the line stops before."""
        wait_s, longest_s = RETRY_S
        while not self._closing.is_set():
            try:
                return self._open_source(self.camera, self.on_event)
            except (OptionError, MissingExtraError):
                raise
            except StfpmError as error:
                if wait_s == RETRY_S[0]:
                    self.on_event(Event(self.camera.name, "lost", str(error)))
            until = time.monotonic() + wait_s
            while time.monotonic() < until and not self._closing.is_set():
                self._answer_without_a_source()
            wait_s = min(2 * wait_s, longest_s)
        return None

    def _answer_without_a_source(self) -> None:
        """Faults for what fires meanwhile."""
        self._bring_unseen()
        if self.camera.trigger == "continuous":
            self._closing.wait(POLL_S)
        elif firing := self.trigger.wait(POLL_S):
            self._meeting.bring(self.shot_without_frame(firing, firing.error or "the source was not opened yet"))

    def _serve(self, source: Source) -> bool:
        """Bring one frame, or nothing if nothing came; False at the end."""
        if not self._bring_unseen():
            return False
        self._firing, self._next_firing = self._next_firing or self.trigger.wait(POLL_S), None
        if self._firing is None and not (self._watches_parts(source) and self._took_unasked(source)):
            return not source.ended or self._by_parts
        firing = self._firing
        if firing is None:
            return True
        if firing.error:
            brought = self._meeting.bring(self.shot_without_frame(firing, firing.error))
        elif self.camera.trigger == "continuous":
            frame = source.next(POLL_S)
            if frame is None:
                return self._bring_unseen() and not source.ended
            brought = self._bring(firing, self._checked(frame, source), droppable=source.live)
        else:
            frame = self._frame_for(firing, source)
            if source.ended and self.camera.trigger == "every" and frame.image is None and not frame.index:
                return False
            brought = self._bring(firing, dataclasses.replace(self._checked(frame, source), part=firing.part))
        self._firing = None
        return brought

    def _watches_parts(self, source: Source) -> bool:
        return self._by_parts and self.camera.watch and not source.live

    def _took_unasked(self, source: Source) -> bool:
        """Take a picture that came while nothing was asked for; return whether there was one.

        A trigger that came in the meantime may have asked for it after all: then it waits for that.
        """
        frame = self._next_frame or source.next(0.0)
        self._next_frame = None
        if frame is None:
            return False
        self._firing = self.trigger.wait(0.0)
        if self._firing and frame.arrived_ns >= self._from_ns(self._firing):
            self._next_frame = frame
        else:
            self._bring_unasked(frame)
        return True

    def _bring_unasked(self, frame: Frame) -> None:
        self._bring(TriggerRequest(), dataclasses.replace(frame, image=None, error=frame.error or UNASKED))

    def _from_ns(self, firing: TriggerRequest) -> int:
        """Return when the earliest picture of this firing may arrive."""
        return firing.at_ns + self.camera.delay_ms * 1_000_000

    def _frame_for(self, firing: TriggerRequest, source: Source) -> Frame:
        """Return the first frame after the firing and the delay; one with an error if none comes in time.

        Of a watched folder, pictures from before are faults of their own, and one that came after the next firing is
        kept for that: a picture too many or too few does not shift those of later parts.
        """
        from_ns = self._from_ns(firing)
        until_ns = from_ns + self.camera.timeout_ms * 1_000_000
        self._closing.wait(max(0.0, (from_ns - time.monotonic_ns()) / 1e9))
        while not self._closing.is_set() and not source.ended and (now_ns := time.monotonic_ns()) < until_ns:
            frame, self._next_frame = self._next_frame, None
            frame = frame or source.next(min(POLL_S, (until_ns - now_ns) / 1e9))
            if frame is None:
                if self._frozen:
                    return Frame(source.name, error=self._frozen, arrived_ns=firing.at_ns)
            elif frame.arrived_ns >= from_ns or not (source.live or self._by_parts):
                if not (self._watches_parts(source) and self._belongs_to_next(frame)):
                    return frame
                self._next_frame = frame
                return Frame(source.name, error="no picture came before the next trigger", arrived_ns=firing.at_ns)
            elif not source.live:
                self._bring_unasked(frame)
        why = "the line is stopping" if self._closing.is_set() else "the source has ended" if source.ended else ""
        why = why or f"no frame within {self.camera.timeout_ms} ms of the trigger"
        return Frame(source.name, error=why, arrived_ns=firing.at_ns)

    def _belongs_to_next(self, frame: Frame) -> bool:
        self._next_firing = self._next_firing or self.trigger.wait(0.0)
        return self._next_firing is not None and frame.arrived_ns >= self._from_ns(self._next_firing)

    def _checked(self, frame: Frame, source: Source) -> Frame:
        """The frame, without pixels if it is not what the camera promised."""
        if frame.image is None:
            return frame
        if self._frozen:
            return dataclasses.replace(frame, image=None, error=self._frozen)
        if self.camera.trigger != "continuous" and self._is_repeated(frame, source):
            return dataclasses.replace(frame, image=None, error=REPEATED)
        if not (source.live and self.camera.same_size):
            return frame
        self._shape = self._shape or frame.image.shape
        if frame.image.shape == self._shape:
            return frame
        reason = f"got a frame of {_size(frame.image.shape)}, the camera began with {_size(self._shape)}"
        return dataclasses.replace(frame, image=None, error=f"{reason}; mend the camera's settings, or start again")

    def _is_repeated(self, frame: Frame, source: Source) -> bool:
        """Return whether the picture came before, so that it does not show this part."""
        if source.live:
            return frame.repeated
        watched = self.camera.watch and self._by_parts and self.camera.frozen_after_s > 0
        return watched and frame.image is not None and self._recent.is_repeated(frame.image)

    def _bring(self, firing: TriggerRequest, frame: Frame, droppable: bool = False) -> bool:
        if not frame.arrived_ns:
            frame = dataclasses.replace(frame, arrived_ns=firing.at_ns or time.monotonic_ns())
        shot = TriggeredFrame(self.camera, frame, firing, droppable and frame.image is not None)
        return self._meeting.bring(shot)

    def _bring_unseen(self) -> bool:
        """A fault for each time the camera was lost or frozen."""
        while self._unseen:
            if not self._bring(TriggerRequest(), Frame(self.camera.name, error=self._unseen.pop(0))):
                return False
        return True

    def on_event(self, event: Event) -> None:
        """What the source's thread calls."""
        self._note(self.camera.name, event)
        detail = f" ({event.detail})" if event.detail else ""
        if event.kind not in ("skipped", "unchecked"):  # they say nothing about the camera's state
            self.state = event.kind
            self._frozen = f"the camera is frozen{detail}" if event.kind == "frozen" else ""
        level = logging.WARNING if event.kind in ("lost", "frozen", "skipped", "unchecked") else logging.INFO
        LOG.log(level, "%s: %s%s", self.camera.name, event.kind, detail)
        if event.kind in ("lost", "frozen") and self.camera.trigger == "continuous":
            self._unseen.append(f"the camera is {event.kind}{detail}")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}, {shape[2] if len(shape) > 2 else 1} channels"
