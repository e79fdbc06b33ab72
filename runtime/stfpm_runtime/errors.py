"""Exceptions for errors that the user can fix. A message says in one line what was got, what was expected, what to do.

    StfpmError
    ├── OptionError         an option's value makes no sense, or contradicts another
    ├── ConfigError         a configuration file is wrong, in a line that it names
    ├── ImageError          one picture or frame cannot be used (an inspection makes a `fault` of it)
    ├── DataError           a folder of pictures does not hold what the command needs
    ├── ArtifactError       a model file is missing, damaged, of another kind, or from a newer version
    ├── OutputError         a file or folder cannot be written
    ├── JournalError        a journal cannot be written or read, is damaged, or of another version
    ├── TriggerError        a trigger's message or its part id is not understood
    ├── UnavailableError    the other side of an output cannot be reached, or refuses for now
    ├── EngineError         the engine refused its input, or failed
    ├── TrainingError       training cannot go on
    ├── ParityError         the exported file disagrees with PyTorch
    └── MissingExtraError   a package that this needs is not installed

A bug is never a StfpmError: it keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable


class StfpmError(Exception):
    """Base of everything that the user can fix. Commands print it as one line on stderr and exit with 1."""


class OptionError(StfpmError):
    """An option's value makes no sense, or contradicts another."""


class ConfigError(StfpmError):
    """A configuration file is wrong, in a line that the message names."""


class ImageError(StfpmError):
    """One picture or frame cannot be used."""


class DataError(StfpmError):
    """A folder of pictures does not hold what the command needs."""


class ArtifactError(StfpmError):
    """A model file is missing, damaged, of another kind, or from a newer version."""


class OutputError(StfpmError):
    """A file or folder cannot be written."""


class JournalError(StfpmError):
    """A journal cannot be written or read, is damaged, or of another version."""


class TriggerError(StfpmError):
    """A trigger's message or its part id is not understood: bad JSON, an id that is too long, a control character."""


class UnavailableError(StfpmError):
    """The other side of an output cannot be reached, or refuses for now. The text has no secrets in it."""


class EngineError(StfpmError):
    """The engine refused its input, or failed."""


class TrainingError(StfpmError):
    """Training cannot go on."""


class ParityError(StfpmError):
    """The exported file disagrees with PyTorch by more than the tolerance."""


class MissingExtraError(StfpmError):
    """A package that this needs is not installed.

    >>> str(MissingExtraError("onnxruntime", "cpu"))
    "onnxruntime is not installed; install it with: pip install 'stfpm-edge[cpu]'"
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'stfpm-edge[{extra}]'")


def first_line(error: Exception) -> str:
    """Return the first line of another library's message, which may go on for pages."""
    return str(error).strip().partition("\n")[0]


def name_some(names: Iterable[str], count: int = 5) -> str:
    """Return the first names for a message, at most `count`, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:count]) + (f" and {len(listed) - count} more" if len(listed) > count else "")
