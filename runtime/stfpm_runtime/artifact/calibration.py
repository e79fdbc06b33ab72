"""The threshold of a model, from the scores of good images that its training did not see."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from .conformal import Threshold, conformal_threshold
from .spec import Spec

OUTLIER_DEVIATIONS = 6
"""A held-out score is far from the rest where it lies more than so many robust standard deviations above the median."""
MIN_DEVIATION = 0.05
"""The robust standard deviation counts as this share of the median at least: scores may be nearly equal."""
FEWEST_FOR_OUTLIERS = 5
"""With fewer held-out scores outliers are not searched for."""


def calibrated(
    spec: Spec,
    scores: Sequence[float],
    false_alarm_rate: float,
    report: Callable[[str], None],
    names: Sequence[str] = (),
    folds: int = 0,
) -> Spec:
    """Return the spec with the scores of good images that the student was not trained on, and their threshold.

    `report` gets a line if they are too few for the rate, and a line that names those that score far above the others;
    `names` are their files' names. `folds` is the number of other students that scored the images; for
    them a line says that the rate is expected only. Raises what `conformal_threshold` does.
    """
    threshold = conformal_threshold(scores, false_alarm_rate)
    n = len(scores)
    method = f"cross-conformal prediction in {folds} folds" if folds else "split conformal prediction"
    if not threshold.meets_request:
        report(
            f"{n} held-out images can guarantee a false-alarm rate of {threshold.guaranteed_rate:.1%} at the lowest, "
            f"not {false_alarm_rate:.1%}: the threshold is their highest score. "
            f"{math.ceil(1 / false_alarm_rate) - 1} held-out images are needed"
        )
    if folds:
        report(
            "the images were scored by students that saw fewer of them, so the threshold is rather too high and its "
            "false-alarm rate is expected, not guaranteed; more images are better"
        )
    outliers = _report_outliers(scores, threshold, names, report)
    return dataclasses.replace(
        spec,
        training=spec.training | outliers,
        threshold=threshold.value,
        folds=folds,
        threshold_set_by=f"{method} on {n} held-out images, {false_alarm_rate:.2%} wished",
        false_alarm_rate=threshold.guaranteed_rate,
        held_out_scores=tuple(scores),
    )


def find_outliers(scores: Sequence[float]) -> list[int]:
    """Return the positions of scores far above the rest, the highest first; none of fewer than FEWEST_FOR_OUTLIERS.

    The robust standard deviation is 1.4826 times the median absolute deviation (MAD) from the median; a score is far
    from the rest above median + OUTLIER_DEVIATIONS * max(1.4826 * MAD, MIN_DEVIATION * median).
    """
    if len(scores) < FEWEST_FOR_OUTLIERS:
        return []
    median = float(np.median(scores))
    deviation = 1.4826 * float(np.median(np.abs(np.asarray(scores) - median)))
    limit = median + OUTLIER_DEVIATIONS * max(deviation, MIN_DEVIATION * median)
    return sorted((i for i, score in enumerate(scores) if score > limit), key=lambda i: -scores[i])


def _report_outliers(
    scores: Sequence[float], threshold: Threshold, names: Sequence[str], report: Callable[[str], None]
) -> dict[str, object]:
    """Report held-out images that score far above the rest; return what the provenance keeps of it."""
    outliers = find_outliers(scores)
    if not outliers:
        return {"held_out_outliers": {}}
    named = {names[i] if names else f"number {i + 1}": scores[i] for i in outliers}
    rest = [score for i, score in enumerate(scores) if i not in set(outliers)]
    without = conformal_threshold(rest, threshold.requested_rate).value
    listed = ", ".join(f"{name} ({score:.4g})" for name, score in named.items())
    report(
        f"warning: {len(outliers)} of {len(scores)} held-out images score far above the rest, whose median is "
        f"{float(np.median(scores)):.4g}: {listed}"
    )
    report(
        f"the threshold is {threshold.value:.4g}; without these images it would be {without:.4g}. Look at them: where "
        "one is damaged or shows no good part, leave it out and repeat this"
    )
    return {"held_out_outliers": {"scores": named, "threshold_without": without}}
