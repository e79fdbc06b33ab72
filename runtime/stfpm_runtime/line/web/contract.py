"""What the API takes: each endpoint's parameters as data, from which requests are checked and OpenAPI is written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

BODY_BYTES = 4096
"""Of a request's body, at most."""


class RefusedError(Exception):
    """A request that is answered with this status and message."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Parameter:
    """One value that a request names."""

    name: str
    kind: Literal["integer", "number", "string", "boolean"]
    text: str
    where: Literal["path", "query", "body"] = "query"
    default: Any = None
    """None: required."""
    least: float | None = None
    """Of a number; of a text, its least length."""
    most: float | None = None
    nullable: bool = False
    choices: tuple[str, ...] = ()
    pattern: str = ""
    """Of the whole text."""

    @property
    def is_required(self) -> bool:
        """Whether a request without it is refused."""
        return self.default is None

    def schema(self) -> dict[str, Any]:
        """As JSON Schema has it."""
        bounds = ("minLength", "maxLength") if self.kind == "string" else ("minimum", "maximum")
        schema: dict[str, Any] = {"type": [self.kind, "null"] if self.nullable else self.kind}
        for name, value in zip(bounds, (self.least, self.most), strict=True):
            if value is not None:
                schema[name] = value if self.kind == "number" else int(value)
        if self.pattern:
            schema["pattern"] = f"^{self.pattern}$"
        if self.choices:
            schema["enum"] = list(self.choices)
        if self.default is not None:
            schema["default"] = self.default
        return schema

    def check(self, value: object) -> object:
        """The value, if it is one of these. Raises RefusedError."""
        if (value is None and self.nullable) or self._fits(value):
            return float(value) if self.kind == "number" and isinstance(value, int) else value
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"{self.name}: got {str(value)[:60]!r}; expected {self._expected()}")

    def parse(self, text: str) -> object:
        """The value that an address names. Raises RefusedError."""
        value: object = text
        if self.kind == "boolean":
            value = {"true": True, "false": False}.get(text, text)
        elif self.kind in ("integer", "number"):
            try:
                value = int(text) if self.kind == "integer" and text.isascii() else float(text)
            except ValueError:
                value = text
        return self.check(value)

    def _fits(self, value: object) -> bool:
        kinds: dict[str, tuple[type, ...]] = {
            "integer": (int,), "number": (int, float), "string": (str,), "boolean": (bool,),
        }  # fmt: skip
        if type(value) not in kinds[self.kind] or (self.choices and value not in self.choices):
            return False
        if isinstance(value, str) and self.pattern and not re.fullmatch(self.pattern, value):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        size = len(value) if isinstance(value, str) else value
        assert isinstance(size, int | float), "what the kinds have"
        return (self.least is None or size >= self.least) and (self.most is None or size <= self.most)

    def _expected(self) -> str:
        if self.pattern:
            return f"up to {self.most:g} letters, digits, spaces and . , ' @ -"
        if self.choices:
            return "one of " + ", ".join(self.choices)
        words = {"integer": "a whole number", "number": "a number", "string": "a text", "boolean": "true or false"}
        unit = " characters" if self.kind == "string" else ""
        bounds = [f"{word} {value:g}{unit}" for word, value in (("at least", self.least), ("at most", self.most))
                  if value is not None]  # fmt: skip
        return ", ".join([words[self.kind], *bounds])


def from_query(parameters: tuple[Parameter, ...], query: Mapping[str, str]) -> dict[str, Any]:
    """The values of an address, defaults filled in. Raises RefusedError."""
    known = [parameter for parameter in parameters if parameter.where == "query"]
    _refuse_unknown(known, query)
    return {p.name: p.parse(query[p.name]) if p.name in query else _default(p) for p in known}


def from_body(parameters: tuple[Parameter, ...], body: bytes) -> dict[str, Any]:
    """The values of a JSON object, defaults filled in. Raises RefusedError."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "the body is not JSON; expected an object") from None
    if not isinstance(content, dict):
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"got {type(content).__name__}; expected a JSON object")
    known = [parameter for parameter in parameters if parameter.where == "body"]
    _refuse_unknown(known, content)
    return {p.name: p.check(content[p.name]) if p.name in content else _default(p) for p in known}


def _default(parameter: Parameter) -> object:
    if parameter.is_required:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"{parameter.name} is missing; expected {parameter.text}")
    return parameter.default


def _refuse_unknown(known: list[Parameter], given: Mapping[str, object]) -> None:
    names = [parameter.name for parameter in known]
    if unknown := [name for name in given if name not in names]:
        expected = ", ".join(names) or "none"
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"unknown: {unknown[0][:60]!r}; expected {expected}")
