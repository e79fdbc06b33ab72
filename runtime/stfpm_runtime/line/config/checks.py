"""What several tables of a line's configuration ask of their values. Each raises MistakeError for the key."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from .toml_file import MistakeError

NAME = re.compile(r"[\w-]+")
"""Of a camera or region: it becomes a part of file names and addresses."""


def check_name(name: str) -> None:
    """A name that can be a part of a file name and of an address."""
    if not NAME.fullmatch(name):
        raise MistakeError("name", f"got {name!r}; expected letters, digits, - and _")


FLOAT32_MAX = 3.4028234663852886e38


def check_threshold(threshold: float | None) -> None:
    """A finite number that 32 bits hold, as scores are; if any."""
    if threshold is not None and not abs(threshold) <= FLOAT32_MAX:
        raise MistakeError("threshold", f"got {threshold}; expected a finite number that a 32-bit float holds")


def check_least(key: str, value: int | None, least: int) -> None:
    """`least` or more, if any."""
    if value is not None and value < least:
        raise MistakeError(key, f"got {value}; expected {least} or more")


def check_range(key: str, value: float | None, least: float) -> None:
    """Finite, and `least` or more, if any."""
    if value is not None and not (least <= value < math.inf):
        raise MistakeError(key, f"got {value}; expected a finite number of {least:g} or more")


def check_unique(key: str, names: Sequence[str]) -> None:
    """No name twice."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise MistakeError(key, f"there are two of the name {twice[0]!r}; expected names that differ")
