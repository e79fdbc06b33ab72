"""Writes the regions of a camera into a line's TOML file; its comments and all else stay as they are."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import AoT, Table

from stfpm_runtime.errors import ConfigError, OptionError
from stfpm_runtime.files import atomic_path
from stfpm_runtime.line.config.camera import RegionOptions
from stfpm_runtime.line.config.line import LineOptions, read_config

WRITING = threading.Lock()
"""Held from the reading of a file until it is replaced: of two changes at once, the later one sees the earlier."""
SHOWN = ("name", "rectangle", "polygon")
"""The keys of a region that people change in the browser; all others are carried over."""


def version_of(regions: Sequence[RegionOptions]) -> str:
    """Return a short text that differs for other regions, or for other keys of the same."""
    return hashlib.sha256(repr(tuple(regions)).encode()).hexdigest()[:16]


def write_regions(
    config: Path, camera: str, shapes: Sequence[RegionOptions], originals: Sequence[str | None], version: str
) -> list[str]:
    """Replace a camera's regions, and return in words what has changed. May be called from any thread.

    Each region has the name and shape of one of the `shapes`, and all other keys of the region in the file that
    `originals` names for it; None: it is a new one. `version` is that of the regions that a person has changed.
    The new text is read as a start of the line reads it, before it replaces the file. Raises OptionError where the file
    has other regions than those, or not the originals, ConfigError where it cannot be read, or not be written without
    the loss of a key, and then the file is as it was, and OutputError where it cannot be written.
    """
    with WRITING:
        options = _read(config, config)
        found = next((found for found in options.camera if found.name == camera), None)
        if found is None:
            raise ConfigError(f"{config}: has no camera {camera!r} any more; start the line again to use it as it is")
        if version != version_of(found.region):
            raise OptionError("the file has other regions than those that were changed; load them, and change these")
        before = {region.name: region for region in found.region}
        regions = _carry_over(before, shapes, originals)
        new = tuple(dataclasses.replace(one, region=regions) if one is found else one for one in options.camera)
        document = tomlkit.parse(config.read_text(encoding="utf-8"))
        _replace(next(one for one in document["camera"] if one["name"] == camera), regions, originals)
        with atomic_path(config) as unfinished:
            unfinished.write_text(tomlkit.dumps(document), encoding="utf-8")
            if _read(unfinished, config) != dataclasses.replace(options, camera=new):
                raise ConfigError(f"{config}: cannot be changed without the loss of a key; change it by hand")
    old = [before[original] if original else None for original in originals]
    changes = [(_describe(one), _describe(region)) for one, region in zip(old, regions, strict=True) if one != region]
    changes += [(_describe(region), "removed") for name, region in before.items() if name not in originals]
    return [f"{one} -> {other}" for one, other in changes]


def _read(path: Path, config: Path) -> LineOptions:
    """Return the options in a file, which stands for `config`. Raises ConfigError."""
    try:
        return read_config(path)
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(path), str(config))) from None


def _carry_over(
    before: Mapping[str, RegionOptions], shapes: Sequence[RegionOptions], originals: Sequence[str | None]
) -> tuple[RegionOptions, ...]:
    """Return regions with these names and shapes and the other keys of their originals. Raises OptionError."""
    for original in filter(None, originals):
        if original not in before:
            raise OptionError(f"the file has no region {original!r}; expected one of {', '.join(before) or 'none'}")
        if originals.count(original) > 1:
            raise OptionError(f"two regions are to have been {original!r}; expected one")
    return tuple(
        dataclasses.replace(before[original], **{key: getattr(shape, key) for key in SHOWN}) if original else shape
        for shape, original in zip(shapes, originals, strict=True)
    )


def _describe(region: RegionOptions | None) -> str:
    if region is None:
        return "new"
    if region.rectangle:
        return f"{region.name} {list(region.rectangle)}"
    return f"{region.name} {[list(corner) for corner in region.polygon] or 'whole frame'}"


def _replace(camera: Any, regions: Sequence[RegionOptions], originals: Sequence[str | None]) -> None:  # noqa: ANN401 (a table of tomlkit)
    """Write the regions into the table of a camera. Tables that stay in their order are not moved."""
    before = {one["name"]: one for one in camera.get("region", ())}
    if list(before) != list(originals) or not isinstance(camera.get("region"), AoT):
        camera.pop("region", None)
        tables = tomlkit.aot()
        for original in originals:
            tables.append(_table(before.get(original)))
        if originals:
            camera["region"] = tables
            if originals[-1] is None:
                tables[-1].add(tomlkit.nl())
    for region, target in zip(regions, camera.get("region", ()), strict=True):
        _write_shape(region, target)


def _table(before: Any) -> Table:  # noqa: ANN401 (a table of tomlkit, or one in a single line)
    if isinstance(before, Table):
        return before
    table = tomlkit.table()
    table.update(before or {})
    return table


def _write_shape(region: RegionOptions, target: Any) -> None:  # noqa: ANN401 (a table of tomlkit)
    """Write name and shape; a table that has them already is not touched."""
    values = {
        "name": region.name,
        "rectangle": None if region.rectangle is None else list(region.rectangle),
        "polygon": [list(corner) for corner in region.polygon] or None,
    }
    for key, value in values.items():
        if value is None:
            target.pop(key, None)
        elif key not in target or target[key] != value:
            target[key] = value
