"""A threshold from the operator's hand to the line: what it would have done, the order, and its taking over."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import JournalError, OptionError
from .journal import check_version
from .reading import open_for_reading
from .recorder import Recorder
from .ruling import Ruling
from .thresholds import TABLE, Order, State, insert

LOG = logging.getLogger("stfpm.threshold")
PARTS = 1000
"""The newest ones, that a threshold is tried on."""
NAME_LENGTH = 80
"""Characters of the name of who changes a threshold."""


@dataclass(frozen=True)
class WhatIf:
    """What a threshold would have done to the last parts that the model that rules has judged.

    Scores alone count: a debounced decision may differ from both.
    """

    threshold: float
    parts: int
    since: str
    """Time of the oldest of them; empty where there are none."""
    rejected: int
    """By the thresholds that held."""
    would_reject: int
    newly_rejected: tuple[int, ...]
    """Their numbers, the newest first."""
    newly_passed: tuple[int, ...]


def what_if(journal: Path, threshold: float, camera: str = "", region: str = "", parts: int = PARTS) -> WhatIf:
    """Try a threshold on the last parts, of all places or of some. Raises JournalError."""
    where = [f"{name} = ?" for name, value in (("camera", camera), ("region", region)) if value]
    newest = "SELECT model FROM verdicts ORDER BY seq DESC LIMIT 1"
    sql = (
        f"SELECT seq, time, score, threshold FROM verdicts WHERE score IS NOT NULL AND model = ({newest})"
        f"{''.join(f' AND {condition}' for condition in where)} ORDER BY seq DESC LIMIT ?"
    )
    values = [value for value in (camera, region) if value]
    with _opened(journal) as file:
        rows = file.execute(sql, (*values, parts)).fetchall()
    return WhatIf(
        threshold=threshold,
        parts=len(rows),
        since=rows[-1][1] if rows else "",
        rejected=sum(score > old for _, _, score, old in rows),
        would_reject=sum(score > threshold for _, _, score, _ in rows),
        newly_rejected=tuple(seq for seq, _, score, old in rows if score > threshold and score <= old),
        newly_passed=tuple(seq for seq, _, score, old in rows if old < score <= threshold),
    )


def places_of(journal: Path) -> list[tuple[str, str]]:
    """Cameras and regions of the newest verdicts. Raises JournalError."""
    sql = "SELECT DISTINCT camera, region FROM (SELECT camera, region FROM verdicts ORDER BY seq DESC LIMIT 20000)"
    with _opened(journal) as file:
        return sorted((str(camera), str(region)) for camera, region in file.execute(sql))


def place_order(journal: Path, order: Order) -> int:
    """Write an order into a journal, whose line may run; returns its number.

    Raises OptionError for an order that makes no sense, JournalError for a journal that cannot be written.
    """
    if order.threshold is not None and not math.isfinite(order.threshold):
        raise OptionError(f"got a threshold of {order.threshold}; expected a finite number")
    if not order.who.strip() or len(order.who) > NAME_LENGTH or not order.who.isprintable():
        raise OptionError(f"got {order.who!r} for who changes it; expected a name of up to {NAME_LENGTH} characters")
    with _opened(journal, writing=True) as file:
        file.execute("BEGIN IMMEDIATE")
        file.execute(TABLE)
        insert(file, [order])
        number = int(file.execute("SELECT max(seq) FROM thresholds").fetchone()[0])
        file.execute("COMMIT")
    return number


def is_taken(journal: Path, number: int) -> bool:
    """Whether the running line has taken that order over. Raises JournalError."""
    with _opened(journal) as file:
        row = file.execute("SELECT state FROM thresholds WHERE seq = ?", (number,)).fetchone()
    return row is not None and row[0] != "ordered"


def take_orders(recorder: Recorder, ruling: Ruling) -> None:
    """Let what was ordered hold from the next frame on; for the loop, between two frames."""
    for order in recorder.orders():
        held = []
        for camera, region in ruling.thresholds.places(order.camera, order.region):
            old, configured = ruling.thresholds.of(camera, region), ruling.thresholds.configured(camera, region)
            ruling.thresholds.hold(camera, region, order.threshold)
            new = ruling.thresholds.of(camera, region)
            text = f"{camera}/{region}: {old:.6g} -> {new:.6g}, by {order.who} at {order.time}"
            LOG.warning("threshold of %s", text)
            recorder.remark("threshold", text)
            place = dataclasses.replace(order, camera=camera, region=region, old=old, configured=configured)
            held.append(dataclasses.replace(place, model=ruling.model.sha256, state=_state(order)))
        if not held:
            recorder.remark("threshold", f"order {order.seq} by {order.who} is for {order.camera}/{order.region}: none")
        recorder.settle(held, [order.seq])


def resume(recorder: Recorder, ruling: Ruling) -> None:
    """Let hold what held when the line was last run; not what was for another model or another configuration."""
    past = []
    for order in recorder.held():
        is_known = (order.camera, order.region) in ruling.thresholds.places(order.camera, order.region)
        if (
            is_known
            and order.model == ruling.model.sha256
            and order.configured == ruling.thresholds.configured(order.camera, order.region)
        ):
            ruling.thresholds.hold(order.camera, order.region, order.threshold)
            continue
        past.append(order.seq)
        why = "it was for another model" if is_known and order.model != ruling.model.sha256 else "it is configured anew"
        text = f"{order.camera}/{order.region}: {order.threshold}, by {order.who}, holds no more: {why}"
        LOG.warning("threshold of %s", text)
        recorder.remark("threshold", text)
    if past:
        recorder.settle([], past)


def check_place(places: Sequence[tuple[str, str]], camera: str, region: str) -> None:
    """Raise OptionError unless an order for this place means anything."""
    if not any(camera in ("", place[0]) and region in ("", place[1]) for place in places):
        known = ", ".join("/".join(place) for place in places) or "none yet"
        raise OptionError(f"got {camera or '*'}/{region or '*'}; expected one of {known}")


def _state(order: Order) -> State:
    return "past" if order.threshold is None else "holds"


@contextlib.contextmanager
def _opened(journal: Path, writing: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection to a journal that there is. Raises JournalError, also for what its use raises."""
    if not journal.is_file():
        raise JournalError(f"{journal}: no such file; expected a journal that stfpm-inspect wrote")
    try:
        with contextlib.closing(open_for_reading(journal)) as connection:
            check_version(connection, journal)
            if writing:
                connection.execute("PRAGMA query_only = 0")
            yield connection
    except sqlite3.Error as error:
        raise JournalError(f"{journal}: cannot be used as a journal ({error}); check the file") from None
