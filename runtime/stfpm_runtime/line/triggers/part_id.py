"""Part ids, checked in one place for all triggers.

A part id is text of printable characters and GS1's separator (U+001D). It is never cut: an id that is too long or holds
another character is refused, so that two different ids never look the same, and no id can forge a line of a log.
"""

from __future__ import annotations

import json

from stfpm_runtime.errors import TriggerError
from stfpm_runtime.line.journal.rows import GS1_SEPARATOR
from stfpm_runtime.options import PART_LENGTH

EXPECTED = '{"part": "ID"}, or an empty message for a part without an id'


def parse_part(payload: bytes, max_length: int = PART_LENGTH, plain_text: bool = False) -> str:
    """Return the part id that a trigger's message carries; an empty text where it carries none.

    The message is UTF-8: empty, a JSON object with the key `part` (a text or a whole number; other keys are ignored),
    or a JSON text. With `plain_text` any other message is the id itself, without the white space around it.
    Raises TriggerError for a message that is not understood and for an id that `check_part` refuses.
    """
    try:
        text = payload.decode("utf-8").strip(" \t\r\n")
    except UnicodeDecodeError:
        raise TriggerError(f"got {payload[:40]!r}, which is not UTF-8; expected {EXPECTED}") from None
    if not text:
        return ""
    if plain_text and text[0] not in '{"':
        return check_part(text, max_length)
    try:
        found = json.loads(text, strict=False)  # a scanner puts GS1's separator into the text as it is
    except (ValueError, RecursionError):
        raise TriggerError(f"got {text[:40]!a}, which is not JSON; expected {EXPECTED}") from None
    if isinstance(found, dict):
        if found and "part" not in found:
            raise TriggerError(f"got an object without the key part, {text[:40]!a}; expected {EXPECTED}")
        found = found.get("part", "")
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str):
        raise TriggerError(f"got the part {text[:40]!a}; expected a text or a whole number: {EXPECTED}")
    return check_part(found, max_length)


def check_part(text: str, max_length: int = PART_LENGTH) -> str:
    """Return the part id unchanged. Raises TriggerError where it is too long or holds what an id may not hold."""
    if len(text) > max_length:
        raise TriggerError(
            f"got a part id of {len(text)} characters, {text[:40]!a} and so on; expected up to {max_length}; "
            "set part_length, or shorten the id"
        )
    if not text.replace(GS1_SEPARATOR, "").isprintable():
        raise TriggerError(f"got the part id {text!a}; expected printable characters and GS1's separator alone")
    return text
