"""How a source behaves: time-outs, reconnecting, what a watched folder waits for. Defaults suit most lines."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from stfpm_runtime.errors import OptionError
from stfpm_runtime.imaging.preprocessing import check_bits
from stfpm_runtime.options import MAX_MEGAPIXELS

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
