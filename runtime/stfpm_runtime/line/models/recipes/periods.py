"""From when on which recipe judges: the time of a part's trigger decides, not the time at which it is judged."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stfpm_runtime.line.cameras.worker import TriggeredFrame
from stfpm_runtime.line.models.active_model import ActiveModel

KEPT_S = 60.0
"""For so many seconds after a change, parts that were triggered before it are judged by the earlier recipe."""
MAX_PERIODS = 64
"""The most periods that are kept."""
TOO_LATE = "its recipe is not loaded any more: the part waited for {:.0f} s or more, or through too many changes"


@dataclass(frozen=True, eq=False)
class ModelPeriod:
    """From when on frames are judged by a model, or are faults."""

    from_ns: int
    """`time.monotonic_ns()`."""
    model: ActiveModel
    reason: str = ""
    """Why frames are faults; empty where the model judges."""


class Periods:
    """The newest periods, the oldest first. The caller has the lock for all but `current`."""

    def __init__(self, model: ActiveModel, reason: str, none: ActiveModel) -> None:
        """Begin with a model, or a reason why it does not judge; `none` has the cameras of the line without recipe."""
        self._periods: tuple[ModelPeriod, ...] = (ModelPeriod(0, model, reason),)
        self._too_late = ModelPeriod(0, none, TOO_LATE.format(KEPT_S))

    @property
    def current(self) -> ModelPeriod:
        """Return the period of what is triggered now. For any thread."""
        return self._periods[-1]

    def begin(self, model: ActiveModel) -> None:
        """Judge by this model what is triggered from now on."""
        self._periods += (ModelPeriod(time.monotonic_ns(), model),)

    def end(self, model: ActiveModel, reason: str) -> None:
        """Make faults of what is triggered from now on, with the cameras of this model."""
        last = self.current
        if last.reason:  # nothing is judged as it is: requests without end add no periods
            self._periods = (*self._periods[:-1], ModelPeriod(last.from_ns, model, reason))
        else:
            self._periods += (ModelPeriod(time.monotonic_ns(), model, reason),)

    def forget(self) -> None:
        """Forget periods of long ago; their models may be closed. Called by the loop, which uses none of them then."""
        oldest_ns = time.monotonic_ns() - KEPT_S * 1e9
        while len(self._periods) > 1 and (self._periods[1].from_ns < oldest_ns or len(self._periods) > MAX_PERIODS):
            self._periods = self._periods[1:]

    def used(self) -> Iterator[int]:
        """Yield the numbers of the recipes that may still judge."""
        yield from (period.model.recipe.id for period in self._periods if period.model.recipe)

    def assign(self, frames: Sequence[TriggeredFrame]) -> list[tuple[ModelPeriod, list[TriggeredFrame]]]:
        """Return the frames by their periods, in their order, each with the recipe's camera."""
        groups: dict[ModelPeriod, list[TriggeredFrame]] = {}
        for frame in frames:
            at_ns = frame.request.at_ns or frame.frame.arrived_ns
            found = (period for period in reversed(self._periods) if period.from_ns <= at_ns)
            period = next(found, self._too_late)
            own = dataclasses.replace(frame, camera=period.model.cameras[frame.camera.name])
            groups.setdefault(period, []).append(own)
        return list(groups.items())
