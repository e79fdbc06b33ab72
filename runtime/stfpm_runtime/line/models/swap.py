"""The model that rules a line, and its successor: loaded and tried beside it, and then put in its place.

A successor has to pass `model_check`, and to be of the same product and input size. It is loaded and checked in a
process of its own first, and then by whoever asks, in a thread of their own; the loop takes it over between two
frames, so that no frame is lost, and none judged by half of each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from stfpm_runtime.engines import open_engine
from stfpm_runtime.errors import ArtifactError, OptionError, StfpmError
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.decide import Decider, Thresholds
from stfpm_runtime.line.inspect import Inspector
from stfpm_runtime.line.journal.active_model import ActiveModelRow, FileIdentity, absolute
from stfpm_runtime.line.journal.recorder import Recorder
from stfpm_runtime.line.journal.rows import utc
from stfpm_runtime.model_check import Model, ModelRules, OpenEngine, ThresholdBounds, for_swap, load_checked

from .trial import answer_s, try_model

LOG = logging.getLogger("stfpm.model")
DEMANDS = ("product", "sha256", "allow_missing_golden", "threshold_bounds")
"""Keys of the configuration that every model has to fulfil."""
TAKE_OVER_S = 30.0
"""Within which the loop has to take a successor over."""


class ActiveModel:
    """What judges, at this moment. The loop's thread alone changes it; all of it may be read from any."""

    def __init__(self, model: Model, batch: int, thresholds: Thresholds, rules: ModelRules) -> None:
        self.thresholds = thresholds
        self._batch = batch
        self.swap(model, rules)

    @property
    def bounds(self) -> ThresholdBounds:
        """The thresholds that may be set for the model in use."""
        return self.rules.bounds(self.model.detector)

    def swap(self, model: Model, rules: ModelRules) -> int:
        """Let another model rule; returns how many places the operator's threshold no longer holds for."""
        self.model, self.rules = model, rules
        gone = self.thresholds.use_model(model.detector.threshold, model.sha256, self.bounds)
        self.inspector = Inspector(model.detector, self._batch, self.thresholds.of)
        self.decider = Decider(model.spec.held_out_scores)
        return gone


@dataclass(frozen=True, eq=False)
class _PendingModel:
    """A model that waits for the loop to take it over."""

    model: Model
    who: str
    rules: ModelRules
    configured: FileIdentity


def rules_of(options: LineOptions) -> ModelRules:
    """Return what a line's configuration demands of every model that judges its parts."""
    regions = [(camera, region) for camera in options.camera for region in camera.regions]
    places = [("the line", options.threshold)]
    places += [(f"camera {camera.name}", camera.threshold) for camera in options.camera]
    places += [(f"camera {camera.name}, region {region.name}", region.threshold) for camera, region in regions]
    has_tiles = any(region.tile for _, region in regions)
    return ModelRules(
        **{key: getattr(options, key) for key in DEMANDS},
        thresholds=tuple((place, value) for place, value in places if value is not None),
        batch=options.batch if has_tiles else min(options.batch, len(regions)),
    )


def load_tried(path: Path, options: LineOptions, rules: ModelRules) -> Model:
    """Check a model in a process of its own, and then open and check it in this one. Raises StfpmError."""
    limit_s = answer_s(path, options.device)
    digest = try_model(path, options.device, options.threads, rules, options.threshold, limit_s)
    model = load_checked(path, opener(options), rules, options.threshold)
    if model.sha256 != digest:
        model.engine.close()
        raise ArtifactError(f"{path}: was changed while it was loaded; wait until it is whole, and try again")
    return model


def opener(options: LineOptions) -> OpenEngine:
    """Return the function that opens models of this line."""
    return lambda path: open_engine(path, options.device, options.threads)


def active_of(active_model: ActiveModel, who: str, configured: FileIdentity) -> ActiveModelRow:
    """Return the row that keeps the model in use."""
    model, bounds = active_model.model, active_model.bounds
    return ActiveModelRow(
        time=utc(),
        who=who,
        path=absolute(model.path),
        sha256=model.sha256,
        product=model.spec.name,
        configured_path=configured.path,
        configured_sha256=configured.sha256,
        lowest=float(bounds.lowest),
        highest=float(bounds.highest),
    )


class ModelSwap:
    """Changes the model of a running line. `succeed` may be called from any thread but the loop's."""

    def __init__(
        self, active_model: ActiveModel, options: LineOptions, recorder: Recorder, configured: FileIdentity
    ) -> None:
        self._ruling = active_model
        self._options = options
        self._recorder = recorder
        self._configured = configured
        self._busy = threading.Lock()
        self._handing_over = threading.Lock()
        """Held while the successor is put up, taken, or withdrawn: nobody takes what is being withdrawn."""
        self._successor: _PendingModel | None = None
        self._taken = threading.Event()

    def candidates(self) -> list[str]:
        """Files that lie beside the model and could be models."""
        folder = self._ruling.model.path.parent
        return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in (".onnx", ".engine"))

    def beside(self, name: str) -> Path:
        """The model file of that name, in the folder of the one that rules. Raises OptionError for any other."""
        if name not in self.candidates():
            raise OptionError(f"got model {name[:80]!r}; expected one that lies beside {self._ruling.model.path.name}")
        return self._ruling.model.path.with_name(name)

    def load_and_swap(self, path: Path, who: str, options: LineOptions | None = None) -> Model:
        """Load a model in a process of its own, check it, load it here, and let it rule; the one before is closed.

        `options` is the configuration where it was read again: `path` is its model, and its demands on models apply
        from now on. Raises StfpmError, and nothing has changed.
        """
        if not self._busy.acquire(blocking=False):
            raise OptionError("another model is being loaded; wait until it has been")
        try:
            return self._succeed(path, who, options)
        except Exception as error:
            text = str(error) if isinstance(error, StfpmError) else f"internal error: {type(error).__name__}: {error}"
            LOG.error("the model stays: %s", text)
            self._recorder.log_event("model", f"refused, by {who}: {text}")
            raise
        finally:
            self._busy.release()

    def take_over(self) -> Model | None:
        """Let the successor rule, if there is one; for the loop, between two frames."""
        if self._successor is None:
            return None
        with self._handing_over:
            successor, before = self._successor, self._ruling.model
            if successor is None:
                return None
            model = successor.model
            gone = self._ruling.swap(model, successor.rules)
            self._configured = successor.configured
            self._successor = None
        note = f"; the operator's threshold of {gone} places is gone with it" if gone else ""
        self._recorder.log_event("model", f"{before.describe()} -> {model.describe()}, by {successor.who}{note}")
        self._recorder.use_model(active_of(self._ruling, successor.who, successor.configured))
        self._taken.set()
        return model

    def _succeed(self, path: Path, who: str, options: LineOptions | None) -> Model:
        before, now = self._ruling.model, options or self._options
        rules = dataclasses.replace(rules_of(now), thresholds=self._ruling.rules.thresholds)
        model = load_tried(path, self._options, for_swap(rules, before.spec))
        configured = FileIdentity(absolute(path), model.sha256) if options else self._configured
        try:
            self._taken.clear()
            self._successor = _PendingModel(model, who, rules, configured)
            if not self._taken.wait(TAKE_OVER_S):
                with self._handing_over:
                    self._successor = None
                if self._ruling.model is not model:
                    raise ArtifactError(f"{path.name}: the line did not take it over within {TAKE_OVER_S:.0f} s")
        except BaseException:
            model.engine.close()
            raise
        self._options = dataclasses.replace(self._options, **{key: getattr(now, key) for key in DEMANDS})
        with contextlib.suppress(StfpmError):  # it is not needed any more
            before.engine.close()
        LOG.warning("%s is used from now on", model.describe())
        return model


def fields_of(model: Model) -> dict[str, object]:
    """The model as the API tells of it."""
    spec = model.spec
    keys = ("name", "precision", "backbone", "threshold", "height", "width", "false_alarm_rate")
    return {
        "file": model.path.name,
        "sha256": model.sha256,
        "provider": model.engine.provider,
        **{key: value for key, value in dataclasses.asdict(spec).items() if key in keys},
    }
