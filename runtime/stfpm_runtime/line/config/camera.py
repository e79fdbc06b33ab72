"""The tables of a line's TOML file for cameras and their regions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from stfpm_runtime.options import MAX_MEGAPIXELS, MIN_SIDE, PART_LENGTH

from .checks import Name, Table, Threshold, at_least, check_bits, check_unique, number, refuse_if

ADDRESS = re.compile(r"\d+|[A-Za-z][A-Za-z0-9+.-]*:.*|.* ! .*", re.DOTALL)
"""A source that is not a path: a camera's number, scheme:something, a pipeline."""
TriggerKind = Literal["continuous", "every", "http", "mqtt", "gpio"]


@dataclass(frozen=True)
class RegionOptions(Table):
    """`[[camera.region]]`: one part of the frame, which is judged alone."""

    name: Name
    """The name in the journal."""
    rectangle: tuple[int, int, int, int] | None = None
    """x, y, width, height in pixels of the frame; None: the whole frame, or the rectangle around the polygon."""
    polygon: tuple[tuple[int, int], ...] = ()
    """Corners x, y in pixels of the frame; only the anomaly map inside it counts."""
    tile: Annotated[int | None, at_least(32)] = None
    """The side of the square tiles in pixels of the frame; None: the region is one picture."""
    overlap: int = 0
    """The least number of pixels of the frame that neighbouring tiles share."""
    threshold: Threshold = None
    """Replaces the camera's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rectangle is not None:
            one_of = "a region has a rectangle or a polygon; expected only one of them"
            refuse_if(self.polygon, "polygon", one_of)
            x, y, width, height = self.rectangle
            expected = f"x and y of 0 or more, width and height of {MIN_SIDE} or more"
            is_outside = min(x, y) < 0 or min(width, height) < MIN_SIDE
            refuse_if(is_outside, "rectangle", f"got {list(self.rectangle)}; expected {expected}")
        if self.polygon:
            is_invalid = len(self.polygon) < 3 or min(min(corner) for corner in self.polygon) < 0
            got = f"got {len(self.polygon)} corners"
            refuse_if(is_invalid, "polygon", f"{got}; expected 3 or more, none of them negative")
        if self.tile is None:
            expected = "expected the key tile, too"
            refuse_if(self.overlap, "overlap", f"there are no tiles to overlap; {expected}")
        else:
            most = self.tile // 2
            refuse_if(
                not 0 <= self.overlap <= most, "overlap", f"got {self.overlap}; expected 0 to {most}, half a tile"
            )


WHOLE = RegionOptions("frame")
"""The region of a camera without regions."""


@dataclass(frozen=True)
class CameraOptions(Table):
    """`[[camera]]`: where frames come from, which of them are judged, and how."""

    name: Name
    """The name in the journal, in file names and in the address of its trigger."""
    source: str = field(repr=False)
    """Camera, stream, pipeline, file, folder or pattern; it may hold a password, so it is never shown."""
    watch: bool = False
    """True: the source is a folder, and each picture that another program writes into it is a frame."""
    trigger: TriggerKind = "continuous"
    """What asks for a verdict: each frame, a clock, a POST request, a message, or a rising edge."""
    every_ms: Annotated[int | None, at_least(1)] = None
    """The interval of the clock."""
    topic: str = ""
    """The topic of the messages that trigger, at the broker of `[mqtt]`."""
    gpio: str = ""
    """CHIP:LINE whose rising edge triggers, say /dev/gpiochip0:17."""
    delay_ms: Annotated[int, at_least(0)] = 0
    """The time from the trigger until a frame is taken for it: the way from the light barrier to the picture."""
    timeout_ms: Annotated[int, at_least(1)] = 1000
    """The time after that until a trigger without a frame is a fault."""
    deadline_ms: Annotated[int | None, at_least(2)] = None
    """An answer later than so long after its trigger, or its frame where nothing triggers, is a fault; None: any."""
    part_length: int = PART_LENGTH
    """The most characters of a part id: a longer one is refused, never cut."""
    same_size: bool = True
    """True: a frame whose size differs from that of the camera's first frame is a fault."""
    frozen_after_s: Annotated[float, number(0)] = 5.0
    """A camera that gives the same frame for so long is frozen; 0: never."""
    silent_after_s: Annotated[float, number(0.1)] = 5.0
    """A camera that gives no frame for so long is lost."""
    width: Annotated[int | None, at_least(1)] = None
    """The width of a V4L2 camera's frames, with `height` and `fps`; None: as the camera is set."""
    height: Annotated[int | None, at_least(1)] = None
    fps: Annotated[float | None, number(0.001)] = None
    fourcc: str = ""
    """The pixel format of a V4L2 camera: with `MJPG` many USB cameras reach their full rate."""
    features: str = ""
    """GenICam features of a GigE or USB3 Vision camera."""
    bits: Annotated[int | None, check_bits] = None
    """Bits that the values of 16-bit pictures use, 9 to 16; None: as the model's training pictures."""
    max_megapixels: Annotated[float, number(0.001)] = MAX_MEGAPIXELS
    """A larger picture, in millions of pixels, is a fault; it is not decoded."""
    threshold: Threshold = None
    """Replaces the line's."""
    debounce: tuple[int, int] | None = None
    """N, M: a reject needs N of the last M frames above the threshold."""
    region: tuple[RegionOptions, ...] = ()
    """Parts of the frame; none: the whole frame is one part."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_if(not self.source, "source", "is empty; expected a camera, a stream, a file, a folder or a pattern")
        expected = "expected four letters, such as MJPG"
        refuse_if(self.fourcc and len(self.fourcc) != 4, "fourcc", f"got {self.fourcc!r}; {expected}")
        self._check_trigger()
        check_unique("region", [region.name for region in self.region])

    def _check_trigger(self) -> None:
        if self.trigger == "every":
            refuse_if(self.every_ms is None, "trigger", "a clock without a time; expected the key every_ms, too")
        else:
            expected = 'expected trigger = "every", too'
            refuse_if(self.every_ms is not None, "every_ms", f'the trigger is "{self.trigger}"; {expected}')
        for kind, key, value in (("mqtt", "topic", self.topic), ("gpio", "gpio", self.gpio)):
            belong = f'trigger = "{kind}" and the key {key} belong together; expected both or neither'
            refuse_if((self.trigger == kind) != bool(value), key, belong)
        refuse_if(set(self.topic) & set("+#"), "topic", f"got {self.topic!r}; expected one topic without + and #")
        is_outside = not 1 <= self.part_length <= PART_LENGTH
        refuse_if(is_outside, "part_length", f"got {self.part_length}; expected 1 to {PART_LENGTH}")
        is_invalid = self.gpio and not re.fullmatch(r".+:\d+", self.gpio)
        refuse_if(is_invalid, "gpio", f"got {self.gpio!r}; expected CHIP:LINE, say /dev/gpiochip0:17")
        if self.debounce is not None:
            wanted, window = self.debounce
            got = f"got {list(self.debounce)}"
            refuse_if(not 1 <= wanted <= window, "debounce", f"{got}; expected N, M with 1 <= N <= M")
            video_only = "each trigger is a part of its own; expected it for video only"
            refuse_if(self.trigger in ("http", "mqtt", "gpio"), "debounce", video_only)

    @property
    def has_address(self) -> bool:
        """Return whether the source is a camera, a stream or a pipeline, and not a path."""
        return ADDRESS.fullmatch(self.source) is not None

    @property
    def regions(self) -> tuple[RegionOptions, ...]:
        """Return the parts of a frame, at least one."""
        return self.region or (WHOLE,)
