"""Which threshold holds where: the operator's word, else the configuration's innermost, else the model's own.

The operator's word is a row in the journal's table `thresholds`, written by the dashboard or by `stfpm-journal`, and
taken over by the running line between two frames. It is for one model and for one configuration: it no longer holds
when the model is another one, or when the configuration has been given another threshold for the place since.
"""

from __future__ import annotations

import dataclasses
import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from stfpm_runtime.errors import OptionError
from stfpm_runtime.line.config.line import CameraOptions
from stfpm_runtime.model_check import ThresholdBounds

from .rows import utc

NAME_LENGTH = 80
"""Characters of the name of who changes a threshold."""
TEXT_LENGTH = 200
"""Characters of any other text in a row."""
State = Literal["ordered", "holds", "past"]
TABLE = """
CREATE TABLE IF NOT EXISTS thresholds (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, who TEXT NOT NULL, camera TEXT NOT NULL,
    region TEXT NOT NULL, threshold REAL, old REAL, configured REAL, model TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ordered', 'holds', 'past'))
)
"""


@dataclass(frozen=True)
class ThresholdChange:
    """A threshold that somebody wants, as its row has it."""

    seq: int
    """0 until it is written."""
    time: str
    who: str
    camera: str
    """Empty: every camera."""
    region: str
    """Empty: every region."""
    threshold: float | None
    """None: what configuration and model say."""
    old: float | None = None
    """What held before; written by the line when it takes the order over."""
    configured: float | None = None
    """What configuration and model said then."""
    model: str = ""
    """SHA-256 of the model then."""
    state: State = "ordered"


FIELDS = tuple(field.name for field in dataclasses.fields(ThresholdChange))
SELECT = f"SELECT {', '.join(FIELDS)} FROM thresholds WHERE state = ? ORDER BY seq"
INSERT = f"INSERT INTO thresholds ({', '.join(FIELDS[1:])}) VALUES ({', '.join('?' * (len(FIELDS) - 1))})"


def rows_of(connection: sqlite3.Connection, state: State) -> list[ThresholdChange]:
    """Return all orders in that state, the oldest first.

    Any SQLite client may have written them: their values can be of any type, see `problem_of`.
    """
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    try:
        return [ThresholdChange(*row) for row in connection.execute(SELECT, (state,))]
    finally:
        connection.text_factory = str


def problem_of(order: ThresholdChange, bounds: ThresholdBounds | None = None) -> str:
    """Return why an order cannot be followed, in one line without control characters; empty where it can be."""
    for key in ("time", "who", "camera", "region", "model"):
        if not isinstance(value := getattr(order, key), str) or not (value.isprintable() and len(value) <= TEXT_LENGTH):
            return f"{key} is {value!r:.60}; expected printable text of up to {TEXT_LENGTH} characters"
    if not order.who.strip() or len(order.who) > NAME_LENGTH:
        return f"got {order.who!r:.60} for who changes it; expected a name of up to {NAME_LENGTH} characters"
    for key in ("threshold", "old", "configured"):
        value = getattr(order, key)
        if value is not None and not (type(value) in (int, float) and math.isfinite(value)):
            return f"got a {key} of {value!r:.60}; expected a finite number"
    if bounds is not None and order.threshold is not None:
        try:
            bounds.check(order.threshold)
        except OptionError as error:
            return str(error)
    return ""


def insert(connection: sqlite3.Connection, orders: Iterable[ThresholdChange]) -> None:
    """Add rows, within the caller's transaction."""
    connection.executemany(INSERT, [dataclasses.astuple(order)[1:] for order in orders])


def new_threshold_change(threshold: float | None, who: str, camera: str = "", region: str = "") -> ThresholdChange:
    """An order of this moment."""
    return ThresholdChange(0, utc(), who, camera, region, threshold)


class Thresholds:
    """The thresholds that hold. Changed by the loop's thread alone, between two frames."""

    def __init__(self, cameras: Sequence[CameraOptions], line: float | None, model: float) -> None:
        """`line` is the configuration's for all, `model` the model's own."""
        self._inner = {
            (camera.name, region.name): region.threshold if region.threshold is not None else camera.threshold
            for camera in cameras
            for region in camera.regions
        }
        self._line = line
        self._model = model
        self._held: dict[tuple[str, str], float] = {}

    def of(self, camera: str, region: str) -> float:
        """What a score has to exceed to be a reject."""
        held = self._held.get((camera, region))
        return self.configured(camera, region) if held is None else held

    def configured(self, camera: str, region: str) -> float:
        """The same, without the operator's word."""
        inner = self._inner[camera, region]
        return next(value for value in (inner, self._line, self._model) if value is not None)

    def is_held(self, camera: str, region: str) -> bool:
        """Whether the operator's word holds there."""
        return (camera, region) in self._held

    def places(self, camera: str = "", region: str = "") -> list[tuple[str, str]]:
        """Those meant by an order."""
        return [place for place in self._inner if camera in ("", place[0]) and region in ("", place[1])]

    def hold(self, camera: str, region: str, threshold: float | None) -> None:
        """From now on; None: as configured."""
        if threshold is None:
            self._held.pop((camera, region), None)
        else:
            self._held[camera, region] = threshold

    def use_model(self, threshold: float) -> int:
        """Another model rules, of this threshold: orders were for the one before; returns how many are gone."""
        gone, self._model = len(self._held), threshold
        self._held.clear()
        return gone
