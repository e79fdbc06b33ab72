"""The relative score: a score over the threshold in force for its verdict. 1 is the limit for every model and place.

It is computed here alone, and `format_score` alone writes it for people.
"""

from __future__ import annotations

import math
from numbers import Real

MIN_REJECT_SCORE = 1 + 2.0**-23
"""The least relative score of a reject: the 32-bit float after 1, so that a PLC reads a number above 1, too."""
FLOAT32_MAX = (2 - 2.0**-23) * 2.0**127


def relative_score(score: float | None, threshold: float | None) -> float | None:
    """Return score / threshold: above 1 exactly where the score is above the threshold, as a 32-bit float, too.

    None without a score, for a threshold that is not above 0, and where another program wrote no number into a journal.
    """
    if not isinstance(score, Real) or not isinstance(threshold, Real) or not (math.isfinite(score) and threshold > 0):
        return None
    relative = min(score / threshold, FLOAT32_MAX)
    return max(relative, MIN_REJECT_SCORE) if score > threshold else relative


def format_score(score: float | None, threshold: float | None) -> str:
    """Return the relative score with two decimals: up to 1.00 at or below the threshold, 1.01 or more above it.

    Without a relative score it is the score itself, `score 0.0312`; an empty text without a score.
    """
    relative = relative_score(score, threshold)
    if relative is None:
        return _raw("score", score, ".4g")
    return f"{max(relative, 1.01) if relative > 1 else relative:.2f}"


def describe_score(score: float | None, threshold: float) -> str:
    """Return the relative score and what it is made of: `2.50 (score 0.03125, threshold 0.0125)`.

    Without a relative score it is the score and the threshold; an empty text without a score.
    """
    if score is None:
        return ""
    parts = f"{_raw('score', score, '.6g')}, {_raw('threshold', threshold, '.6g')}"
    return parts if relative_score(score, threshold) is None else f"{format_score(score, threshold)} ({parts})"


def _raw(name: str, value: object, form: str) -> str:
    return "" if value is None else f"{name} {value:{form}}" if isinstance(value, Real) else f"{name} {value}"
