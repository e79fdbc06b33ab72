"""`stfpm-inspect --config line3.toml --check`: everything that a start needs, tried once, and no verdict written.

All mistakes of the file are named at once. Then the model is checked, each camera is opened and gives a frame, which is
judged, and each output connects to its other side. With `--preview` each frame is saved with its regions and maps.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from stfpm_runtime.errors import StfpmError, UnavailableError
from stfpm_runtime.files import atomic_path, check_writable
from stfpm_runtime.imaging.images import find_images
from stfpm_runtime.imaging.overlay import draw_overlay
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.line.cameras.worker import TriggeredFrame
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.config.line import LineOptions, mistakes_in, read_config
from stfpm_runtime.line.config.server import RecipeServerOptions
from stfpm_runtime.line.inspect import JudgedPart
from stfpm_runtime.line.journal.reader import opened
from stfpm_runtime.line.models.active_model import ActiveModel, ChosenModel, first_model, load_recipe, no_model
from stfpm_runtime.line.models.promotion import shadow_model
from stfpm_runtime.line.models.recipes.recipes import Recipes
from stfpm_runtime.line.outputs import make_drivers
from stfpm_runtime.line.service import open_camera, open_signer
from stfpm_runtime.line.triggers.base import TriggerRequest
from stfpm_runtime.line.web import check_server
from stfpm_runtime.score import format_score
from stfpm_runtime.sources.base import Frame

FRAME_S = 10.0
"""The longest wait for a camera's first frame, in seconds."""
LINE_PX = 3
COLOUR = (255, 200, 0)
"""The colour of the outlines of regions in a preview, BGR."""


def check_line(config: Path, preview: Path | None, say: Callable[[str], None]) -> None:
    """Try everything once. `say` gets a line for each thing that works or does not.

    Raises StfpmError at the end where something does not work, with the number of such things.
    """
    if mistakes := mistakes_in(config):
        for mistake in mistakes:
            say(mistake)
        raise StfpmError(f"{config}: {_count(len(mistakes), 'mistake')}, see above; nothing else was tried")
    options = read_config(config)
    failures: list[str] = []

    def fail(text: str) -> None:
        failures.append(text)
        say(f"FAILS  {text}")

    for path in _written(options):
        try:
            check_writable(path)
        except StfpmError as error:
            fail(str(error))
    if options.journal.path.exists():
        try:
            with opened(options.journal.path, writing=True) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except StfpmError as error:
            fail(str(error))
    if options.dashboard:
        try:
            check_server(options.dashboard)
            say(f"works  dashboard on {options.dashboard.listen}")
        except StfpmError as error:
            fail(f"dashboard: {error}")
    try:
        open_signer(options.journal.signing_key)
    except StfpmError as error:
        fail(f"journal.signing_key: {error}")
    if options.known_defects and not options.known_defects.is_dir():
        fail(f"known_defects: {options.known_defects} is no folder, so that no model could replace this one; create it")
    for recipe in options.recipe:
        say(f"note   recipe {recipe.label}")
        _try_model(options.with_recipe(recipe), load_recipe, preview and preview / recipe.name, say, fail)
    if not options.recipe and not _try_model(options, first_model, preview, say, fail):
        raise StfpmError(f"{config}: the model cannot be used, so that no camera was tried")
    if options.recipe_server:
        _try_recipe_server(options, options.recipe_server, say, fail)
    for driver in make_drivers(options, lambda kind, detail: say(f"note   {kind} {detail}")):
        try:
            driver.open()
            say(f"works  output {driver.name}")
        except UnavailableError as error:
            fail(f"output {driver.name}: {error}")
        finally:
            driver.close()
    if failures:
        raise StfpmError(f"{config}: {_count(len(failures), 'thing')} of this line would not work, see above")


def _try_recipe_server(
    options: LineOptions, server: RecipeServerOptions, say: Callable[[str], None], fail: Callable[[str], None]
) -> None:
    """Open the server of `[recipe_server]` and close it again."""
    try:
        from stfpm_runtime.line.models.recipes.opcua import OpcUaRecipes  # needs the extra `opcua`

        recipes = Recipes(options, ActiveModel(no_model(options), options), lambda *event: None)
        with contextlib.closing(OpcUaRecipes(server, recipes, lambda *event: None)) as link:
            link.open()
        say(f"works  recipe server on {server.listen}")
    except StfpmError as error:
        fail(f"recipe_server: {error}")


def _try_model(
    options: LineOptions,
    load: Callable[[LineOptions], ChosenModel],
    preview: Path | None,
    say: Callable[[str], None],
    fail: Callable[[str], None],
) -> bool:
    """Check a model, and its shadow where the line has one, and judge a frame of each camera; return if it loads."""
    try:
        chosen = load(options)
    except StfpmError as error:
        fail(str(error))
        return False
    with contextlib.closing(chosen.model.engine):
        say(f"works  model {chosen.model.describe()}, threshold {chosen.model.detector.threshold:.4g}")
        active = ActiveModel(chosen, options)
        try:
            has_one = load is first_model and (options.shadow or options.journal.path.is_file())
            if has_one and (shadow := shadow_model(options, active)) is not None:
                say(f"works  shadow {shadow.describe()}")
                shadow.engine.close()
        except StfpmError as error:
            fail(f"shadow: {error}")
        for camera in options.camera:
            camera = dataclasses.replace(camera, bits=camera.bits or chosen.model.spec.bits)
            try:
                for line, works in _try_camera(camera, active, preview):
                    say(f"works  {line}") if works else fail(line)
            except StfpmError as error:
                fail(f"camera {camera.name}: {error}")
    return True


def _written(options: LineOptions) -> Iterator[Path]:
    """Yield the files that the line will write, or one in each folder."""
    if not options.journal.path.exists():
        yield options.journal.path
    if options.journal.json_lines:
        yield options.journal.json_lines
    if options.pictures:
        yield options.pictures.folder / "picture"


def _try_camera(camera: CameraOptions, active: ActiveModel, preview: Path | None) -> Iterator[tuple[str, bool]]:
    """Yield what is found about a camera and its regions, each with whether it works. Raises StfpmError."""
    events: list[str] = []
    if camera.watch:  # its pictures are judged as they come; here an older one serves
        if not find_images(Path(camera.source)):
            yield f"camera {camera.name}: no picture in {camera.source} yet", True
            return
        camera = dataclasses.replace(camera, watch=False)
    source = open_camera(camera, lambda event: events.append(f"{event.kind} {event.detail}".strip()))
    try:
        frame = source.next(FRAME_S)
    finally:
        source.close()
    if frame is None or frame.image is None:
        reason = frame.error if frame else "; ".join(events[-2:]) or f"no frame came within {FRAME_S:.0f} s"
        yield f"camera {camera.name}: {reason}", False
        return
    height, width = frame.image.shape[:2]
    yield f"camera {camera.name}: {width}x{height} pixels from {frame.source}", True
    parts = active.inspector.judge([TriggeredFrame(camera, frame, TriggerRequest())])
    for part in parts:
        verdict = part.verdict
        place = f"region {camera.name}/{part.region.name}"
        if verdict.score is None:
            yield f"{place}: {verdict.reason}", False
        else:
            yield f"{place}: {verdict.decision} {format_score(verdict.score, verdict.threshold)}", True
    if preview is not None:
        path = preview / f"{camera.name}.png"
        with atomic_path(path) as unfinished:
            unfinished.write_bytes(cv2.imencode(".png", draw_preview(frame, parts))[1].tobytes())
        yield f"preview {path}", True


def draw_preview(frame: Frame, parts: list[JudgedPart]) -> Image:
    """Return the frame uint8 [H, W, 3] with the maps of its regions, and the outlines and names of all regions."""
    assert frame.image is not None, "checked by the caller"
    drawn = frame.image.copy()
    for part in parts:
        verdict, region = part.verdict, part.region
        frame_height, frame_width = drawn.shape[:2]
        corners = np.array(region.polygon or _corners(region.rectangle or (0, 0, frame_width, frame_height)), np.int32)
        left, top = corners.min(axis=0)
        if part.image is not None and verdict.anomaly_map is not None:
            height, width = part.image.shape[:2]
            overlay = draw_overlay(part.image, verdict.decision, verdict.score, verdict.threshold, verdict.anomaly_map)
            drawn[top : top + height, left : left + width] = cv2.resize(overlay, (width, height))
        cv2.polylines(drawn, [corners], isClosed=True, color=COLOUR, thickness=LINE_PX)
        at = int(left) + 8, min(int(corners[:, 1].max()), frame_height) - 12  # a verdict's caption is mostly above
        cv2.putText(drawn, region.name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.8, COLOUR, 2, cv2.LINE_AA)
    return drawn


def _corners(rectangle: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    left, top, width, height = rectangle
    return [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
