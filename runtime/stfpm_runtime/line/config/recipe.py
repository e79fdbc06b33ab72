"""The table `[[recipe]]` of a line's TOML file: one of several products that the line judges by turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .camera import CameraOptions, RegionOptions
from .checks import Name, Table, Threshold, check_sha256, check_unique, refuse_if

LARGEST_ID = 65535
"""The largest number that a Modbus register holds."""


@dataclass(frozen=True)
class RecipeCameraOptions(Table):
    """`[[recipe.camera]]`: what a recipe changes about one of the line's cameras."""

    name: Name
    """The name of a `[[camera]]`."""
    threshold: Threshold = None
    """Replaces the recipe's."""
    region: tuple[RegionOptions, ...] = ()
    """Replace all regions of the camera; none: the camera's own regions are judged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unique("region", [region.name for region in self.region])


@dataclass(frozen=True)
class RecipeOptions(Table):
    """`[[recipe]]`: one product, by the number with which a PLC asks for it."""

    id: int
    """1 to 65535; 0 stands for no recipe."""
    name: Name
    model: Path
    """The model.onnx of the product."""
    product: str = ""
    """The name that the model's spec must have; empty: any."""
    sha256: str = ""
    """The SHA-256 that the model file must have, in hexadecimal; empty: any."""
    threshold: Threshold = None
    """Replaces the model's own."""
    camera: tuple[RecipeCameraOptions, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_if(not 1 <= self.id <= LARGEST_ID, "id", f"got {self.id}; expected 1 to {LARGEST_ID}")
        check_sha256("sha256", self.sha256)
        check_unique("camera", [camera.name for camera in self.camera])

    @property
    def label(self) -> str:
        """Return number and name, as events and messages have them."""
        return f"{self.id} ({self.name})"

    def cameras(self, cameras: Sequence[CameraOptions]) -> tuple[CameraOptions, ...]:
        """Return the line's cameras with the thresholds and regions of this recipe."""
        own = {camera.name: camera for camera in self.camera}
        return tuple(
            dataclasses.replace(
                camera, threshold=own[camera.name].threshold, region=own[camera.name].region or camera.region
            )
            if camera.name in own
            else camera
            for camera in cameras
        )


def check_recipes(recipes: Sequence[RecipeOptions], cameras: Sequence[CameraOptions], start: int | None) -> None:
    """Raise MistakeError where recipes do not fit one another or the line's cameras, or `start` names none of them."""
    check_unique("recipe", [str(recipe.id) for recipe in recipes])
    check_unique("recipe", [recipe.name for recipe in recipes])
    names = [camera.name for camera in cameras]
    for recipe in recipes:
        unknown = [camera.name for camera in recipe.camera if camera.name not in names]
        expected = f"expected one of {', '.join(names)}"
        refuse_if(unknown, "recipe", f"{recipe.name}: got the camera {''.join(unknown[:1])!r}; {expected}")
    for camera in cameras:
        has_own = camera.threshold is not None or any(region.threshold is not None for region in camera.region)
        remedy = "with recipes each threshold belongs to one of them; move it to [[recipe]] or [[recipe.camera]]"
        refuse_if(has_own, "camera", f"{camera.name}: {remedy}")
    known = [recipe.id for recipe in recipes]
    expected = f"expected one of {', '.join(map(str, known))}"
    refuse_if(start is not None and start not in known, "start_recipe", f"got {start}; {expected}")
