"""Which recipe judges a frame: requests, loading, and the change between two frames.

A request that is accepted ends the recipe before at once, since the product changes. From then on parts are faults,
until the new recipe is active, see `status.py`.

The time of a part's trigger, or of its frame where nothing triggers, decides by which recipe it is judged. A part that
was triggered before the request is judged by the recipe before, also where its picture comes after the change.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from stfpm_runtime.errors import StfpmError
from stfpm_runtime.lifecycle import Worker
from stfpm_runtime.line.cameras.worker import TriggeredFrame
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.config.recipe import LARGEST_ID, RecipeOptions
from stfpm_runtime.line.journal.rows import LogEvent, check_texts, storable
from stfpm_runtime.line.models.active_model import ActiveModel, load_recipe, no_model, scope_of

from .loaded import LoadedModels, LoadRecipe
from .periods import ModelPeriod, Periods
from .status import BUSY, IS_BUSY, UNKNOWN, UNUSABLE, RecipeAnswer, RecipeStatus

LOG = logging.getLogger("stfpm.recipes")
NOT_ASKED = "no recipe is active: none was asked for since the line was started"
NO_RECIPES = "the line has no recipes; expected tables [[recipe]] in its configuration"
EVICT_S = 1.0
"""The longest time until it is looked again whether a model can be given up, in seconds."""


class Recipes(Worker):
    """Owns the periods, the loaded models, and the thread that loads them. A line without recipes has one period."""

    restarts_after_error = True

    def __init__(
        self,
        options: LineOptions,
        first: ActiveModel,
        log_event: LogEvent,
        wake_loop: Callable[[], None] = lambda: None,
        load: LoadRecipe = load_recipe,
    ) -> None:
        """Begin with a model. `wake_loop` makes the loop call `apply_pending` soon; `load` loads a recipe's model."""
        super().__init__("recipes")
        self.options = {recipe.id: (recipe, options.with_recipe(recipe)) for recipe in options.recipe}
        """Each recipe by its number, with the line's options as they are for it."""
        self.scopes = frozenset(scope_of(recipe) for recipe in options.recipe)
        """What operators' thresholds are kept for."""
        self.problems: dict[int, str] = {}
        """Why the models of recipes may not be used, as far as that was tried."""
        self._none = ActiveModel(no_model(options), options) if options.recipe else first
        self._log_event, self._wake_loop = log_event, wake_loop
        self._changed = threading.Condition()
        self._loaded = LoadedModels(options.recipe_memory_mb, load)
        self._waiting = list(self.options)
        """What is loaded before it is asked for."""
        self._loading = 0
        """The recipe whose model is being loaded; 0: none."""
        self._pending: ActiveModel | None = None
        self._unlogged: deque[str] = deque()
        self._judged_by: RecipeOptions | None = None
        self._requested_ns = 0
        self.version = 0
        """Rises with each change of the status."""
        reason = first.chosen.event or NOT_ASKED if options.recipe and first.recipe is None else ""
        self._periods = Periods(first, reason, self._none)
        self.status = RecipeStatus("none", reason=reason)
        if first.recipe:
            number = first.recipe.id
            self._loaded.add(number, first.chosen)
            self.status = RecipeStatus("active", number, number, who="start_recipe")
        self._last_asked = self.status.requested
        """The recipe of the newest request that `pop_request` has returned."""

    @property
    def has_recipes(self) -> bool:
        """Return whether the line has recipes."""
        return bool(self.options)

    @property
    def current(self) -> ActiveModel:
        """Return the model that judges what is triggered now; a stand-in while none does."""
        return self._periods.current.model

    @property
    def loaded(self) -> tuple[int, ...]:
        """Return the numbers of the recipes whose models are loaded."""
        return self._loaded.numbers

    def warnings(self) -> list[str]:
        """Return which recipes cannot be used, in words. For any thread."""
        return [f"recipe {self._label(number)} cannot be used: {text}" for number, text in list(self.problems.items())]

    def request(self, number: int | None, who: str, via: str) -> RecipeAnswer:
        """Ask for a recipe, and return at once. For any thread. Raises OptionError for a `who` that is no name.

        0 withdraws the recipe. None stands for a request that is not understood, which no recipe has. While another
        recipe is being loaded a request changes nothing; any other request that is refused leaves none active.
        """
        check_texts(who)
        with self._changed:
            now, by = self.status, f"{who} by {via}"
            if not self.options:
                return RecipeAnswer(UNKNOWN, NO_RECIPES)
            if number == now.requested and number and now.state in (*BUSY, "active"):
                return RecipeAnswer()  # asked for twice
            if number != 0 and now.state in BUSY:
                reason = (
                    f"recipe {self._label(now.requested)} is being loaded, for {now.who}; ask again when it is active"
                )
                self._report(f"{number or 'what is not understood'} is refused, for {by}: {reason}")
                return RecipeAnswer(IS_BUSY, reason)
            self._pending, self._requested_ns = None, time.monotonic_ns()
            if number == 0:
                self._end(RecipeStatus("none", reason=f"no recipe is active: it was withdrawn, for {by}", who=by))
                return RecipeAnswer()
            if number not in self.options:
                known = ", ".join(map(str, self.options))
                got = "a request that is not understood" if number is None else f"recipe {number}"
                known_to_plc = number if number is not None and 0 < number <= LARGEST_ID else 0
                return self._refuse(known_to_plc, UNKNOWN, f"got {got}; expected one of {known}", by)
            reason = f"recipe {self._label(number)} is not active yet, for {by}"
            self._end(
                RecipeStatus("loading" if number == self._loading else "requested", number, reason=reason, who=by)
            )
            if number in self._loaded:
                self._make_ready(number)
            return RecipeAnswer()

    def assign(self, frames: Sequence[TriggeredFrame]) -> list[tuple[ModelPeriod, list[TriggeredFrame]]]:
        """Return the frames by their periods, in their order, each with the recipe's cameras. For the loop's thread."""
        if not self.options:
            return [(self._periods.current, list(frames))] if frames else []
        with self._changed:
            return self._periods.assign(frames)

    def log_active_recipe(self, model: ActiveModel, seq: int) -> None:
        """Write an event where the verdicts from `seq` on are of another recipe than before. For the loop's thread."""
        if model.recipe is not None and model.recipe is not self._judged_by:
            self._judged_by = model.recipe
            self._log_event("recipe", f"{model.recipe.label} judges from verdict {seq} on")

    def pop_request(self) -> tuple[int, str] | None:
        """Return the recipe that was asked for last and by whom, once; 0: it was withdrawn. For the loop's thread."""
        status = self.status
        if status.requested == self._last_asked:
            return None
        self._last_asked = status.requested
        return status.requested, status.who

    def apply_pending(self, prepare: Callable[[ActiveModel], None]) -> ActiveModel | None:
        """Activate the recipe that is ready and return its model, or None. Called by the loop between two frames.

        `prepare` is called with the model before it is active.
        """
        if not self.options:
            return None
        with self._changed:
            self._periods.forget()
            pending = self._pending
            if pending is None:
                return None
            assert pending.recipe is not None, "made for one"
            prepare(pending)
            self._pending = None
            self._periods.begin(pending)
            number = pending.recipe.id
            self._loaded.use(number)
            took_ms = (time.monotonic_ns() - self._requested_ns) / 1e6
            self._set(dataclasses.replace(self.status, state="active", active=number, reason=""))
            text = f"{pending.recipe.label} is active {took_ms:.1f} ms after the request of {self.status.who}"
            self._log_event("recipe", text)
            self._unlogged.append(text)  # the loop does not wait for the log
        return pending

    def wait_for_change(self, version: int, timeout_s: float) -> int:
        """Return the version of the status once it is another one, or after the time. For any thread."""
        with self._changed:
            self._changed.wait_for(lambda: self.version != version or self.stopping.is_set(), timeout_s)
            return self.version

    def run(self) -> None:
        """Load what is asked for, and else what fits into the memory, until the stop."""
        while not self.stopping.is_set():
            with self._changed:
                self._loading = self._next()
                if not self._loading:
                    self._changed.wait(EVICT_S if self._loaded.is_too_large else None)
            while self._unlogged:
                LOG.warning("recipe %s", storable(self._unlogged.popleft()))
            if self._loading:
                self._load_one(self._loading)
            self._evict()

    def wake(self) -> None:
        """Make `run`, and all who wait for a change, notice the stop."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Close all engines. Called when the loop has ended."""
        with self._changed:
            self._loaded.close()

    def _next(self) -> int:
        """Return the recipe to load now, or 0; it is taken from those that wait. Within the lock."""
        if self.stopping.is_set():
            return 0
        now = self.status
        if now.state == "requested" and now.requested not in self._loaded:
            self._set(dataclasses.replace(now, state="loading"))
            self._report(f"{self._label(now.requested)} is being loaded")
            return now.requested
        while self._waiting:
            number = self._waiting.pop(0)
            if number not in self._loaded and self._loaded.has_room(self.options[number][0].model):
                return number
        return 0

    def _load_one(self, number: int) -> None:
        recipe, options = self.options[number]
        problem = ""
        try:
            chosen, mb = self._loaded.load(options)
        except StfpmError as error:
            problem = str(error)
        except Exception as error:
            LOG.exception("internal error: recipe %s could not be loaded", recipe.label)
            problem = f"internal error: {type(error).__name__}: {error}"
        with self._changed:
            is_asked = self.status.state == "loading" and self.status.requested == number
            self._loading = 0
            if problem:
                self.problems[number] = problem
                if is_asked:
                    self._refuse(number, UNUSABLE, f"recipe {recipe.label} cannot be used: {problem}", self.status.who)
                else:
                    self._report(f"{recipe.label} cannot be used: {problem}")
                return
            self.problems.pop(number, None)
            self._loaded.add(number, chosen, mb)
            if is_asked:
                self._make_ready(number)

    def _make_ready(self, number: int) -> None:
        """Let the loop use a loaded recipe before its next frame. Within the lock."""
        recipe, options = self.options[number]
        self._pending = ActiveModel(self._loaded[number], options, recipe)
        self._set(dataclasses.replace(self.status, state="ready"))
        self._wake_loop()

    def _refuse(self, number: int, code: int, reason: str, by: str) -> RecipeAnswer:
        """Leave no recipe active, for this reason. Within the lock."""
        self._end(RecipeStatus("refused", number, code=code, reason=f"no recipe is active: {reason}", who=by))
        return RecipeAnswer(code, reason)

    def _end(self, status: RecipeStatus) -> None:
        """End the period of the recipe before: what is triggered from now on is a fault. Within the lock."""
        found = self.options.get(status.requested)
        model = ActiveModel(no_model(found[1]), found[1]) if found else self._none
        self._periods.end(model, status.reason)
        self._set(status)
        self._report(f"{status.requested or 'none'}: {status.state}, for {status.who}: {status.reason}")

    def _set(self, status: RecipeStatus) -> None:
        self.status = status
        self.version += 1
        self._changed.notify_all()

    def _report(self, text: str) -> None:
        LOG.warning("recipe %s", storable(text))
        self._log_event("recipe", text)

    def _label(self, number: int) -> str:
        return self.options[number][0].label if number in self.options else str(number)

    def _evict(self) -> None:
        """Close the models used longest ago, beyond the memory; those of periods and of the request stay."""
        with self._changed:
            given_up = self._loaded.take_out({*self._periods.used(), self.status.requested})
        for number, chosen in given_up:
            chosen.model.engine.close()
            self._report(f"{self._label(number)} is not loaded any more; models have {self._loaded.budget_mb:g} MB")
