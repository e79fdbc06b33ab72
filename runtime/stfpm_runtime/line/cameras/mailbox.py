"""What travels from the cameras to the loop, and where it waits: one place for each camera, so frames can meet."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.journal.rows import Record
from stfpm_runtime.sources import Frame


def _nobody(records: Sequence[Record]) -> None:
    pass


@dataclass(frozen=True, eq=False)
class TriggerRequest:
    """A trigger has fired: somebody wants one frame judged."""

    at_ns: int = 0
    """`time.monotonic_ns()`; a camera's frame must not be older. 0: any frame will do."""
    part: str = ""
    """The part's id; empty where there is none."""
    answer: Callable[[Sequence[Record]], None] = _nobody
    """Told once, after the journal: the verdicts of all regions. It must not block."""
    error: str = ""
    """Why the part cannot be judged, whatever its frame; empty where it can. The verdict is then a fault."""

    @property
    def asked(self) -> bool:
        """Whether somebody waits for this verdict, so that it must come."""
        return self.at_ns > 0


@dataclass(frozen=True, eq=False)
class TriggeredFrame:
    """A frame, and what asked for it. A frame without pixels says why, and becomes a fault."""

    camera: CameraOptions
    frame: Frame
    firing: TriggerRequest
    droppable: bool = False
    """Whether a newer one may take its place before the loop has seen it."""


class FrameMailbox:
    """One place for each camera: a new frame replaces one that may be dropped, and waits for one that may not."""

    def __init__(self) -> None:
        self._shots: dict[str, TriggeredFrame] = {}
        self._changed = threading.Condition()
        self._closed = False

    def bring(self, shot: TriggeredFrame) -> bool:
        """Put it in its camera's place, waiting where another must not be dropped; False when the loop has ended."""
        name = shot.camera.name
        with self._changed:
            while not self._closed and (there := self._shots.get(name)) and not (there.droppable and shot.droppable):
                self._changed.wait()
            if self._closed:
                return False
            if there := self._shots.get(name):
                dropped = shot.frame.dropped + there.frame.dropped + 1
                shot = dataclasses.replace(shot, frame=dataclasses.replace(shot.frame, dropped=dropped))
            self._shots[name] = shot
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float) -> list[TriggeredFrame]:
        """All that are there, at most one of each camera; none if none came in time."""
        with self._changed:
            if not self._shots:
                self._changed.wait(timeout_s)
            shots = list(self._shots.values())
            self._shots.clear()
            self._changed.notify_all()
            return shots

    def close(self) -> list[TriggeredFrame]:
        """Let nobody wait any more; gives what nobody took."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            shots = list(self._shots.values())
            self._shots.clear()
            return shots
