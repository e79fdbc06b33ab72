"""The model swap: another model is loaded and checked while the line runs, and replaces the one in use.

The new model has to pass `model_check`, to be of the same product and input size, and to decide about pictures with
known answers no worse than the one in use. It is loaded and checked in a process of its own first, and then in the
thread that asks for it; the loop starts to use it between two frames, so that no frame is lost, and none is judged by
two models.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from stfpm_runtime.errors import ArtifactError, OptionError, StfpmError
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.journal.models.active import FileIdentity, absolute
from stfpm_runtime.line.journal.models.states import ModelState, State, newest_by_model, read_states, write_states
from stfpm_runtime.line.journal.recorder import Recorder
from stfpm_runtime.line.journal.rows import storable, utc
from stfpm_runtime.model_check import Model, ModelRules, for_swap

from .active_model import CHECKED_KEYS, ActiveModel, ChosenModel, load_tried, model_rules
from .known_pictures import known_pictures
from .trial import Trial, try_model

LOG = logging.getLogger("stfpm.model")
RECIPES_STAY = "a recipe's model is changed in the configuration; change it there, and start the line again"
MODEL_NAME = re.compile(r"[\w-][\w.-]*\.onnx")
SUFFIXES = (".onnx", ".engine")
SWAP_S = 30.0
"""The longest time that the loop may take to use a model that is loaded, in seconds."""


class ModelSwap:
    """Replaces the model of a running line. `load_and_swap` may be called from any thread but the loop's."""

    def __init__(self, active_model: ActiveModel, options: LineOptions, recorder: Recorder) -> None:
        self._active_model = active_model
        self.options = options
        """The configuration; a reload changes what it demands of models."""
        self._recorder = recorder
        self._busy = threading.Lock()
        self._changing = threading.Lock()
        """Held while the pending model is set, used, or withdrawn: the loop uses none that is being withdrawn."""
        self._pending: ChosenModel | None = None
        self._used = threading.Event()

    def candidates(self) -> list[str]:
        """Return the names of the files in the model's folder that could be models."""
        folder = self._active_model.model.path.parent
        found = (path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        return sorted(name for name in found if not name.startswith("."))  # an unfinished file

    def new_path(self, name: str) -> Path:
        """Return where a new model of that name is put. Raises OptionError where there can be none."""
        active = self._active_model.model.path
        if not MODEL_NAME.fullmatch(name):
            raise OptionError(f"file: got {name[:60]!r}; expected letters, digits, '_', '-' and '.', and .onnx")
        path = active.with_name(name)
        if not self._active_model.exists and not self.options.recipe and path != active:
            raise OptionError(f"file: got {name}; expected {active.name}, the model of the configuration")
        if any(path.with_suffix(suffix).exists() for suffix in SUFFIXES):  # a plan has a golden file of the same name
            raise OptionError(f"{name}: there is such a model already; choose another name")
        return path

    def path_of(self, name: str) -> Path:
        """Return the path of the model file of that name, in the folder of the one in use. Raises OptionError."""
        path = self._active_model.model.path
        if name not in self.candidates():
            raise OptionError(f"got model {name[:80]!r}; expected one that lies next to {path.name}")
        return path.with_name(name)

    @contextlib.contextmanager
    def exclusively(self, who: str) -> Iterator[None]:
        """Let one model at a time be loaded. What is raised meanwhile is logged as a refusal.

        Raises OptionError while another one is loaded.
        """
        if self.options.recipe:
            raise OptionError(RECIPES_STAY)
        if not self._active_model.exists:
            raise OptionError("the line has no model yet; start it again once its first model is trained")
        if not self._busy.acquire(blocking=False):
            error = OptionError("another model is being loaded; wait until it has been")
            self._log_refusal(who, str(error))
            raise error
        try:
            try:
                yield
            finally:
                self._busy.release()  # whoever reads of the refusal may ask again
        except Exception as error:
            text = str(error) if isinstance(error, StfpmError) else f"internal error: {type(error).__name__}: {error}"
            self._log_refusal(who, text)
            raise

    def try_candidate(self, path: Path, options: LineOptions | None = None) -> Trial:
        """Check a model in a process of its own, and measure what it is able to do beside the one in use.

        Raises StfpmError for a model that may not be used whatever it is able to do.
        """
        active, used = self._active_model.model, options or self.options
        pictures = known_pictures(used)
        against = (active.path, active.sha256)
        rules = self._demanded(used)
        return try_model(path, used.device, used.threads, rules, used.threshold, pictures, against)

    def check_file(self, path: Path) -> str:
        """Check a model in a process of its own that may join the others, and return its SHA-256.

        It must be able to replace the one in use, or be any recipe's. Raises StfpmError.
        """
        used, rules = self.options, model_rules(self.options)
        if used.recipe:
            return try_model(path, used.device, used.threads, dataclasses.replace(rules, thresholds=()), None).sha256
        if self._active_model.exists:
            rules = self._demanded(used)
        return try_model(path, used.device, used.threads, rules, used.threshold).sha256

    def load(self, path: Path, digest: str, options: LineOptions | None = None) -> Model:
        """Open a model that was tried. Raises StfpmError."""
        return load_tried(path, self.options, self._demanded(options or self.options), digest)

    def load_and_swap(
        self, path: Path, who: str, options: LineOptions | None = None, override: str = "", reason: str = ""
    ) -> Model:
        """Load a model in a process of its own, check it, load it here, and use it; the one before is closed.

        `options` is the configuration where it was read again: `path` is its model, and its demands on models apply
        from now on. `override` is why a model is used that is able to do less than the one in use, or that nobody has
        approved; `reason` is why it is used at all. Raises StfpmError, and then nothing has changed.
        """
        with self.exclusively(who):
            trial = self.try_candidate(path, options)
            problems = self._problems(trial)
            if problems and not override:
                self.write_state(path, trial.sha256, who, "refused", "; ".join(problems), trial)
                raise ArtifactError(f"{path.name}: {'; '.join(problems)}")
            if problems:
                note = f"{override} (in spite of: {'; '.join(problems)})"
                self.write_state(path, trial.sha256, who, "approved", note, trial)
            elif trial.ability:
                self.write_ability(path, trial, who)
            return self._swap(path, who, trial.sha256, options, reason)

    def roll_back(self, who: str, reason: str = "") -> Model:
        """Use the model again that was active before; what it is able to do is not measured. Raises StfpmError."""
        with self.exclusively(who):
            active = self.active_sha256
            states = read_states(self.options.journal.path)
            before = next((row for row in states[::-1] if row.state == "active" and row.sha256 != active), None)
            if before is None:
                raise OptionError("no other model has been active; there is nothing to roll back to")
            path = Path(before.path)
            used, rules = self.options, dataclasses.replace(self._demanded(self.options), sha256=before.sha256)
            try_model(path, used.device, used.threads, rules, used.threshold)
            return self._swap(path, who, before.sha256, reason=reason)

    def apply_pending(self) -> Model | None:
        """Activate the pending model and return it, or None. Called by the loop's thread between two frames."""
        if self._pending is None:
            return None
        with self._changing:
            pending, before = self._pending, self._active_model.model
            if pending is None:
                return None
            ended = self._active_model.use(pending)
            self._pending = None
        note = f"; the thresholds that operators set for {ended} places end with it" if ended else ""
        text = f"{before.describe()} -> {pending.model.describe()}, by {pending.who}{note}"
        text += pending.reason and f": {pending.reason}"
        self._recorder.log_event("model", text)
        self._recorder.use_model(self._active_model.row())
        self._used.set()
        return pending.model

    def _log_refusal(self, who: str, text: str) -> None:
        LOG.error("the model stays: %s", text)
        self._recorder.log_event("model", f"refused, by {who}: {text}")

    def _demanded(self, options: LineOptions) -> ModelRules:
        """Return what a model must fulfil to replace the one in use."""
        before = self._active_model.chosen
        rules = dataclasses.replace(model_rules(options), thresholds=before.rules.thresholds)
        return for_swap(rules, before.model.spec)

    def _problems(self, trial: Trial) -> list[str]:
        """Return in words what keeps a model from being used, although it passes the check."""
        found = trial.failures
        if self.options.review.shadow_parts and trial.sha256 != self.active_sha256:
            state = newest_by_model(read_states(self.options.journal.path)).get(trial.sha256)
            if state is None or state.state != "approved":
                found.append("nobody has approved it, see the key shadow_parts of the configuration")
        return found

    @property
    def active_sha256(self) -> str:
        """Return the SHA-256 of the model in use."""
        return self._active_model.model.sha256

    def write_ability(self, path: Path, trial: Trial, who: str) -> None:
        """Write what a model is able to do; a state that it has already stays. Raises JournalError."""
        before = newest_by_model(read_states(self.options.journal.path)).get(trial.sha256)
        is_kept = before is not None and before.state in ("shadow", "approved", "active")
        state, note = (before.state, before.note) if before is not None and is_kept else ("candidate", "")
        self.write_state(path, trial.sha256, who, state, note, trial)

    def write_state(
        self, path: Path, digest: str, who: str, state: State, note: str = "", trial: Trial | None = None
    ) -> None:
        """Write the state of the model with this SHA-256, and what a trial has measured. Raises JournalError.

        A new state is an event, too; why a model is refused, `exclusively` reports.
        """
        ability = json.dumps(trial.ability) if trial and trial.ability else ""
        before = newest_by_model(read_states(self.options.journal.path)).get(digest)
        old = before.state if before else "new"
        if state not in (old, "refused"):
            text = f"{path.name} ({digest[:12]}): {old} -> {state}, by {who}{note and f': {storable(note)}'}"
            self._recorder.log_event("model", text)
        row = ModelState(utc(), who, digest, absolute(path), state, storable(note), ability)
        write_states(self.options.journal.path, [row])

    def _swap(self, path: Path, who: str, digest: str, options: LineOptions | None = None, reason: str = "") -> Model:
        before, new = self._active_model.chosen, options or self.options
        model = self.load(path, digest, options)
        rules = dataclasses.replace(model_rules(new), thresholds=before.rules.thresholds)
        configured = FileIdentity(absolute(path), model.sha256) if options else before.configured
        try:
            self._used.clear()
            self._pending = ChosenModel(model, rules, configured, who, reason)
            if not self._used.wait(SWAP_S):
                with self._changing:
                    self._pending = None
                if self._active_model.model is not model:
                    raise ArtifactError(f"{path.name}: the line did not take it over within {SWAP_S:.0f} s")
        except BaseException:
            model.engine.close()
            raise
        kept = {key: getattr(new, key) for key in (*CHECKED_KEYS, "known_defects", "review")}
        self.options = dataclasses.replace(self.options, **kept)
        with contextlib.suppress(StfpmError):  # it is not needed any more
            before.model.engine.close()
        LOG.warning("%s is used from now on", model.describe())
        return model


def fields_of(model: Model) -> dict[str, object]:
    """Return the model as the API describes it."""
    keys = ("name", "precision", "backbone", "threshold", "height", "width", "false_alarm_rate")
    fields = {"file": model.path.name, "sha256": model.sha256, "provider": model.engine.provider}
    return {**fields, **{key: getattr(model.spec, key) for key in keys}}
