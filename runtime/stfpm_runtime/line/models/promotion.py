"""What people do with models while a line runs: check, shadow, approve, activate, roll back, retire.

The dashboard calls `ask`, and `stfpm-models` writes commands into the journal; this worker's thread carries out both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
from concurrent.futures import Future, wait
from pathlib import Path
from queue import SimpleQueue

from stfpm_runtime.errors import JournalError, OptionError, StfpmError
from stfpm_runtime.files import sha256
from stfpm_runtime.lifecycle import Worker, call_without_real_time
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.journal.models.shadow import ShadowCounts, read_shadow_counts
from stfpm_runtime.line.journal.models.states import (
    ModelCommand,
    answer_command,
    newest_by_model,
    newest_shadow,
    pop_command,
    read_states,
    withdraw_commands,
)
from stfpm_runtime.line.journal.rows import LogEvent, check_texts, storable
from stfpm_runtime.line.observers.shadow import Shadow
from stfpm_runtime.model_check import Model, for_swap

from .active_model import ActiveModel, load, load_tried
from .swap import ModelSwap

LOG = logging.getLogger("stfpm.model")
POLL_S = 0.5


class Promotion(Worker):
    """Carries out what people want to do with models, one thing at a time. `act` may be called from any thread.

    A model that its own thread loads has the real-time priority of the line: an engine's threads inherit it.
    """

    restarts_after_error = True

    def __init__(self, model_swap: ModelSwap, shadow: Shadow, log_event: LogEvent) -> None:
        super().__init__("promotion")
        self._model_swap = model_swap
        self._shadow = shadow
        self._journal = model_swap.options.journal.path
        self._log_event = log_event
        self._asked: SimpleQueue[tuple[ModelCommand, Future[str]] | None] = SimpleQueue()

    def wake(self) -> None:
        """Let `run` look whether it has to stop."""
        self._asked.put(None)

    def ask(self, command: ModelCommand) -> str:
        """Have this worker's thread do what a person wants, as `act` does, and wait for it. For any other thread."""
        answer: Future[str] = Future()
        self._asked.put((command, answer))
        while not wait([answer], POLL_S).done:
            if not self.is_alive:
                self._answer_asked()
        return answer.result()

    def run(self) -> None:
        """Carry out the commands in the journal until the stop."""
        failure = ""
        try:
            withdraw_commands(self._journal)
        except JournalError as error:
            LOG.error("old commands about models cannot be withdrawn: %s", error)
        while not self.stopping.is_set():
            self._answer_asked(POLL_S)
            try:
                while command := pop_command(self._journal):
                    self._carry_out(command)
                failure = ""
            except JournalError as error:
                if str(error) != failure:
                    LOG.error("commands about models cannot be read: %s", error)
                failure = str(error)
        self._answer_asked()

    def _answer_asked(self, wait_s: float = 0.0) -> None:
        """Act for those who wait, once one has come within `wait_s` seconds; at the stop refuse them."""
        with contextlib.suppress(queue.Empty):
            while asked := self._asked.get(timeout=wait_s):
                command, answer = asked
                try:
                    if self.stopping.is_set():
                        raise OptionError("the line stops; nothing was changed")
                    answer.set_result(self.act(command))
                except BaseException as error:
                    answer.set_exception(error)
                wait_s = 0.0

    def act(self, command: ModelCommand) -> str:
        """Do what a person wants, and return in words what was done. Raises StfpmError where nothing was changed."""
        for text in (command.override, command.reason):
            check_texts(command.who, reason=text)
        if command.action == "rollback":
            model = self._model_swap.roll_back(command.who, command.reason)
            return f"{model.describe()} is active again"
        path = self._model_swap.path_of(command.file)
        actions = {"check": self._check, "shadow": self._use_as_shadow, "approve": self._approve,
                   "activate": self._activate, "retire": self._retire}  # fmt: skip
        return actions[command.action](path, command)

    def _carry_out(self, command: ModelCommand) -> None:
        try:
            text, is_done = self.act(command), True
        except StfpmError as error:
            text, is_done = str(error), False
        except Exception as error:
            LOG.exception("internal error: a command about a model was not carried out")
            text, is_done = f"internal error: {type(error).__name__}: {error}", False
        answer_command(self._journal, command.seq, text, is_done=is_done)

    def _check(self, path: Path, command: ModelCommand) -> str:
        with self._model_swap.exclusively(command.who):
            trial = self._model_swap.try_candidate(path)
            self._model_swap.write_ability(path, trial, command.who)
        if trial.ability is None:
            return f"{path.name} may be used; there are no pictures with known answers to measure its ability"
        found = "; ".join(trial.failures) or "it decides about the known pictures no worse than the active model"
        return f"{path.name}: {found}"

    def _use_as_shadow(self, path: Path, command: ModelCommand) -> str:
        swap, before = self._model_swap, self._shadow.model
        with swap.exclusively(command.who):
            self._digest_of_another(path)
            trial = swap.try_candidate(path)
            self._shadow.replace_model(call_without_real_time(lambda: swap.load(path, trial.sha256)))
            was = newest_by_model(read_states(self._journal)).get(before.sha256) if before else None
            if before and was and was.state == "shadow" and before.sha256 != trial.sha256:
                swap.write_state(before.path, before.sha256, command.who, "candidate", f"{path.name} is the shadow now")
            swap.write_state(path, trial.sha256, command.who, "shadow", command.reason, trial)
        return f"{path.name} judges the same parts as the active model from now on, as its shadow"

    def _approve(self, path: Path, command: ModelCommand) -> str:
        with self._model_swap.exclusively(command.who):
            digest = self._digest_of_another(path)
            counts = self._counts(digest)
            note = f"after {counts.compared} parts as the shadow, {counts.disagreed} of them decided differently"
            expected = self._model_swap.options.review.shadow_parts
            if counts.compared < expected and not command.override:
                raise OptionError(
                    f"{path.name}: has judged {counts.compared} parts as the shadow; expected {expected} or more "
                    "before it is approved, or a reason to do without"
                )
            if why := "; ".join(filter(None, dict.fromkeys((command.override, command.reason)))):
                note = f"{why} ({note})"
            self._model_swap.write_state(path, digest, command.who, "approved", note)
        return f"{path.name} is approved {note}"

    def _activate(self, path: Path, command: ModelCommand) -> str:
        model = self._model_swap.load_and_swap(path, command.who, override=command.override, reason=command.reason)
        if command.override:
            self._log_event(
                "model", f"{path.name} is used by {command.who} for this reason: {storable(command.override)}"
            )
        if self._shadow.model is not None and self._shadow.model.sha256 == model.sha256:
            self._shadow.replace_model(None)
        return f"{model.describe()} is active"

    def _retire(self, path: Path, command: ModelCommand) -> str:
        with self._model_swap.exclusively(command.who):
            digest = self._digest_of_another(path)
            if self._shadow.model is not None and self._shadow.model.sha256 == digest:
                self._shadow.replace_model(None)
            self._model_swap.write_state(path, digest, command.who, "retired", command.reason or command.override)
        return f"{path.name} is retired"

    def _digest_of_another(self, path: Path) -> str:
        """Return the SHA-256 of a file. Raises OptionError for the model that is active."""
        digest = _digest(path)
        if digest == self._model_swap.active_sha256:
            raise OptionError(f"{path.name}: is active; activate another model first, or roll back")
        return digest

    def _counts(self, digest: str) -> ShadowCounts:
        """Return what the model has done as the shadow, the parts since the last write included."""
        if self._shadow.model is not None and self._shadow.model.sha256 == digest:
            return self._shadow.counts
        return read_shadow_counts(self._journal).get(digest, ShadowCounts())


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise OptionError(f"{path}: cannot be read ({error.strerror}); it was there a moment ago") from None


def shadow_model(
    options: LineOptions, active_model: ActiveModel, log_event: LogEvent = lambda *_: None
) -> Model | None:
    """Return the shadow of the configuration, or else the one of the journal, checked as for a swap.

    Raises StfpmError where the configuration's cannot be used. The journal's is done without then.
    """
    rules = dataclasses.replace(for_swap(active_model.rules, active_model.model.spec), sha256="", thresholds=())
    if options.shadow:
        return load(options.shadow, options, rules)
    if options.recipe:
        return None
    if row := newest_shadow(read_states(options.journal.path)):
        try:
            return load_tried(Path(row.path), options, dataclasses.replace(rules, sha256=row.sha256))
        except StfpmError as error:
            LOG.error("the shadow %s is not used again: %s", row.path, error)
            log_event("model", f"the shadow {row.path} is not used again: {error}")
    return None
