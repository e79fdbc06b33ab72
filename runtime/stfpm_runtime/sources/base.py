"""What every source of frames offers, its options, and the one rule for repeated frames."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from stfpm_runtime.errors import OptionError
from stfpm_runtime.imaging.preprocessing import Image, check_bits
from stfpm_runtime.options import MAX_MEGAPIXELS

Pixels = npt.NDArray[Any]


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
    """`time.monotonic_ns()` when it arrived, or was triggered; 0 where the time is not known."""
    dropped: int = 0
    """Frames of a camera since the one before that were dropped, because a newer one had come."""
    part: str = ""
    """The part's id, where a trigger gave one."""
    repeated: bool = False
    """Whether the source gave the same picture before, to the last bit: it does not show what is there now."""


EventKind = Literal["opened", "lost", "regained", "frozen", "thawed", "skipped", "unchecked"]


@dataclass(frozen=True)
class Event:
    """A change of a source's state, or a warning, for the journal."""

    source: str
    """Without credentials."""
    kind: EventKind
    """`skipped`: files that are not judged, with their names. `unchecked`: damage that cannot be found in the frames.
    Neither changes the state of the source."""
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
        """Return its name as the user would write it, without credentials."""
        ...

    @property
    def live(self) -> bool:
        """Return whether frames come by themselves and are dropped when they are not taken in time."""
        ...

    def next(self, timeout_s: float) -> Frame | None:
        """Return the next frame; of a live source the newest, if it was not given already.

        None when none came within `timeout_s`, and for ever once it has `ended`. Never raises for a frame that cannot
        be read, or a camera that is gone: such a frame has an `error`, such a camera gives None and sends events.
        """
        ...

    @property
    def ended(self) -> bool:
        """Return whether no frame will ever come again; never true of an open camera or watched folder."""
        ...

    def close(self) -> None:
        """Stop the thread and close the camera, within a second. May be called twice."""
        ...


class FreezeDetector:
    """Finds frames that equal one of the last different frames. For one thread.

    Real frames have noise: one that equals an earlier one to the last bit shows the past, whether the camera is frozen
    or gives a ring of a few buffers again and again.
    """

    MAX_FRAMES = 8
    MAX_BYTES = 64 << 20
    """Frames that are kept; at least two, however large they are."""

    def __init__(self, frozen_after_s: float) -> None:
        """Store for how long frames may repeat before the source is frozen; with 0 no frame counts as repeated."""
        self._frozen_after_s = frozen_after_s
        self._frames: deque[Pixels] = deque()
        self._number: int | None = None
        self._repeated = False
        self._differed_ns = 0  # when the last frame came that was not repeated

    def forget_number(self) -> None:
        """Compare the next frame by its contents alone: a camera that is opened again may number its frames anew."""
        self._number = None

    def is_repeated(self, content: Pixels, number: int | None = None) -> bool:
        """Return whether the frame equals one of the last, or has the last one's number; keep it otherwise."""
        if not self._frozen_after_s:
            return False
        same_number = number is not None and number == self._number
        same_content = any(_is_equal(frame, content) for frame in self._frames)
        self._number, self._repeated = number, same_number or same_content
        if not same_content:
            self._frames.appendleft(content)
            while len(self._frames) > max(2, min(self.MAX_FRAMES, self.MAX_BYTES // max(1, content.nbytes))):
                self._frames.pop()
        if not self._repeated:
            self._differed_ns = time.monotonic_ns()
        return self._repeated

    def frozen_s(self) -> float:
        """Return for how long, in seconds, all frames have been repeated, if that is too long; 0 otherwise."""
        still_s = (time.monotonic_ns() - self._differed_ns) / 1e9
        return still_s if self._repeated and still_s > self._frozen_after_s else 0.0


def _is_equal(a: Pixels, b: Pixels) -> bool:
    """Return whether two frames are the same. Comparing some rows first settles it for all but frozen ones."""
    if a.shape != b.shape or a.dtype != b.dtype or not a.size:
        return False
    step = max(1, a.shape[0] // 16)  # bytes of a coded frame are rows, too
    return np.array_equal(a[::step], b[::step]) and np.array_equal(a, b)


_MAY_BE_ZERO = ("settle_s", "jitter", "silent_after_s", "frozen_after_s")


@dataclass(frozen=True)
class SourceOptions:
    """Options of `open_source`; each kind of source uses those that concern it.

    Raises OptionError for a value that makes no sense.
    """

    name: str = ""
    """Its name in frames and events; empty: the address, without credentials."""
    open_timeout_s: float = 10.0
    """A camera that has given no frame this long after it was opened is not there."""
    silent_after_s: float = 5.0
    """A camera that gave frames and then none for so long is lost. 0: never, for one that waits for a trigger."""
    frozen_after_s: float = 10.0
    """A camera whose frames are the same to the last bit for so long is frozen: real ones have noise. 0: never, for
    synthetic pictures, and for streams so compressed that a still scene comes out the same."""
    retry_first_s: float = 0.5
    """The longest wait before the first attempt to open a camera again; it doubles up to `retry_most_s`."""
    retry_most_s: float = 30.0
    jitter: float = 0.5
    """The share of a wait that is drawn at random, so that ten cameras do not connect through one switch at once."""
    decoder_threads: int = 1
    """For one video stream. More make the decoder hold frames back, one per thread; take as many as it needs to keep
    up with the camera and no more."""
    width: int | None = None
    """Of a V4L2 camera's frames, with `height` and `fps`; None: what the camera is set to."""
    height: int | None = None
    fps: float | None = None
    fourcc: str = ""
    """Of a V4L2 camera: `MJPG` gets many USB cameras to their full rate."""
    features: str = ""
    """GenICam features to set on an Aravis camera: `"PixelFormat=BayerRG8 Width=1024 ExposureTime=5000"`."""
    watch: bool = False
    """Whether a folder is watched, as with `watch:` before it, for the pictures that come into it."""
    existing: bool = False
    """Whether a watched folder also gives the pictures that it held at the start."""
    bits: int | None = None
    """Bits that the values of 16-bit pictures use, 9 to 16; None: all 16, or what the camera itself reports."""
    max_megapixels: float = MAX_MEGAPIXELS
    """A larger picture, in millions of pixels, is refused before it is decoded."""
    poll_s: float = 0.1
    """The shortest time between two scans of a watched folder, and two requests for a snapshot."""
    settle_s: float = 0.3
    """A file that did not change for so long is complete, if it can be decoded."""
    give_up_s: float = 30.0
    """A file that did not change for so long and still cannot be decoded is given as a frame with an error."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            if not math.isfinite(value) or value < 0 or (value == 0 and field.name not in _MAY_BE_ZERO):
                raise OptionError(f"got {field.name} {value}; expected a finite number above 0")
        check_bits(self.bits)
        if self.jitter > 1:
            raise OptionError(f"got jitter {self.jitter}; expected a share from 0 to 1")
        if self.fourcc and len(self.fourcc) != 4:
            raise OptionError(f"got fourcc {self.fourcc!r}; expected four letters, such as MJPG")
