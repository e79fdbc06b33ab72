"""The model that judges a line's parts: chosen at the start, and in use until a model swap."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from stfpm_runtime.detector import Detector
from stfpm_runtime.engines import Engine, open_engine
from stfpm_runtime.errors import ArtifactError, StfpmError
from stfpm_runtime.files import sha256
from stfpm_runtime.line.config.checks import FLOAT32_MAX
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.config.recipe import RecipeOptions
from stfpm_runtime.line.decide import Decider, Thresholds
from stfpm_runtime.line.inspect import Inspector
from stfpm_runtime.line.journal.models.active import (
    ActiveModelRow,
    FileIdentity,
    absolute,
    read_active_model,
    read_asked_recipe,
)
from stfpm_runtime.line.journal.reader import open_for_reading
from stfpm_runtime.line.journal.rows import utc
from stfpm_runtime.model_check import Model, ModelRules, load_checked

from .no_model import NO_MODEL, NoModelEngine
from .trial import try_model

LOG = logging.getLogger("stfpm.model")
CHECKED_KEYS = ("product", "sha256", "allow_missing_golden", "threshold_bounds")
"""Keys of the configuration that say what every model has to fulfil."""


@dataclass(frozen=True, eq=False)
class ChosenModel:
    """A model that is loaded and checked, and why it is used."""

    model: Model
    rules: ModelRules
    """What the configuration demands of it."""
    configured: FileIdentity
    """The file that the configuration names."""
    who: str = ""
    """The name of who chose the model; empty for the configuration."""
    reason: str = ""
    """Why a person chose it; empty: nobody said so."""
    event: str = ""
    """The text of an event, where it is another model than the configured one; empty otherwise."""


class ActiveModel:
    """The model that judges now. The loop's thread alone changes it; all of it may be read from any."""

    def __init__(self, chosen: ChosenModel, options: LineOptions, recipe: RecipeOptions | None = None) -> None:
        """Use a model; `options` has that model's cameras and thresholds, also where they are those of a recipe."""
        self.recipe = recipe
        """The recipe that the model is for; None on a line without recipes, and while none is active."""
        self.cameras = {camera.name: camera for camera in options.camera}
        self.thresholds = Thresholds(options.camera, options.threshold, scope_of(recipe))
        self._batch = options.batch
        self.use(chosen)

    def use(self, chosen: ChosenModel) -> int:
        """Judge with this model from now on; returns the number of places whose operator's threshold ends with that."""
        self.chosen, self.model, self.rules = chosen, chosen.model, chosen.rules
        detector = self.model.detector
        ended = self.thresholds.use_model(detector.threshold, self.model.sha256, self.rules.bounds(detector))
        self.inspector = Inspector(detector, self._batch, self.thresholds.of)
        self.decider = Decider(self.model.spec.held_out_scores)
        return ended

    @property
    def exists(self) -> bool:
        """Return whether there is a model; without one every part is a fault."""
        return bool(self.model.sha256)

    def row(self) -> ActiveModelRow:
        """Return the row of the journal that keeps the model in use."""
        model, bounds = self.model, self.rules.bounds(self.model.detector)
        return ActiveModelRow(
            time=utc(),
            who=self.chosen.who,
            path=absolute(model.path),
            sha256=model.sha256,
            product=model.spec.name,
            configured_path=self.chosen.configured.path,
            configured_sha256=self.chosen.configured.sha256,
            lowest=float(bounds.lowest),
            highest=float(bounds.highest),
        )


def model_rules(options: LineOptions) -> ModelRules:
    """Return what a line's configuration demands of every model that judges its parts."""
    regions = [(camera, region) for camera in options.camera for region in camera.regions]
    places = [("the line", options.threshold)]
    places += [(f"camera {camera.name}", camera.threshold) for camera in options.camera]
    places += [(f"camera {camera.name}, region {region.name}", region.threshold) for camera, region in regions]
    has_tiles = any(region.tile for _, region in regions)
    return ModelRules(
        **{key: getattr(options, key) for key in CHECKED_KEYS},
        thresholds=tuple((place, value) for place, value in places if value is not None),
        batch=options.batch if has_tiles else min(options.batch, len(regions)),
    )


def scope_of(recipe: RecipeOptions | None) -> str:
    """Return what thresholds that operators set are kept for, beside their model; empty without a recipe."""
    return f"recipe {recipe.id}" if recipe else ""


def load(path: Path, options: LineOptions, rules: ModelRules, threshold: float | None = None) -> Model:
    """Open a model with the line's device and threads, and check it. Raises StfpmError."""
    return load_checked(path, lambda file: open_engine(file, options.device, options.threads), rules, threshold)


def load_tried(path: Path, options: LineOptions, rules: ModelRules, digest: str = "") -> Model:
    """Check a model in a process of its own, and then open and check it in this one.

    `digest` is the SHA-256 of a file that has been tried already. Raises StfpmError.
    """
    if not digest:
        digest = try_model(path, options.device, options.threads, rules, options.threshold).sha256
    model = load(path, options, rules, options.threshold)
    if model.sha256 != digest:
        model.engine.close()
        raise ArtifactError(f"{path}: was changed while it was loaded; wait until it is whole, and try again")
    return model


def first_model(options: LineOptions, teach: bool = False) -> ChosenModel:
    """Load the model that was in use when the line stopped, or the configured one; both are checked.

    With recipes it is that of `recipe_at_start`, or none.
    With `teach` a configured model that does not exist is none yet: every part is a fault until there is one.

    A model that replaced the configured one is used again while the configuration names the same file with the same
    contents, and the model still passes the check. Raises StfpmError where the configured one does not.
    """
    if options.recipe:
        start, reason = recipe_at_start(options)
        return load_recipe(options.with_recipe(start)) if start else no_model(options, reason)
    (path,) = options.models
    rules, row = model_rules(options), _active_model_row(options.journal.path)
    if teach and not path.exists():
        return no_model(options, NO_MODEL)
    configured = FileIdentity(absolute(path), "")
    with contextlib.suppress(OSError):  # opening the file reports why it cannot be read
        configured = FileIdentity(configured.path, sha256(path))
    event = ""
    if row and row.path not in (row.configured_path, configured.path):
        try:
            if (row.configured_path, row.configured_sha256) != (configured.path, configured.sha256):
                raise ArtifactError("the configuration names another model now")
            if Path(row.path).parent != Path(configured.path).parent:
                raise ArtifactError("it does not lie next to the configured one")
            if rules.sha256 not in ("", row.sha256):
                raise ArtifactError("it is not the file that the key sha256 of the configuration names")
            model = load_tried(Path(row.path), options, dataclasses.replace(rules, sha256=row.sha256))
        except StfpmError as error:
            event = f"{row.path}, which {row.who} chose at {row.time}, is not used again: {error}"
            LOG.error("%s", event)
        else:
            event = f"{model.describe()} is used again: {row.who} chose it at {row.time}"
            LOG.warning("%s", event)
            return ChosenModel(model, rules, configured, row.who, event=event)
    product = rules.product or (row.product if row else "")
    try:
        model = load(path, options, dataclasses.replace(rules, product=product), options.threshold)
        return ChosenModel(model, rules, configured, event=event)
    except StfpmError as error:
        if row and not options.product and "is for the product" in str(error):
            raise ArtifactError(
                f"{error}, of which this journal has verdicts; set the key product of the configuration, or use "
                "another journal"
            ) from None
        raise


def recipe_at_start(options: LineOptions) -> tuple[RecipeOptions | None, str]:
    """Return the recipe of `start_recipe`, or why none is active at the start.

    Where another one was asked for last, the line makes another product, or the product was changed while it was down.
    """
    start, asked = options.recipe_of(options.start_recipe), None
    with contextlib.suppress(sqlite3.Error, OSError):
        if start and options.journal.path.is_file():
            with contextlib.closing(open_for_reading(options.journal.path)) as connection:
                asked = read_asked_recipe(connection)
    if start is None or asked in (None, start.id):
        return start, ""
    known = options.recipe_of(asked)
    before = (known.label if known else str(asked)) if asked else "none"
    return None, (
        f"no recipe is active: before the start {before} was asked for, and start_recipe is {start.label}; "
        "ask for the recipe of the product"
    )


def no_model(options: LineOptions, event: str = "") -> ChosenModel:
    """Return what stands for the model while there is none: it judges nothing. `event` is the text of an event."""
    path = options.models[0].with_name("none") if options.recipe else options.models[0]
    engine = NoModelEngine(options.product or path.stem)
    chosen = Model(path, "", engine, Detector(engine))
    return ChosenModel(chosen, model_rules(options), FileIdentity(absolute(path), ""), event=event)


def load_recipe(options: LineOptions) -> ChosenModel:
    """Load the model of `LineOptions.with_recipe`, checked in a process of its own first. Raises StfpmError.

    The cameras read with the bits of the first model; one that needs others is refused unless they are configured.
    """
    (path,), rules = options.models, model_rules(options)
    model = load_tried(path, options, rules)
    if (bits := model.spec.bits) and any(camera.bits is None for camera in options.camera):
        model.engine.close()
        raise ArtifactError(f"{path}: is for {bits}-bit pictures; with recipes set bits = {bits} for each camera")
    return ChosenModel(model, rules, FileIdentity(absolute(path), model.sha256))


def unchecked_model(engine: Engine, options: LineOptions) -> ChosenModel:
    """Return an open engine as the model that the configuration names, for tests and measurements."""
    path = options.models[0]
    digest = sha256(path)
    model = Model(path, digest, engine, Detector(engine, options.threshold))
    return ChosenModel(model, model_rules(options), FileIdentity(absolute(path), digest))


def earlier_model(options: LineOptions) -> ActiveModelRow | None:
    """Return the row that replaces an earlier line's model, whose bounds hold for no recipe; None: there is none."""
    before = _active_model_row(options.journal.path)
    if before is None or not before.sha256:
        return None
    return ActiveModelRow(utc(), "", "", "", "", "", "", lowest=-FLOAT32_MAX, highest=FLOAT32_MAX)


def _active_model_row(journal: Path) -> ActiveModelRow | None:
    """Return the journal's row of the model in use; None where there is none or it cannot be read."""
    with contextlib.suppress(sqlite3.Error, OSError):
        if journal.is_file():
            with contextlib.closing(open_for_reading(journal)) as connection:
                return read_active_model(connection)
    return None
