"""What an evaluation found, and of which file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from .evaluate import CategoryResult

SCHEMA = 1
"""Version of the JSON."""


@dataclass(frozen=True)
class Model:
    """Which artifact was evaluated."""

    path: str
    """As it was given."""
    sha256: str
    name: str
    precision: str
    provider: str
    """What executed it, in the engine's words."""
    threshold: float | None


@dataclass(frozen=True)
class Mean:
    """Figures averaged over categories; None where a category has none."""

    image_auroc: float
    pixel_auroc: float | None
    pro: float | None


@dataclass(frozen=True)
class Report:
    """A model's accuracy on a data set."""

    model: Model
    data: str
    """The data set's name."""
    categories: tuple[CategoryResult, ...]
    """At least one."""

    @property
    def mean(self) -> Mean:
        """Of the categories, each with the same weight."""
        results = self.categories
        return Mean(
            image_auroc=fmean(result.image_auroc for result in results),
            pixel_auroc=_mean([result.pixel_auroc for result in results]),
            pro=_mean([result.pro for result in results]),
        )

    def to_json(self) -> str:
        """All of it as JSON, with a schema version and the mean; unknown figures are null."""
        data = {"schema": SCHEMA, **dataclasses.asdict(self), "mean": dataclasses.asdict(self.mean)}
        return json.dumps(data, indent=2, allow_nan=False)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None
