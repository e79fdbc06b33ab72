"""Checks of values in a line's configuration. Each takes the key and the value, and raises MistakeError for the key."""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

from .toml_file import MistakeError

PRINTABLE = re.compile(r"[!-~]+")
"""What an address may hold: ASCII without spaces and control characters."""
FLOAT32_MAX = 3.4028234663852886e38
LONGEST_S = 3600.0
"""The longest time that may be configured, in seconds."""
Check = Callable[[str, Any], None]


class Table:
    """A table of the configuration: the checks in the annotations of its fields hold for their values."""

    def __post_init__(self) -> None:
        for key, hint in typing.get_type_hints(type(self), include_extras=True).items():
            for check in getattr(hint, "__metadata__", ()):
                check(key, getattr(self, key))


def refuse_if(condition: object, key: str, message: str) -> None:
    """Raise MistakeError for this key with this message if the condition is true."""
    if condition:
        raise MistakeError(key, message)


def check_name(key: str, name: str) -> None:
    """Raise unless the name can be a part of a file name and of an address."""
    refuse_if(not re.fullmatch(r"[\w-]+", name), key, f"got {name!r}; expected letters, digits, - and _")


def check_threshold(key: str, threshold: float | None) -> None:
    """Raise unless it is None or a finite number that 32 bits hold, as scores are."""
    is_invalid = threshold is not None and not abs(threshold) <= FLOAT32_MAX
    refuse_if(is_invalid, key, f"got {threshold}; expected a finite number that a 32-bit float holds")


def check_sha256(key: str, digest: str) -> None:
    """Raise unless it is a SHA-256 in hexadecimal, or empty."""
    expected = f"got {digest!r}; expected 64 of 0-9 and a-f, as sha256sum prints them"
    refuse_if(digest and not re.fullmatch(r"[0-9a-f]{64}", digest), key, expected)


def at_least(least: int) -> Check:
    """Return the check for a whole number of `least` or more, or None."""

    def check(key: str, value: int | None) -> None:
        refuse_if(value is not None and value < least, key, f"got {value}; expected {least} or more")

    return check


def number(least: float) -> Check:
    """Return the check for a finite number of `least` or more, or None."""

    def check(key: str, value: float | None) -> None:
        is_invalid = value is not None and not least <= value < math.inf
        refuse_if(is_invalid, key, f"got {value}; expected a finite number of {least:g} or more")

    return check


def seconds(least: float) -> Check:
    """Return the check for a time in seconds from `least` to an hour."""

    def check(key: str, value: float) -> None:
        number(least)(key, value)
        refuse_if(value > LONGEST_S, key, f"got {value:g}; expected at most {LONGEST_S:g} s")

    return check


def check_age(key: str, age_s: float) -> None:
    """Raise unless it is an age in seconds, or 0."""
    number(0.0)(key, age_s)
    refuse_if(0 < age_s < 0.1, key, f"got {age_s:g}; expected 0, or 0.1 s or more")


def check_unique(key: str, names: Sequence[str]) -> None:
    """Raise for a name that is there twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    refuse_if(twice, key, f"there are two of the name {''.join(twice[:1])!r}; expected names that differ")


def check_host(key: str, host: str) -> None:
    """Raise unless it can be a host's name or address."""
    expected = "a name or an address in ASCII, without spaces"
    refuse_if(not PRINTABLE.fullmatch(host), key, f"got {host!r}; expected {expected}")


def check_port(key: str, port: int | None) -> None:
    """Raise unless it is a port, or None."""
    refuse_if(port is not None and not 0 < port < 65536, key, f"got {port}; expected 1 to 65535")


def check_bits(key: str, bits: int | None) -> None:
    """Raise unless it is a number of bits that a 16-bit picture can use, or None."""
    refuse_if(bits is not None and not 9 <= bits <= 16, key, f"got {bits}; expected 9 to 16")


def check_url(url: str, schemes: tuple[str, ...], expected: str) -> None:
    """Raise, without showing the address, unless it is one that a request can hold."""
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        is_valid = False
    remedy = "in ASCII, other characters as %XX (for ü: %C3%BC)"
    refuse_if(not (is_valid and PRINTABLE.fullmatch(url)), "url", f"is no address; expected {expected}, {remedy}")


Name = Annotated[str, check_name]
Threshold = Annotated[float | None, check_threshold]
Host = Annotated[str, check_host]
Age = Annotated[float, check_age]
