"""The decision on a part: the threshold in force, the threshold's rule, debounce and p-value are all in this module.

The threshold of a place (a camera's region) is the one that an operator has set, else the innermost one of the
configuration, else the model's own. A change by an operator is a row in the journal's table `thresholds`, written by
the dashboard or by `stfpm-journal`; the running line applies it between two frames. It is in force for one model and
one configuration: another model, or another configured threshold for the place, ends it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from stfpm_runtime.artifact.conformal import PValues
from stfpm_runtime.detector import Decision, Verdict
from stfpm_runtime.errors import TriggerError
from stfpm_runtime.model_check import ThresholdBounds

from .config.camera import CameraOptions
from .debounce import Debounce
from .journal.recorder import Recorder
from .journal.threshold_changes import State, ThresholdChange, problem_of
from .triggers.part_id import check_part

LOG = logging.getLogger("stfpm.threshold")


@dataclass(frozen=True)
class PartDecision:
    """The line's decision on one part."""

    decision: Decision
    reason: str
    """Why it is a fault, or why it is not what the frame alone gives; empty otherwise."""
    p_value: float | None
    """The share of good parts that would score as high or higher; None for a fault, or without held-out scores."""
    part: str = ""
    """The part's id; empty where there is none, or where it is refused."""


def apply_threshold(verdict: Verdict, threshold: float) -> Verdict:
    """Return the verdict under this threshold: a score above it is a reject; a fault stays a fault."""
    if verdict.score is None:
        return dataclasses.replace(verdict, threshold=threshold)
    decision: Decision = "reject" if verdict.score > threshold else "pass"
    return dataclasses.replace(verdict, decision=decision, threshold=threshold)


class Decider:
    """Decides on each part, with the frames of its place before it where debounce is configured. For one thread."""

    def __init__(self, held_out: Sequence[float]) -> None:
        """Store the model's held-out scores, which p-values compare with."""
        self._p_values = PValues(held_out)
        self._debounces: dict[tuple[str, str], Debounce] = {}

    def decide(
        self, camera: CameraOptions, region: str, verdict: Verdict, part: str, pictures: int, seq: int
    ) -> PartDecision:
        """Return the decision on the part of which this is the frame's verdict. An internal error makes a fault.

        `part` is the part's id, `pictures` counts the pictures whose highest score the verdict has, and `seq` is the
        number that the verdict has in the journal.
        """
        try:
            decision, reason = verdict.decision, verdict.reason
            if camera.debounce is not None:
                if (camera.name, region) not in self._debounces:
                    self._debounces[camera.name, region] = Debounce(*camera.debounce)
                decision, why = self._debounces[camera.name, region].decide(decision, seq)
                reason = why or reason
            p_value = None if decision == "fault" else self.p_value(verdict, pictures)
        except Exception as error:
            LOG.exception("internal error: the decision on a part could not be made")
            decision, reason, p_value = "fault", f"internal error: {type(error).__name__}: {error}", None
        try:
            check_part(part, camera.part_length)
        except TriggerError as error:
            return PartDecision("fault", str(error), None)
        return PartDecision(decision, reason, p_value, part)

    def p_value(self, verdict: Verdict, pictures: int) -> float | None:
        """Return the p-value of a verdict's score, see `PartDecision`."""
        return None if verdict.score is None else self._p_values.of(verdict.score, pictures)


class Thresholds:
    """The threshold in force at each place. The loop's thread alone changes it, between two frames; any may read it."""

    def __init__(self, cameras: Sequence[CameraOptions], line: float | None, scope: str = "") -> None:
        """Store the thresholds of the configuration; `line` is the one for all places. `use_model` comes next.

        `scope` names the recipe that they are for; an operator's threshold is kept for the model and that recipe.
        """
        self.scope = scope
        self._configured = {
            (camera.name, region.name): next(
                (value for value in (region.threshold, camera.threshold, line) if value is not None), None
            )
            for camera in cameras
            for region in camera.regions
        }
        self._changed: dict[tuple[str, str], float] = {}

    def use_model(self, threshold: float, sha256: str = "", bounds: ThresholdBounds | None = None) -> int:
        """Use another model's threshold; returns the number of operators' thresholds that end, since they were for it.

        `bounds` are the thresholds that an operator may set.
        """
        ended, self._model, self.bounds = len(self._changed), threshold, bounds
        self.model_key = f"{sha256} {self.scope}".strip() if sha256 else ""
        self._changed.clear()
        return ended

    def of(self, camera: str, region: str) -> float:
        """Return the threshold in force: a higher score is a reject."""
        changed = self._changed.get((camera, region))
        return self.configured(camera, region) if changed is None else changed

    def configured(self, camera: str, region: str) -> float:
        """Return the threshold of configuration and model, without any change by an operator."""
        configured = self._configured.get((camera, region))  # another recipe may have further places
        return self._model if configured is None else configured

    def is_changed(self, camera: str, region: str) -> bool:
        """Return whether an operator's threshold is in force at a place."""
        return (camera, region) in self._changed

    def places(self, camera: str = "", region: str = "") -> list[tuple[str, str]]:
        """Return the places that a change is for; an empty name means all."""
        return [place for place in self._configured if camera in ("", place[0]) and region in ("", place[1])]

    def change(self, camera: str, region: str, threshold: float | None) -> None:
        """Set the threshold of a place from now on; None: as configured."""
        if threshold is None:
            self._changed.pop((camera, region), None)
        else:
            self._changed[camera, region] = threshold


def apply_threshold_changes(recorder: Recorder, thresholds: Thresholds) -> None:
    """Put new changes in force from the next frame on. Called by the loop's thread between two frames.

    A change that is refused becomes an event, and is not read again.
    """
    for change in recorder.threshold_changes("ordered"):
        try:
            rows, problem = _apply(change, recorder, thresholds)
        except Exception as error:  # a bug: the change is refused, and the line goes on
            LOG.exception("a threshold could not be changed")
            rows, problem = [], f"internal error: {type(error).__name__}"
        if problem:
            text = f"order {change.seq} is refused: {problem}"
            LOG.error("threshold: %s", text)
            recorder.log_event("threshold", text)
        recorder.write_threshold_changes(rows, [change.seq])


def _apply(change: ThresholdChange, recorder: Recorder, thresholds: Thresholds) -> tuple[list[ThresholdChange], str]:
    """Return a row for each place where a change is in force from now on, or why it is refused."""
    if problem := problem_of(change, thresholds.bounds):
        return [], problem
    if not thresholds.model_key:
        return [], f"by {change.who}, no model is in use"
    if change.model not in ("", thresholds.model_key, thresholds.model_key.partition(" ")[0]):
        return [], f"by {change.who}, it was for another model or recipe than the one in use; look at its effect again"
    places = thresholds.places(change.camera, change.region)
    if not places:
        place = f"{change.camera or '*'}/{change.region or '*'}"
        return [], f"by {change.who}, it is for {place}, which the line does not have"
    rows = []
    for camera, region in places:
        old, configured = thresholds.of(camera, region), thresholds.configured(camera, region)
        thresholds.change(camera, region, change.threshold)
        text = f"{camera}/{region}: {old:.6g} -> {thresholds.of(camera, region):.6g}, by {change.who} at {change.time}"
        text += change.reason and f": {change.reason}"
        LOG.warning("threshold of %s", text)
        recorder.log_event("threshold", text)
        change = dataclasses.replace(change, camera=camera, region=region, old=old, configured=configured)
        state: State = "past" if change.threshold is None else "holds"
        rows.append(dataclasses.replace(change, model=thresholds.model_key, state=state))
    return rows, ""


def restore_thresholds(recorder: Recorder, thresholds: Thresholds, scopes: Collection[str] = ()) -> None:
    """Put the operators' thresholds of an earlier time in force again, where model and configuration are the same.

    `scopes` are those of all recipes: what was set for another recipe waits for that. Any other row ends, which becomes
    an event.
    """
    ended = []
    for change in recorder.threshold_changes("holds"):
        if (scope := str(change.model).partition(" ")[2]) != thresholds.scope and scope in scopes:
            continue
        problem = problem_of(change, thresholds.bounds) or _why_ended(change, thresholds)
        if not problem:
            thresholds.change(change.camera, change.region, change.threshold)
            continue
        ended.append(change.seq)
        place = f"{change.camera}/{change.region}: {change.threshold}, by {change.who},"
        text = f"{f'row {change.seq}' if problem_of(change) else place} holds no more: {problem}"
        LOG.warning("threshold of %s", text)
        recorder.log_event("threshold", text)
    if ended:
        recorder.write_threshold_changes([], ended)


def _why_ended(change: ThresholdChange, thresholds: Thresholds) -> str:
    """Return why a threshold of the last run is not in force in this one; empty where it is."""
    is_known = (change.camera, change.region) in thresholds.places()
    if is_known and change.model != thresholds.model_key:
        return "it was for another model"
    if not is_known or change.configured != thresholds.configured(change.camera, change.region):
        return "it is configured anew"
    return ""
