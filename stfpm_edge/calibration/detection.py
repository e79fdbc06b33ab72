"""The synthetic defects that a model detects at its threshold are counted here, by kind and size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stfpm_edge.model import Stfpm
from stfpm_edge.pictures.synthetic_defects import DEFECTS_PER_KIND_AND_SIZE, KINDS, SIZES, draw_defects
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.score import MIN_REJECT_SCORE, relative_score

from .threshold import score_images

MIN_FOUND = 0.4
"""A product is too hard for a model that finds a smaller share of the synthetic defects.

In 38 trainings on five products, models that found up to 0.29 missed 65% to 100% of the real defects, and models that
found 0.56 or more missed up to 40% (`benchmarks/results/recipes.json`).
"""


@dataclass(frozen=True)
class DetectedDefects:
    """The scores of pictures with a synthetic defect, by its kind and size: those above the threshold are found."""

    scores: dict[str, dict[float, list[float]]]
    """kind -> size as a share of the short side -> a score for each defect that was drawn."""
    threshold: float

    @property
    def counts(self) -> dict[str, dict[float, tuple[int, int]]]:
        """Return kind -> size -> (found, drawn)."""
        return {
            kind: {size: (sum(score > self.threshold for score in scores), len(scores)) for size, scores in row.items()}
            for kind, row in self.scores.items()
        }

    @property
    def found(self) -> int:
        """Return the number of defects whose pictures are rejected."""
        return sum(found for sizes in self.counts.values() for found, _ in sizes.values())

    @property
    def drawn(self) -> int:
        """Return the number of defects that were drawn."""
        return sum(drawn for sizes in self.counts.values() for _, drawn in sizes.values())

    @property
    def is_too_hard(self) -> bool:
        """Return whether a smaller share than `MIN_FOUND` of the defects is found."""
        return self.found < MIN_FOUND * self.drawn

    def lines(self) -> list[str]:
        """Return a table of the shares that were found, a line for each kind."""
        sizes = sorted(next(iter(self.counts.values())))
        head = "kind of defect".ljust(16) + "".join(f"{size:.0%} of the side".rjust(16) for size in sizes)
        rows = [
            kind.ljust(16) + "".join("{} of {}".format(*row[size]).rjust(16) for size in sizes)
            for kind, row in self.counts.items()
        ]
        return [head, *rows]

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON, the scores relative to the threshold where it is above 0."""
        rows = [
            {"kind": kind, "size": size, "found": found, "drawn": drawn, "relative_scores": self._relative(kind, size)}
            for kind, sizes in self.counts.items() for size, (found, drawn) in sizes.items()
        ]  # fmt: skip
        return {"found": self.found, "drawn": self.drawn, "too_hard": self.is_too_hard, "by_kind_and_size": rows}

    def _relative(self, kind: str, size: float) -> list[float]:
        relative = (relative_score(score, self.threshold) for score in sorted(self.scores[kind][size]))
        rounded = ((score, float(f"{score:.6g}")) for score in relative if score is not None)
        return [max(short, MIN_REJECT_SCORE) if score > 1 else short for score, short in rounded]


def find_synthetic_defects(
    model: Stfpm, good: Image, threshold: float, seed: int, report: Callable[[int, int], None]
) -> DetectedDefects:
    """Count the synthetic defects, drawn into good images uint8 [N, H, W, 3], that score above the threshold.

    One that changes no pixel, a piece of a black picture pasted into it, is no defect and does not count.
    """
    defects = draw_defects(good, SIZES, DEFECTS_PER_KIND_AND_SIZE, seed)
    pictures = np.stack([defect.image for defect in defects])
    scores = score_images(model, pictures, lambda done: report(done, len(defects)))
    by_kind: dict[str, dict[float, list[float]]] = {kind: {size: [] for size in SIZES} for kind in KINDS}
    for defect, score in zip(defects, scores, strict=True):
        if defect.mask.any():
            by_kind[defect.kind][defect.size].append(float(score))
    return DetectedDefects(by_kind, threshold)


def report_found(found: DetectedDefects, spec: Spec, say: Callable[[str], None]) -> None:
    """Report which synthetic defects are found, and a warning where the product is too hard for the model."""
    say(
        f"{found.found} of {found.drawn} synthetic defects would be found, at a threshold that "
        f"{spec.false_alarm_rate or 0:.1%} of good parts exceed at most:"
    )
    for line in found.lines():
        say(f"  {line}")
    if found.is_too_hard:
        say(
            f"warning: this product is TOO HARD for this model: it finds less than {MIN_FOUND:.0%} of the "
            "synthetic defects. Do not use it. A larger input (--size), an input of the pictures' own aspect ratio, a "
            "tighter and steadier view of the part, or more good images may help"
        )
