"""The words of a report in the language of its reader. English is in the code, others are files like de.json."""

from __future__ import annotations

import json
import re
from importlib import resources

from stfpm_runtime.errors import OptionError


def languages() -> list[str]:
    """Return the codes of the languages that there are."""
    files = resources.files(__package__).iterdir()
    return sorted(["en", *(file.name.removesuffix(".json") for file in files if file.name.endswith(".json"))])


class Words:
    """Translates texts. A text of a catalogue with {} stands for all texts that have something else there."""

    def __init__(self, language: str) -> None:
        """Read the catalogue. Raises OptionError for a language that there is not."""
        if language not in languages():
            raise OptionError(f"got the language {language!r:.20}; expected one of {', '.join(languages())}")
        self.language = language
        text = "{}" if language == "en" else (resources.files(__package__) / f"{language}.json").read_text("utf-8")
        self._catalogue: dict[str, str] = json.loads(text)
        self._patterns = [(re.compile("(.*)".join(map(re.escape, key.split("{}"))), re.DOTALL), value)
                          for key, value in self._catalogue.items() if "{}" in key]  # fmt: skip

    def __call__(self, text: str) -> str:
        """Return the text in the language, or as it is where the catalogue does not have it."""
        if text in self._catalogue:
            return self._catalogue[text]
        for pattern, translated in self._patterns:
            if match := pattern.fullmatch(text):
                groups = [*map(self, match.groups()), ""]
                return "".join(piece + group for piece, group in zip(translated.split("{}"), groups, strict=True))
        return text
