"""What people set up on a running line: regions, the pictures of good parts, a training, a restart."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from stfpm_runtime.errors import MissingExtraError, OptionError, StfpmError
from stfpm_runtime.line.config.camera import RegionOptions
from stfpm_runtime.line.config.line import read_config
from stfpm_runtime.line.config.toml_file import MistakeError
from stfpm_runtime.line.loop import Line
from stfpm_runtime.line.models.training import TrainingTask
from stfpm_runtime.line.observers.collector import CollectionTask, warnings_of

from .jpeg_cache import JpegCache

try:
    from .regions_file import version_of, write_regions
except ImportError:
    raise MissingExtraError("tomlkit", "dashboard") from None


SHOWN = 48
"""Collected pictures that the page shows; there may be thousands, and it asks each second."""


class SetupView:
    """Reads and changes a line for the page Setup. Called by the server's threads.

    Raises HTTPException for a request that cannot be carried out on this line.
    """

    def __init__(self, line: Line, config: Path | None) -> None:
        assert line.live_status is not None, "a line with a web server has one"
        self._line = line
        self._config = config
        self._frames = line.live_status.frames
        self._jpeg_cache = JpegCache()
        self._judged = {worker.camera.name: worker.camera.region for worker in line.cameras}

    def describe(self) -> dict[str, Any]:
        """Return everything that the page shows, as `setup_routes.Setup` describes it."""
        collector, training = self._line.collector, self._line.training
        wanted, saved = collector.wanted, self._saved_regions()
        return {
            "has_model": self._line.active_model.exists or self._line.recipes.has_recipes,
            "model": self._line.active_model.model.path.name,
            "can_save": self._config is not None,
            "needs_restart": saved != self._judged,
            "cameras": [
                {"name": name, "size": self._size(name), "regions": [_fields(region) for region in saved[name]],
                 "version": version_of(saved[name]), "judged": self._regions_in_use(name)}
                for worker in self._line.cameras
                for name in [worker.camera.name]
            ],
            "collecting": wanted and f"{wanted.camera}/{wanted.region}",
            "left_out": collector.left_out,
            "failure": collector.failure,
            "training": {
                "state": training.state, "epoch": training.epoch, "epochs": training.epochs,
                "lines": list(training.lines), "missing": training.missing,
            },
        }  # fmt: skip

    def frame(self, camera: str, width: int) -> tuple[bytes, tuple[int, int]]:
        """Return the newest whole frame of a camera as JPEG, and its own width and height in pixels."""
        self._check_camera(camera)
        image = self._frames.get(camera)
        if image is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "there is no frame yet; ask again when there is a verdict")
        return self._jpeg_cache.encode(image, width), (image.shape[1], image.shape[0])

    def set_regions(
        self, camera: str, shapes: list[dict[str, Any]], version: str, who: str, reason: str
    ) -> dict[str, Any]:
        """Write a camera's regions into the line's file; the journal records who did it, and why."""
        self._check_camera(camera)
        config = self._file()
        try:
            regions, originals = [_options(shape) for shape in shapes], [shape["original"] for shape in shapes]
            self._check_inside(camera, regions)
            self._check_by_hand(camera, regions, originals)
            changes = write_regions(config, camera, regions, originals, version)
        except (MistakeError, StfpmError) as error:
            raise HTTPException(HTTPStatus.CONFLICT, f"the regions stay: {error}") from None
        change = f"{'; '.join(changes) or 'as before'}; used from the next start on"
        self.log_change("regions", change, who, camera, reason)
        return self.describe()

    def log_change(self, kind: str, change: str, who: str, camera: str = "", reason: str = "") -> None:
        """Write into the journal what a person has changed: the old and the new value in words, and why."""
        self._line.recorder.log_event(kind, f"{change}, by {who}{reason and f': {reason}'}", camera)

    def restart(self, who: str) -> dict[str, Any]:
        """Make the line stop and start again with its file, once the file was read without a mistake."""
        try:
            read_config(self._file())
        except StfpmError as error:
            raise HTTPException(HTTPStatus.CONFLICT, f"the line goes on as it is: {error}") from None
        self.log_change("restart", "running -> starts again", who)
        self._line.restart.set()
        return self.describe()

    def collect(self, camera: str, region: str, count: int, every_ms: int) -> dict[str, Any]:
        """Collect the next pictures of a place; with a count of 0 stop that."""
        self._check_place(camera, region)
        if count:
            self._check_recipe()
            self._line.collector.begin(CollectionTask(camera, region, count, every_ms / 1000))
        else:
            self._line.collector.end()
        return self.describe()

    def pictures(self, camera: str, region: str, last: int = SHOWN) -> dict[str, Any]:
        """Return the last pictures that were collected of a place, the newest first, each with a warning or none."""
        self._check_place(camera, region)
        found = self._line.collector.pictures(camera, region)
        warnings = warnings_of(found)
        rows = [{"name": one.name, "warning": text} for one, text in zip(found[-last:], warnings[-last:], strict=True)]
        return {
            "folder": str(self._line.collector.folder_of(camera, region).parents[1]),
            "count": len(found), "doubtful": len(found) - warnings.count(""), "pictures": rows[::-1],
        }  # fmt: skip

    def picture(self, camera: str, region: str, name: str, width: int) -> bytes:
        """Return a collected picture as JPEG."""
        return self._jpeg_cache.shrink(self._path(camera, region, name).read_bytes(), width)

    def remove(self, camera: str, region: str, name: str) -> dict[str, Any]:
        """Remove a collected picture."""
        self._path(camera, region, name).unlink(missing_ok=True)
        return self.pictures(camera, region)

    def archive(self, camera: str, region: str) -> Iterator[bytes]:
        """Return the pictures of a place as parts of a ZIP file with the folders that stfpm-train expects."""
        self._check_place(camera, region)
        paths, root = self._line.collector.paths(camera, region), self._line.collector.folder
        return _zip_parts({str(path.relative_to(root)): path for path in paths})

    def train(
        self, camera: str, region: str, file: str, teacher: str, epochs: int | None, who: str, accept_data: bool
    ) -> dict[str, Any]:
        """Train a model from a place's pictures, and export it into the folder of the model in use."""
        self._check_place(camera, region)
        self._check_recipe()
        active = self._line.active_model.model
        try:
            path = self._line.model_swap.new_path(file)
            if teacher not in ("imagenet", "procedural"):
                teacher = str(self._teacher(active.path.parent, teacher))
            data = self._line.collector.folder_of(camera, region).parents[1]
            size = active.spec.height, active.spec.width
            self._line.training.begin(
                TrainingTask(data, path, active.spec.name, size, teacher, epochs, who, accept_data)
            )
        except OptionError as error:
            raise HTTPException(HTTPStatus.CONFLICT, f"no training was begun: {error}") from None
        return self.describe()

    def cancel_training(self) -> dict[str, Any]:
        """End the training that runs."""
        try:
            self._line.training.cancel()
        except OptionError as error:
            raise HTTPException(HTTPStatus.CONFLICT, str(error)) from None
        return self.describe()

    @staticmethod
    def _teacher(folder: Path, name: str) -> Path:
        found = {path.name: path for pattern in ("[!.]*.safetensors", "[!.]*.pth") for path in folder.glob(pattern)}
        if name not in found:
            raise OptionError(f"teacher: got {name[:60]!r}; expected imagenet, procedural or a file next to the model")
        return found[name]

    def _size(self, camera: str) -> tuple[int, int] | None:
        image = self._frames.get(camera)
        return None if image is None else (image.shape[1], image.shape[0])

    def _file(self) -> Path:
        if self._config is None:
            raise HTTPException(HTTPStatus.CONFLICT, "the line was started without a configuration file (--config)")
        return self._config

    def _saved_regions(self) -> dict[str, tuple[RegionOptions, ...]]:
        """Return the regions in the file by camera, which judge from the next start on.

        Those that judge now, as far as there is no file or it cannot be read.
        """
        saved = dict(self._judged)
        if self._config is not None:
            with contextlib.suppress(StfpmError):
                found = {camera.name: camera.region for camera in read_config(self._config).camera}
                saved |= {name: found[name] for name in saved if name in found}
        return saved

    def _check_by_hand(self, camera: str, regions: list[RegionOptions], originals: list[str | None]) -> None:
        """Raise OptionError where a threshold that was set by hand would end, or hold for another region.

        The journal keeps it by the name of its place, also for a recipe that is not active.
        """
        held = {change.region for change in self._line.recorder.thresholds_in_force if change.camera == camera}
        moved = [(region.name, original) for region, original in zip(regions, originals, strict=True)]
        for name in (name for pair in moved if pair[0] != pair[1] for name in pair if name is not None):
            if name in held:
                raise OptionError(
                    f"region {name}: a threshold was set by hand for this name, and would end or hold for another "
                    "region; set it as configured first, or keep the name"
                )

    def _check_inside(self, camera: str, regions: list[RegionOptions]) -> None:
        """Raise OptionError for a region that leaves the frame, as far as there is one."""
        size = self._size(camera)
        for region in regions if size else ():
            assert size is not None, "looked at above"
            corners = region.polygon
            if region.rectangle:
                x, y, width, height = region.rectangle
                corners = ((x + width, y + height),)
            if any(x > size[0] or y > size[1] for x, y in corners):
                raise OptionError(f"region {region.name}: leaves the frame of {size[0]}x{size[1]} pixels")

    def _check_camera(self, camera: str) -> None:
        if camera not in self._judged:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"no such camera; expected one of {', '.join(self._judged)}")

    def _check_place(self, camera: str, region: str) -> None:
        self._check_camera(camera)
        names = self._regions_in_use(camera)
        if region not in names:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"no such region is judged; expected one of {', '.join(names)}")

    def _regions_in_use(self, camera: str) -> list[str]:
        """Return the names of a camera's regions that are judged now: a recipe may have regions of its own."""
        return [region.name for region in self._line.active_model.cameras[camera].regions]

    def _check_recipe(self) -> None:
        if self._line.recipes.has_recipes and self._line.active_model.recipe is None:
            raise HTTPException(HTTPStatus.CONFLICT, "no recipe is active; ask for the recipe of the product first")

    def _path(self, camera: str, region: str, name: str) -> Path:
        self._check_place(camera, region)
        known = {path.name: path for path in self._line.collector.paths(camera, region)}
        if name not in known:
            raise HTTPException(HTTPStatus.NOT_FOUND, "no such picture was collected")
        return known[name]


def _zip_parts(files: Mapping[str, Path]) -> Iterator[bytes]:
    """Yield a ZIP file of these files by their names in it, one picture in memory at a time; it is not compressed."""
    written = _Parts()
    with zipfile.ZipFile(written, "w") as archive:
        for name, path in files.items():
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                archive.write(path, name)
            yield written.take()
    yield written.take()


class _Parts:
    """Takes what is written until it is fetched; there is no way back in it."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes, /) -> int:
        self._data += data
        return len(data)

    def flush(self) -> None:
        """Do nothing: all is fetched from memory."""

    def close(self) -> None:
        """Do nothing."""

    def take(self) -> bytes:
        """Return what was written since the last call."""
        data, self._data = bytes(self._data), bytearray()
        return data


def _fields(region: RegionOptions) -> dict[str, Any]:
    return {"name": region.name, "rectangle": region.rectangle, "polygon": list(region.polygon)}


def _options(shape: dict[str, Any]) -> RegionOptions:
    """Return a region of these fields. Raises MistakeError."""
    rectangle, polygon = shape["rectangle"], tuple((x, y) for x, y in shape["polygon"])
    return RegionOptions(shape["name"], None if rectangle is None else tuple(rectangle), polygon)
