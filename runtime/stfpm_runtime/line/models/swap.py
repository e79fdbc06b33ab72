"""The model swap: another model is loaded and checked while the line runs, and replaces the one in use.

The new model has to pass `model_check`, to be of the same product and input size, and to reject the known defects. It
is loaded and checked in a process of its own first, and then in the thread that asks for it; the loop starts to use it
between two frames, so that no frame is lost, and none is judged by two models.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from pathlib import Path

from stfpm_runtime.errors import ArtifactError, OptionError, StfpmError
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.journal.active_model import FileIdentity, absolute
from stfpm_runtime.line.journal.recorder import Recorder
from stfpm_runtime.model_check import Model, for_swap

from .active_model import CHECKED_KEYS, ActiveModel, ChosenModel, load_tried, model_rules

LOG = logging.getLogger("stfpm.model")
SWAP_S = 30.0
"""The longest time that the loop may take to use a model that is loaded, in seconds."""


class ModelSwap:
    """Replaces the model of a running line. `load_and_swap` may be called from any thread but the loop's."""

    def __init__(self, active_model: ActiveModel, options: LineOptions, recorder: Recorder) -> None:
        self._active_model = active_model
        self._options = options
        self._recorder = recorder
        self._busy = threading.Lock()
        self._changing = threading.Lock()
        """Held while the pending model is set, used, or withdrawn: the loop uses none that is being withdrawn."""
        self._pending: ChosenModel | None = None
        self._used = threading.Event()

    def candidates(self) -> list[str]:
        """Return the names of the files in the model's folder that could be models."""
        folder = self._active_model.model.path.parent
        return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in (".onnx", ".engine"))

    def path_of(self, name: str) -> Path:
        """Return the path of the model file of that name, in the folder of the one in use. Raises OptionError."""
        path = self._active_model.model.path
        if name not in self.candidates():
            raise OptionError(f"got model {name[:80]!r}; expected one that lies next to {path.name}")
        return path.with_name(name)

    def load_and_swap(self, path: Path, who: str, options: LineOptions | None = None) -> Model:
        """Load a model in a process of its own, check it, load it here, and use it; the one before is closed.

        `options` is the configuration where it was read again: `path` is its model, and its demands on models apply
        from now on. Raises StfpmError, and then nothing has changed.
        """
        if not self._busy.acquire(blocking=False):
            error = OptionError("another model is being loaded; wait until it has been")
            self._log_refusal(who, str(error))
            raise error
        try:
            return self._load_and_swap(path, who, options)
        except Exception as error:
            text = str(error) if isinstance(error, StfpmError) else f"internal error: {type(error).__name__}: {error}"
            self._log_refusal(who, text)
            raise
        finally:
            self._busy.release()

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
        self._recorder.log_event("model", text)
        self._recorder.use_model(self._active_model.row())
        self._used.set()
        return pending.model

    def _log_refusal(self, who: str, text: str) -> None:
        LOG.error("the model stays: %s", text)
        self._recorder.log_event("model", f"refused, by {who}: {text}")

    def _load_and_swap(self, path: Path, who: str, options: LineOptions | None) -> Model:
        before, new = self._active_model.chosen, options or self._options
        rules = dataclasses.replace(model_rules(new), thresholds=before.rules.thresholds)
        known_defects = str(new.known_defects.absolute()) if new.known_defects else ""
        demanded = dataclasses.replace(for_swap(rules, before.model.spec), known_defects=known_defects)
        model = load_tried(path, self._options, demanded)
        configured = FileIdentity(absolute(path), model.sha256) if options else before.configured
        try:
            self._used.clear()
            self._pending = ChosenModel(model, rules, configured, who)
            if not self._used.wait(SWAP_S):
                with self._changing:
                    self._pending = None
                if self._active_model.model is not model:
                    raise ArtifactError(f"{path.name}: the line did not take it over within {SWAP_S:.0f} s")
        except BaseException:
            model.engine.close()
            raise
        kept = {key: getattr(new, key) for key in (*CHECKED_KEYS, "known_defects")}
        self._options = dataclasses.replace(self._options, **kept)
        with contextlib.suppress(StfpmError):  # it is not needed any more
            before.model.engine.close()
        LOG.warning("%s is used from now on", model.describe())
        return model


def fields_of(model: Model) -> dict[str, object]:
    """Return the model as the API describes it."""
    keys = ("name", "precision", "backbone", "threshold", "height", "width", "false_alarm_rate")
    fields = {"file": model.path.name, "sha256": model.sha256, "provider": model.engine.provider}
    return {**fields, **{key: getattr(model.spec, key) for key in keys}}
