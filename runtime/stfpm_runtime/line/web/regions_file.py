"""Writes the regions of a camera into a line's TOML file; its comments and all else stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import AoT, Table

from stfpm_runtime.errors import ConfigError
from stfpm_runtime.files import atomic_path
from stfpm_runtime.line.config.camera import RegionOptions
from stfpm_runtime.line.config.line import LineOptions, read_config


def write_regions(config: Path, camera: str, regions: Sequence[RegionOptions]) -> LineOptions:
    """Replace a camera's regions, and return the file's options. A region whose name stays keeps its other keys.

    The new text is read as a start of the line reads it, before it replaces the file. Raises ConfigError, and then the
    file is as it was, and OutputError where it cannot be written.
    """
    try:
        document = tomlkit.parse(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{config}: cannot be read ({error}); mend the file by hand") from None
    cameras = document.get("camera")
    table = next((one for one in cameras or () if one.get("name") == camera), None)
    if table is None:
        raise ConfigError(f"{config}: has no camera {camera!r} any more; start the line again to use the file as it is")
    before = {one["name"]: one for one in table.get("region", ())}
    if list(before) != [region.name for region in regions] or not isinstance(table.get("region"), AoT):
        table.pop("region", None)
        if regions:
            table["region"] = _tables([before.get(region.name) for region in regions], len(regions))
    for region, target in zip(regions, table.get("region", ()), strict=True):
        _write_shape(region, target)
    with atomic_path(config) as unfinished:
        unfinished.write_text(tomlkit.dumps(document), encoding="utf-8")
        try:
            return read_config(unfinished)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(unfinished), str(config))) from None


def _tables(before: Sequence[Table | None], count: int) -> AoT:
    tables = tomlkit.aot()
    for index in range(count):
        tables.append(before[index] or tomlkit.table())
    if not before[-1]:
        tables[-1].add(tomlkit.nl())
    return tables


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
