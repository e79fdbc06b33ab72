"""What every source of frames offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from stfpm_runtime.imaging.preprocessing import Image


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame as a source gives it: either its pixels, or why there are none."""

    source: str
    """The file or camera that it is from, as the user would name it, without credentials."""
    index: int | None = None
    """Its number in a video or since a camera was opened, from 0; None for a picture."""
    image: Image | None = None
    """uint8 [H, W, 3], BGR; None where it could not be read."""
    error: str = ""
    """Why it could not be read; empty otherwise."""
    arrived_ns: int = 0
    """`time.monotonic_ns()` at the moment when it was there, or was triggered; 0 where nobody looked at the clock."""
    dropped: int = 0
    """Frames of a camera that were passed over since the one before, because a newer one had come."""
    part: str = ""
    """The part's id, where a trigger gave one."""
    repeated: bool = False
    """Whether a camera gave the same picture before, to the last bit: it does not show what is there now."""


@dataclass(frozen=True)
class Event:
    """Something that befell a source, for the journal."""

    source: str
    """Without credentials."""
    kind: Literal["opened", "lost", "regained", "frozen", "thawed", "ended", "skipped", "unchecked"]
    """`skipped`: files that are not judged, with their names. `unchecked`: damage that cannot be found in the frames.
    Neither says anything about the state of the source."""
    detail: str = ""
    """The reason in words, without credentials."""


OnEvent = Callable[[Event], None]
"""Called from the source's own thread; it must not block."""


class Source(Protocol):
    """Gives frames, one at a time, to one reader.

    A live source (a camera) reads in a thread of its own, keeps only the newest frame, and reconnects by itself; a
    source of files gives each frame once, when asked for.
    """

    @property
    def name(self) -> str:
        """As the user would name it, without credentials."""
        ...

    @property
    def live(self) -> bool:
        """Whether frames come by themselves and are dropped when nobody takes them."""
        ...

    def next(self, timeout_s: float) -> Frame | None:
        """The next frame; of a live source the newest, if it was not given already.

        None when none came within `timeout_s`, and for ever once it has `ended`. Never raises for a frame that cannot
        be read, or a camera that is gone: such a frame has an `error`, such a camera gives None, and events tell of it.
        """
        ...

    @property
    def ended(self) -> bool:
        """Whether no frame will ever come again; never of a camera or a watched folder that is open."""
        ...

    def close(self) -> None:
        """Stop the thread and give the camera back; within a second. Closing twice is fine."""
        ...
