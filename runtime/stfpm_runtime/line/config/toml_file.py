"""A TOML file as frozen dataclasses: every mistake is reported with its line, every unknown key is refused.

A dataclass is the schema: its fields are the keys, their annotations the types, a field without a default is required,
and its `__post_init__` raises MistakeError for a value that makes no sense. A table is a dataclass, or a mapping where
its keys are free, and an array is a tuple.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from stfpm_runtime.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")
KeyPath = tuple[str | int, ...]
"""For example ("camera", 0, "region", 1, "name")."""
Table = dict[str, Any]
Hint: typing.TypeAlias = Any
"""A type annotation."""
WORDS = {str: "a text in quotes", bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}


class MistakeError(Exception):
    """A dataclass raises it for a value that makes no sense; the user gets a ConfigError with file and line."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key
        """A key of the dataclass that raises it; empty for the table as a whole."""


def read_toml(path: Path, schema: type[T]) -> T:
    """Return the file as an instance of `schema`, with paths relative to the file's folder.

    Raises ConfigError with the first mistake, by its line: `line3.toml:17: camera.trigger: got ...`.
    """
    found, mistakes = _read(path, schema)
    if found is None:
        raise ConfigError(mistakes[0])
    return found


def find_mistakes(path: Path, schema: type[T]) -> list[str]:
    """Return all mistakes of a file, each with its line, as far as one does not hide another; none where it is right.

    Raises ConfigError for a file that cannot be read as TOML.
    """
    return _read(path, schema)[1]


def _read(path: Path, schema: type[T]) -> tuple[T | None, list[str]]:
    """Return the file as an instance of `schema`, or None and its mistakes."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a TOML file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text; expected a TOML file") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    try:
        return _build(schema, table, (), path.parent), []
    except _LocatedError as error:
        located = [(_line(text, keys), keys, message) for keys, message in error.mistakes]
        located.sort(key=lambda mistake: mistake[0])
    described = []
    for line, keys, message in located:
        place = ".".join(str(key) for key in keys if isinstance(key, str))
        described.append(f"{path}:{line}: {place + ': ' if place else ''}{message}")
    return None, described


class _LocatedError(Exception):
    def __init__(self, *mistakes: tuple[KeyPath, str]) -> None:
        super().__init__()
        self.mistakes = mistakes
        """Each with the place of the value."""


def _build(schema: type[T], table: Table, keys: KeyPath, folder: Path) -> T:
    """Return the table as a `schema`. Raises _LocatedError with all mistakes in it."""
    assert dataclasses.is_dataclass(schema), "a schema"
    hints, annotated = typing.get_type_hints(schema), typing.get_type_hints(schema, include_extras=True)
    missing = dataclasses.MISSING
    is_optional = {
        field.name: not (field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(schema)
    }
    names = sorted(is_optional, key=lambda name: is_optional[name])
    mistakes: list[tuple[KeyPath, str]] = []
    values: Table = {}
    misspelt: list[str] = []
    for key, value in table.items():
        if key not in names:
            close = difflib.get_close_matches(key, names, 1)
            meant = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(names)}"
            mistakes.append(((*keys, key), f"unknown key; {meant}"))
            misspelt += close
            continue
        try:
            values[key] = _value(hints[key], value, (*keys, key), folder)
            for check in getattr(annotated[key], "__metadata__", ()):  # here too, so that no mistake hides another
                check(key, values[key])
        except _LocatedError as error:
            mistakes += error.mistakes
        except MistakeError as mistake:
            mistakes.append(((*keys, mistake.key), str(mistake)))
    for name in names:
        if not is_optional[name] and name not in table and name not in misspelt:
            mistakes.append((keys, f"the key {name} is missing; expected {_expected(hints[name])}"))
    if not mistakes:
        try:
            return typing.cast(T, schema(**values))
        except MistakeError as mistake:
            mistakes.append(((*keys, mistake.key) if mistake.key else keys, str(mistake)))
    raise _LocatedError(*mistakes)


def _value(hint: Hint, value: object, keys: KeyPath, folder: Path) -> Any:  # noqa: ANN401 (as the annotation has it)
    """Return one value as its annotation demands; a path is relative to the folder. Raises _LocatedError."""
    if isinstance(hint, types.UnionType):  # of a type and None, which TOML cannot write
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(typing.cast(type, hint), value, keys, folder)
    origin: Hint = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is ...:
            return _values(arguments[0], value, keys, folder)
        if len(value) == len(arguments):
            return tuple(_value(kind, item, keys, folder) for kind, item in zip(arguments, value, strict=True))
    if origin is Mapping and isinstance(value, dict):
        return {key: _value(arguments[1], item, (*keys, key), folder) for key, item in value.items()}
    if origin is Literal and value in arguments:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if hint is Path and type(value) is str and value:
        return folder / value
    if type(value) is hint:  # not isinstance: true is no whole number
        return value
    secret = keys[-1] in ("source", "token", "password", "url", "key")
    raise _LocatedError((keys, f"got {type(value).__name__ if secret else repr(value)}; expected {_expected(hint)}"))


def _values(hint: Hint, items: list[Any], keys: KeyPath, folder: Path) -> tuple[Any, ...]:
    """Return the items of an array. Raises _LocatedError with all mistakes in them."""
    values: list[Any] = []
    mistakes: list[tuple[KeyPath, str]] = []
    for number, item in enumerate(items):
        try:
            values.append(_value(hint, item, (*keys, number), folder))
        except _LocatedError as error:
            mistakes += error.mistakes
    if mistakes:
        raise _LocatedError(*mistakes)
    return tuple(values)


def _expected(hint: Hint) -> str:
    """Return an annotation in words."""
    origin: Hint = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return _expected(arguments[0])
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple:
        if dataclasses.is_dataclass(arguments[0]):
            return "tables in double brackets"
        if arguments[-1] is ...:
            return f"an array, each {_expected(arguments[0])}"
        return f"an array of {len(arguments)}, each {_expected(arguments[0])}"
    if dataclasses.is_dataclass(hint) or origin is Mapping:
        return "a table in brackets"
    return WORDS[hint]


def _line(text: str, keys: KeyPath) -> int:
    """Return the line, from 1, on which the value at `keys` begins, or the nearest table above it.

    The parser returns no positions. A value begins on the line after the longest beginning of the text that is TOML
    without it: this is exact for every syntax, and slow only where there is a mistake.
    """
    lines = text.splitlines()
    starts: dict[KeyPath, int] = {}
    begun = 1
    for count in range(1, len(lines) + 1):
        try:
            table = tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        for found in _paths(table):
            starts.setdefault(found, begun)
        begun = count + 1
    while keys and keys not in starts:
        keys = keys[:-1]
    return starts.get(keys, 1)


def _paths(value: object, keys: KeyPath = ()) -> typing.Iterator[KeyPath]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*keys, key)
        yield from _paths(item, (*keys, key))
