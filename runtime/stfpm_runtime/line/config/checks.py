"""Checks of values that tables of a line's configuration share. Each raises MistakeError for the key."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from .toml_file import MistakeError

NAME = re.compile(r"[\w-]+")
PRINTABLE = re.compile(r"[!-~]+")
"""What an address may hold: ASCII without spaces and control characters."""
FLOAT32_MAX = 3.4028234663852886e38
LONGEST_S = 3600.0
"""The longest time that may be configured, in seconds."""


def refuse_if(condition: object, key: str, message: str) -> None:
    """Raise MistakeError for this key with this message if the condition is true."""
    if condition:
        raise MistakeError(key, message)


def check_name(name: str) -> None:
    """Raise unless the name can be a part of a file name and of an address."""
    refuse_if(not NAME.fullmatch(name), "name", f"got {name!r}; expected letters, digits, - and _")


def check_threshold(threshold: float | None) -> None:
    """Raise unless it is None or a finite number that 32 bits hold, as scores are."""
    is_invalid = threshold is not None and not abs(threshold) <= FLOAT32_MAX
    refuse_if(is_invalid, "threshold", f"got {threshold}; expected a finite number that a 32-bit float holds")


def check_least(key: str, value: int | None, least: int) -> None:
    """Raise unless it is None, or `least` or more."""
    refuse_if(value is not None and value < least, key, f"got {value}; expected {least} or more")


def check_range(key: str, value: float | None, least: float) -> None:
    """Raise unless it is None, or finite and `least` or more."""
    is_invalid = value is not None and not least <= value < math.inf
    refuse_if(is_invalid, key, f"got {value}; expected a finite number of {least:g} or more")


def check_seconds(key: str, value: float, least: float) -> None:
    """Raise unless it is a time in seconds from `least` to an hour."""
    check_range(key, value, least)
    refuse_if(value > LONGEST_S, key, f"got {value:g}; expected at most {LONGEST_S:g} s")


def check_age(max_age_s: float) -> None:
    """Raise unless it is an age in seconds, or 0."""
    check_range("max_age_s", max_age_s, 0.0)
    refuse_if(0 < max_age_s < 0.1, "max_age_s", f"got {max_age_s:g}; expected 0, or 0.1 s or more")


def check_unique(key: str, names: Sequence[str]) -> None:
    """Raise for a name that is there twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    refuse_if(twice, key, f"there are two of the name {''.join(twice[:1])!r}; expected names that differ")


def check_host(host: str) -> None:
    """Raise unless it can be a host's name or address."""
    expected = "a name or an address in ASCII, without spaces"
    refuse_if(not PRINTABLE.fullmatch(host), "host", f"got {host!r}; expected {expected}")


def check_port(port: int | None) -> None:
    """Raise unless it is a port, or None."""
    refuse_if(port is not None and not 0 < port < 65536, "port", f"got {port}; expected 1 to 65535")


def check_url(url: str, schemes: tuple[str, ...], expected: str) -> None:
    """Raise, without showing the address, unless it is one that a request can hold."""
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        is_valid = False
    remedy = "in ASCII, other characters as %XX (for ü: %C3%BC)"
    refuse_if(not (is_valid and PRINTABLE.fullmatch(url)), "url", f"is no address; expected {expected}, {remedy}")
