"""A line's TOML file: one frozen dataclass for each table, each key with its unit and its default.

docs/inspection.md explains the same keys to users; a test compares the two.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from stfpm_runtime.errors import OptionError
from stfpm_runtime.options import DEVICES, THRESHOLD_BOUNDS
from stfpm_runtime.shifts import DEFAULT_SHIFTS, Shifts

from .camera import CameraOptions
from .checks import Table, Threshold, at_least, check_sha256, check_unique, number, refuse_if
from .outputs import OutputTables
from .recipe import RecipeOptions, check_recipes
from .server import RecipeServerOptions, ServerOptions
from .storage import JournalOptions, PictureOptions, ReviewOptions
from .toml_file import MistakeError, find_mistakes, read_toml


@dataclass(frozen=True)
class MovedOptions:
    """`[http]`, which version 0.2.0 made a part of `[dashboard]`."""

    listen: str = ""
    token: str = ""

    def __post_init__(self) -> None:
        raise MistakeError("", "the table [http] is a part of [dashboard] now; move its listen and token there")


@dataclass(frozen=True)
class DriftOptions(Table):
    """`[drift]`: when the scores of passed parts raise an alarm."""

    window: Annotated[int, at_least(20)] = 200
    """The number of passed parts that are compared with the held-out ones."""
    alarm: float = 1e-4
    """An alarm is raised at a lower p-value; 0: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_if(not 0 <= self.alarm < 0.1, "alarm", f"got {self.alarm}; expected 0 to 0.1, say 0.0001")


@dataclass(frozen=True, kw_only=True)
class LineOptions(OutputTables):
    """The whole file: one model or several recipes, the cameras, and where verdicts go."""

    journal: JournalOptions
    camera: tuple[CameraOptions, ...]
    model: Path | None = None
    """The model.onnx; None where there are recipes."""
    recipe: tuple[RecipeOptions, ...] = ()
    """The products that the line judges by turns."""
    start_recipe: int | None = None
    """The recipe that is active at the start; None: no part is judged before one is asked for."""
    recipe_memory_mb: Annotated[float, number(1)] = 1000.0
    """The memory of models that are loaded before they are asked for."""
    recipe_server: RecipeServerOptions | None = None
    device: str = "auto"
    """What executes the model, see `open_engine`."""
    threads: Annotated[int | None, at_least(1)] = None
    """The engine's threads; None: its choice."""
    batch: Annotated[int, at_least(1)] = 16
    """The most regions and tiles in one run of the engine."""
    threshold: Threshold = None
    """Replaces the model's own."""
    threshold_bounds: tuple[float, float] = THRESHOLD_BOUNDS
    product: str = ""
    """The name that the model's spec must have; empty: that of the journal's last model, if there is one."""
    sha256: str = ""
    """The SHA-256 that the model file must have, in hexadecimal; empty: any."""
    allow_missing_golden: bool = False
    """Whether a model without its golden file is accepted."""
    known_defects: Path | None = None
    """A folder of pictures that a model which replaces another must reject, as far as the other does.

    Folders named `good` in it are left out: `test` of a data set in MVTec AD's layout serves.
    """
    pictures: PictureOptions | None = None
    http: MovedOptions | None = None
    shadow: Path | None = None
    """A second model that judges the same frames; its verdicts are only compared with the line's."""
    review: ReviewOptions = field(default_factory=ReviewOptions)
    shifts: Mapping[str, str] = field(default_factory=lambda: DEFAULT_SHIFTS)
    """The names of the shifts with their begins in local time."""
    drift: DriftOptions = field(default_factory=DriftOptions)
    dashboard: ServerOptions | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_if(self.device not in DEVICES, "device", f"got {self.device!r}; expected one of {', '.join(DEVICES)}")
        lowest, highest = self.threshold_bounds
        expected = f"got {[lowest, highest]}; expected a factor from 0 to 1 and one of 1 or more"
        refuse_if(not 0 <= lowest <= 1 <= highest < math.inf, "threshold_bounds", expected)
        check_sha256("sha256", self.sha256)
        expected = "a share of passed parts is kept; expected a table [pictures] too, for the folder"
        refuse_if(self.review.sample > 0 and self.pictures is None, "review", expected)
        refuse_if(not self.camera, "camera", "there is none; expected one [[camera]] or more")
        check_unique("camera", [camera.name for camera in self.camera])
        self._check_models()
        try:
            Shifts(self.shifts)
        except OptionError as error:
            raise MistakeError("shifts", str(error)) from None
        triggers = {camera.trigger for camera in self.camera}
        without_mqtt = "mqtt" in triggers and self.mqtt is None
        refuse_if(without_mqtt, "camera", 'a trigger is "mqtt"; expected a table [mqtt] too')
        without_server = "http" in triggers and self.dashboard is None
        expected = 'a trigger is "http"; expected a table [dashboard] too, which may be empty'
        refuse_if(without_server, "camera", expected)

    def _check_models(self) -> None:
        """Raise MistakeError unless there is a model, or recipes and nothing that is for a single model."""
        missing = "the key model is missing; expected a path in quotes, or tables [[recipe]]"
        refuse_if(self.model is None and not self.recipe, "", missing)
        if self.recipe:
            for key in ("model", "threshold", "product", "sha256", "known_defects", "shadow"):
                remedy = "is for a line with one model; remove it, or move it to [[recipe]] where that has such a key"
                refuse_if(getattr(self, key), key, remedy)
            without = "no model can be approved on a line with recipes; expected no shadow_parts"
            refuse_if(self.review.shadow_parts, "review", without)
            check_recipes(self.recipe, self.camera, self.start_recipe)
            return
        asks = {
            "start_recipe": self.start_recipe is not None,
            "recipe_server": self.recipe_server is not None,
            "mqtt": self.mqtt is not None and self.mqtt.recipes,
            "modbus": any(plc.recipe_address is not None for plc in self.modbus),
        }
        for key, is_asked in asks.items():
            refuse_if(is_asked, key, "asks for recipes, and there are none; expected tables [[recipe]] too")

    @property
    def models(self) -> tuple[Path, ...]:
        """Return the files of all models that may judge, at least one."""
        return (self.model,) if self.model else tuple(recipe.model for recipe in self.recipe)

    def recipe_of(self, number: int | None) -> RecipeOptions | None:
        """Return the recipe of that number; None where there is none."""
        return next((recipe for recipe in self.recipe if recipe.id == number), None)

    def with_recipe(self, recipe: RecipeOptions) -> LineOptions:
        """Return this line as one that has the recipe's model alone, without its Modbus outputs."""
        return dataclasses.replace(
            self,
            model=recipe.model,
            threshold=recipe.threshold,
            product=recipe.product,
            sha256=recipe.sha256,
            camera=recipe.cameras(self.camera),
            mqtt=self.mqtt and dataclasses.replace(self.mqtt, recipes=False),
            modbus=(),
            recipe=(),
            start_recipe=None,
            recipe_server=None,
        )


def read_config(path: Path) -> LineOptions:
    """Return the file's options, with paths relative to its folder. Raises ConfigError, with the mistake's line."""
    line = read_toml(path, LineOptions)
    files = {camera.name: str(path.parent / camera.source) for camera in line.camera if not camera.has_address}
    cameras = [dataclasses.replace(camera, source=files.get(camera.name, camera.source)) for camera in line.camera]
    return dataclasses.replace(line, camera=tuple(cameras))


def mistakes_in(path: Path) -> list[str]:
    """Return all mistakes of a file. Raises ConfigError for one that cannot be read as TOML."""
    return find_mistakes(path, LineOptions)


def line_of(model: Path, sources: Sequence[str], journal: Path) -> LineOptions:
    """Return a line that judges every frame of each source whole. Raises OptionError."""
    names = ["camera"] if len(sources) == 1 else [f"camera-{number}" for number in range(1, len(sources) + 1)]
    try:
        cameras = tuple(CameraOptions(name, source) for name, source in zip(names, sources, strict=True))
        return LineOptions(model=model, journal=JournalOptions(journal), camera=cameras)
    except MistakeError as mistake:
        raise OptionError(f"{mistake.key}: {mistake}") from None
