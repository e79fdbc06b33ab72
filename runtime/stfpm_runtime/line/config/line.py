"""What a line's TOML file may say: one frozen dataclass for each table, each key with its unit and its default.

docs/inspection.md explains the same keys to users; a test holds the two together.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stfpm_runtime.batch.outputs import SaveOnly
from stfpm_runtime.engines import DEVICES
from stfpm_runtime.errors import OptionError
from stfpm_runtime.imaging.images import MAX_MEGAPIXELS
from stfpm_runtime.imaging.preprocessing import MIN_SIDE
from stfpm_runtime.line.observers.drift import DriftOptions
from stfpm_runtime.model_check import BOUNDS

from .checks import check_least, check_name, check_range, check_threshold, check_unique
from .dashboard import DashboardOptions
from .outputs import ModbusOptions, MqttOptions, OpcUaOptions, OutputTables, WebhookOptions, check_outputs
from .server import ServerOptions
from .toml_file import MistakeError, read_toml

Synchronous = Literal["full", "normal"]
TriggerKind = Literal["continuous", "every", "http", "mqtt", "gpio"]
PART_LENGTH = 200
"""The longest part id, in characters, where the configuration sets no shorter one."""
ADDRESS = re.compile(r"\d+|[A-Za-z][A-Za-z0-9+.-]*:.*|.* ! .*", re.DOTALL)
"""A source that is no path: a camera's number, scheme:something, a pipeline."""


@dataclass(frozen=True)
class RegionOptions:
    """One part of the frame, judged by itself: `[[camera.region]]`."""

    name: str
    """In the journal."""
    rectangle: tuple[int, int, int, int] | None = None
    """x, y, width, height in pixels of the frame; None: the whole frame, or what surrounds the polygon."""
    polygon: tuple[tuple[int, int], ...] = ()
    """Corners x, y in pixels of the frame; the anomaly map counts within it alone."""
    tile: int | None = None
    """Side of the square tiles in pixels of the frame; None: the region is one picture."""
    overlap: int = 0
    """Pixels of the frame that neighbouring tiles share, at least."""
    threshold: float | None = None
    """Instead of the camera's."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_threshold(self.threshold)
        if self.rectangle is not None:
            if self.polygon:
                raise MistakeError("polygon", "a region has a rectangle or a polygon; expected only one of them")
            x, y, width, height = self.rectangle
            if min(x, y) < 0 or min(width, height) < MIN_SIDE:
                expected = f"x and y of 0 or more, width and height of {MIN_SIDE} or more"
                raise MistakeError("rectangle", f"got {list(self.rectangle)}; expected {expected}")
        if self.polygon and (len(self.polygon) < 3 or min(min(corner) for corner in self.polygon) < 0):
            raise MistakeError("polygon", f"got {len(self.polygon)} corners; expected 3 or more, none of them negative")
        check_least("tile", self.tile, 32)
        if self.overlap and self.tile is None:
            raise MistakeError("overlap", "there are no tiles to overlap; expected the key tile beside it")
        if self.tile is not None and not 0 <= self.overlap <= self.tile // 2:
            raise MistakeError("overlap", f"got {self.overlap}; expected 0 to {self.tile // 2}, half a tile")


WHOLE = RegionOptions("frame")
"""What a camera without regions has."""


@dataclass(frozen=True)
class CameraOptions:
    """Where frames come from, which of them are judged, and how: `[[camera]]`."""

    name: str
    """In the journal, in file names and in the address of its trigger."""
    source: str = field(repr=False)
    """Camera, stream, pipeline, file, folder or pattern; it may hold a password, so it is never shown."""
    watch: bool = False
    """Whether the source is a folder that fills."""
    trigger: TriggerKind = "continuous"
    """What asks for a verdict: each frame, a clock, a POST request, a message, or a rising edge."""
    every_ms: int | None = None
    """Of the clock."""
    topic: str = ""
    """Of the messages that trigger, at the broker of `[mqtt]`."""
    gpio: str = ""
    """CHIP:LINE whose rising edge triggers, say /dev/gpiochip0:17."""
    delay_ms: int = 0
    """From the trigger on, until a frame is taken for it: the way from the light barrier to the picture."""
    timeout_ms: int = 1000
    """From then on, until a trigger without a frame is a fault."""
    part_length: int = PART_LENGTH
    """Characters of a part id, at most: a longer one is refused, never cut."""
    same_size: bool = True
    """Of a camera: a frame of another size than its first is a fault."""
    frozen_after_s: float = 5.0
    """Of a camera: so long the same frame, and it is taken for broken; 0: never."""
    silent_after_s: float = 5.0
    """Of a camera: so long no frame, and it is taken for lost."""
    width: int | None = None
    """Of a V4L2 camera's frames, with `height` and `fps`; None: what the camera is set to."""
    height: int | None = None
    fps: float | None = None
    fourcc: str = ""
    """Of a V4L2 camera: `MJPG` gets many USB cameras to their full rate."""
    features: str = ""
    """GenICam features of a GigE or USB3 Vision camera."""
    bits: int | None = None
    """Bits that the values of 16-bit pictures use, 9 to 16; None: as the model's training pictures."""
    max_megapixels: float = MAX_MEGAPIXELS
    """A larger picture, in millions of pixels, is a fault; it is not decoded."""
    threshold: float | None = None
    """Instead of the line's."""
    debounce: tuple[int, int] | None = None
    """N, M: a reject needs N of the last M frames above the threshold."""
    region: tuple[RegionOptions, ...] = ()
    """Parts of the frame; none: the whole frame is one part."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_threshold(self.threshold)
        if not self.source:
            raise MistakeError("source", "is empty; expected a camera, a stream, a file, a folder or a pattern")
        check_least("delay_ms", self.delay_ms, 0)
        check_least("timeout_ms", self.timeout_ms, 1)
        check_range("frozen_after_s", self.frozen_after_s, 0)
        check_range("silent_after_s", self.silent_after_s, 0.1)
        if self.trigger == "every" and self.every_ms is None:
            raise MistakeError("trigger", "a clock without a time; expected the key every_ms beside it")
        if self.trigger != "every" and self.every_ms is not None:
            raise MistakeError("every_ms", f'the trigger is "{self.trigger}"; expected trigger = "every" beside it')
        check_least("every_ms", self.every_ms, 1)
        check_least("width", self.width, 1)
        check_least("height", self.height, 1)
        check_range("fps", self.fps, 0.001)
        check_range("max_megapixels", self.max_megapixels, 0.001)
        if self.bits is not None and not 9 <= self.bits <= 16:
            raise MistakeError("bits", f"got {self.bits}; expected 9 to 16")
        if self.fourcc and len(self.fourcc) != 4:
            raise MistakeError("fourcc", f"got {self.fourcc!r}; expected four letters, such as MJPG")
        for kind, key, value in (("mqtt", "topic", self.topic), ("gpio", "gpio", self.gpio)):
            if (self.trigger == kind) != bool(value):
                raise MistakeError(
                    key, f'trigger = "{kind}" and the key {key} belong together; expected both or neither'
                )
        if set(self.topic) & set("+#"):
            raise MistakeError("topic", f"got {self.topic!r}; expected one topic without + and #")
        if not 1 <= self.part_length <= PART_LENGTH:
            raise MistakeError("part_length", f"got {self.part_length}; expected 1 to {PART_LENGTH}")
        if self.gpio and not re.fullmatch(r".+:\d+", self.gpio):
            raise MistakeError("gpio", f"got {self.gpio!r}; expected CHIP:LINE, say /dev/gpiochip0:17")
        if self.debounce is not None:
            wanted, window = self.debounce
            if not 1 <= wanted <= window:
                raise MistakeError("debounce", f"got {list(self.debounce)}; expected N, M with 1 <= N <= M")
            if self.trigger in ("http", "mqtt", "gpio"):
                raise MistakeError("debounce", "each trigger is a part of its own; expected it for video only")
        check_unique("region", [region.name for region in self.region])

    @property
    def regions(self) -> tuple[RegionOptions, ...]:
        """The parts of a frame, at least one."""
        return self.region or (WHOLE,)


@dataclass(frozen=True)
class JournalOptions:
    """Where verdicts are kept: `[journal]`."""

    path: Path
    """An SQLite file."""
    synchronous: Synchronous = "full"
    """full: a verdict that was told survives a power cut; normal: a killed process, but not always a power cut."""
    keep_days: float | None = None
    """Older verdicts are forgotten; None: kept for ever."""
    max_mb: float | None = None
    """The oldest verdicts are forgotten beyond this size."""
    json_lines: Path | None = None
    """A file with the same verdicts as lines of JSON."""
    json_lines_mb: float = 100.0
    """Beyond this size the file is renamed to FILE.1, whose predecessor goes."""

    def __post_init__(self) -> None:
        check_range("keep_days", self.keep_days, 1e-6)
        check_range("max_mb", self.max_mb, 1)
        check_range("json_lines_mb", self.json_lines_mb, 0.001)
        if self.json_lines == self.path:
            raise MistakeError("json_lines", "is the journal itself; expected another file")


@dataclass(frozen=True)
class PictureOptions:
    """Which pictures are kept: `[pictures]`."""

    folder: Path
    """Of pictures alone: the oldest in it are deleted when room is needed."""
    save: SaveOnly = "reject"
    """Of which verdicts; `reject` is all that was not passed."""
    original: bool = True
    """The part as the camera gave it."""
    overlay: bool = True
    """The anomaly map drawn over it."""
    format: Literal["png", "jpeg"] = "png"
    """Of the original; an overlay is a JPEG."""
    quota_mb: float = 10_000.0
    """All pictures together; the oldest go first."""
    free_mb: float = 1000.0
    """Of the disk, that pictures leave free."""
    queue: int = 16
    """Verdicts whose pictures may wait to be written; those beyond have none."""

    def __post_init__(self) -> None:
        check_range("quota_mb", self.quota_mb, 0.001)
        check_range("free_mb", self.free_mb, 0)
        check_least("queue", self.queue, 1)
        if not (self.original or self.overlay):
            raise MistakeError("overlay", "neither original nor overlay; expected one of them, or no table [pictures]")


@dataclass(frozen=True)
class HttpOptions(ServerOptions):
    """Where triggers are taken by HTTP: `[http]`."""

    listen: str = "127.0.0.1:8765"


@dataclass(frozen=True)
class LineOptions:
    """A line: one model, its cameras, and where verdicts go. The whole file."""

    model: Path
    """The model.onnx."""
    journal: JournalOptions
    camera: tuple[CameraOptions, ...]
    device: str = "auto"
    """What executes the model, see `open_engine`."""
    threads: int | None = None
    """Of the engine; None: its choice."""
    batch: int = 16
    """Regions and tiles in one run of the engine, at most."""
    threshold: float | None = None
    """Instead of the model's own."""
    threshold_bounds: tuple[float, float] = BOUNDS
    """The lowest and the highest threshold that may be set, as multiples of the model's own."""
    product: str = ""
    """The name that the model's spec must have; empty: that of the journal's last model, if there is one."""
    sha256: str = ""
    """The SHA-256 that the model file must have, in hexadecimal; empty: any."""
    allow_missing_golden: bool = False
    """True accepts a model without its golden file."""
    pictures: PictureOptions | None = None
    http: HttpOptions | None = None
    mqtt: MqttOptions | None = None
    webhook: tuple[WebhookOptions, ...] = ()
    modbus: tuple[ModbusOptions, ...] = ()
    opcua: tuple[OpcUaOptions, ...] = ()
    shadow: Path | None = None
    """A second model that sees the same frames, and whose verdicts are never the line's."""
    drift: DriftOptions = field(default_factory=DriftOptions)
    dashboard: DashboardOptions | None = None

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise MistakeError("device", f"got {self.device!r}; expected one of {', '.join(DEVICES)}")
        check_least("threads", self.threads, 1)
        check_least("batch", self.batch, 1)
        check_threshold(self.threshold)
        lowest, highest = self.threshold_bounds
        if not 0 <= lowest <= 1 <= highest < math.inf:
            got = f"got {[lowest, highest]}"
            raise MistakeError("threshold_bounds", f"{got}; expected a factor from 0 to 1 and one of 1 or more")
        if self.sha256 and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise MistakeError("sha256", f"got {self.sha256!r}; expected 64 of 0-9 and a-f, as sha256sum prints them")
        if not self.camera:
            raise MistakeError("camera", "there is none; expected one [[camera]] or more")
        check_unique("camera", [camera.name for camera in self.camera])
        check_outputs(self.sinks)
        if self.mqtt is None and any(camera.trigger == "mqtt" for camera in self.camera):
            raise MistakeError("camera", 'a trigger is "mqtt"; expected a table [mqtt] too')
        posted = any(camera.trigger == "http" for camera in self.camera)
        if posted and self.http is None:
            raise MistakeError("camera", 'a trigger is "http"; expected a table [http] too, which may be empty')
        if self.http is not None and not posted:
            raise MistakeError("http", 'nothing listens to it; expected a camera with trigger = "http"')

    @property
    def sinks(self) -> OutputTables:
        """Whom verdicts are told."""
        return OutputTables(self.mqtt, self.webhook, self.modbus, self.opcua)


def read_config(path: Path) -> LineOptions:
    """The file's options, its paths relative to its own folder. Raises ConfigError, with the mistake's line."""
    return _below(read_toml(path, LineOptions), path.parent)


def line_of(model: Path, sources: Sequence[str], journal: Path) -> LineOptions:
    """A line of which only this is known: every frame of each source is judged whole. Raises OptionError."""
    names = ["camera"] if len(sources) == 1 else [f"camera-{number}" for number in range(1, len(sources) + 1)]
    try:
        cameras = tuple(CameraOptions(name, source) for name, source in zip(names, sources, strict=True))
        return LineOptions(model, JournalOptions(journal), cameras)
    except MistakeError as mistake:
        raise OptionError(f"{mistake.key}: {mistake}") from None


def _below(line: LineOptions, folder: Path) -> LineOptions:
    """The same, with every path from that folder on."""
    journal = dataclasses.replace(
        line.journal,
        path=folder / line.journal.path,
        json_lines=None if line.journal.json_lines is None else folder / line.journal.json_lines,
    )
    pictures = line.pictures and dataclasses.replace(line.pictures, folder=folder / line.pictures.folder)
    mqtt = line.mqtt and _mqtt_below(line.mqtt, folder)
    cameras = tuple(
        camera if ADDRESS.fullmatch(camera.source) else dataclasses.replace(camera, source=str(folder / camera.source))
        for camera in line.camera
    )
    shadow = line.shadow and folder / line.shadow
    return dataclasses.replace(
        line, model=folder / line.model, shadow=shadow, journal=journal, pictures=pictures, camera=cameras, mqtt=mqtt
    )


def _mqtt_below(mqtt: MqttOptions, folder: Path) -> MqttOptions:
    files = {name: getattr(mqtt, name) for name in ("ca", "certificate", "key")}
    return dataclasses.replace(mqtt, **{name: file and folder / file for name, file in files.items()})
