"""What the dashboard answers: each method reads the status, the journal or a file, none touches the loop."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np

from stfpm_runtime.errors import OptionError, StfpmError
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.journal.reader import JournalReader
from stfpm_runtime.line.journal.rows import VerdictRow, utc
from stfpm_runtime.line.journal.threshold_changes import (
    check_place,
    new_threshold_change,
    request_threshold,
    wait_for_result,
)
from stfpm_runtime.line.journal.what_if import what_if
from stfpm_runtime.line.loop import Line
from stfpm_runtime.line.models.swap import fields_of
from stfpm_runtime.line.observers.status import LatestVerdict, LiveStatus, PlaceStatus
from stfpm_runtime.line.outputs.base import problem_of
from stfpm_runtime.line.outputs.pictures import Pictures

from .contract import RefusedError
from .jpeg_cache import JpegCache

HANGS_S = 30.0
"""A loop that has not turned for so long is not healthy."""
TAKEN_S = 3.0
"""How long an answer waits for the line to take a threshold over."""
LOST = ("lost", "frozen")
ENTRY = (
    "seq", "time", "camera", "region", "part", "decision", "score", "p_value", "threshold", "reason", "latency_ms",
)  # fmt: skip
"""Of a verdict, what the dashboard is told."""


class Api:
    """A line, as it is seen and changed from outside. Called by the server's threads."""

    def __init__(self, line: Line, options: LineOptions) -> None:
        assert line.live_status is not None, "a dashboard has one"
        self.live_status: LiveStatus = line.live_status
        self.line = line
        self._options = options
        self._artist = JpegCache()

    def health(self) -> tuple[list[str], list[str]]:
        """Return what fails, for which `/healthz` answers 503, and what else is wrong, in words. It reads memory only.

        A camera that is lost does not fail the line: each of its parts is journalled and told as a fault.
        """
        line, failing = self.line, []
        if (silent_s := time.monotonic() - self.live_status.turned_s) > HANGS_S:
            failing.append(f"the loop has not turned for {silent_s:.0f} s")
        if not line.recorder.works:
            failing.append("the journal cannot be written: every verdict is a fault")
        failing += [f"no triggers are received: {found.failure}" for found in line.listeners if found.failure]
        failing += [problem for output in line.outputs if (problem := problem_of(output))]
        if line.integrity and line.integrity.problem:
            failing.append(line.integrity.problem)
        return failing, [f"{s.camera.name}: the camera is {s.state}" for s in line.cameras if s.state in LOST]

    def status(self) -> dict[str, Any]:
        """All that changes from verdict to verdict."""
        line, status = self.line, self.live_status
        places = [self._place(*names, place) for names, place in status.places.items()]
        sums = {key: sum(place[key] for place in places) for key in ("passed", "rejected", "faults", "dropped")}
        total = sums["passed"] + sums["rejected"] + sums["faults"]
        latencies = [e.latency_ms for place in status.places.values() for e in list(place.recent)]
        p50, p99 = np.percentile(latencies, [50, 99]) if latencies else (None, None)
        return {
            "time": utc(),
            "uptime_s": round(time.monotonic() - status.started_s, 1),
            "journal": line.recorder.id,
            "model": fields_of(line.active_model.model),
            "totals": {**sums, "total": total, "yield": sums["passed"] / total if total else None},
            "latency": {"p50_ms": _rounded(p50), "p99_ms": _rounded(p99), "parts": len(latencies)},
            "places": places,
            "cameras": [{"name": s.camera.name, "state": s.state} for s in line.cameras],
            "sinks": [
                {"name": o.name, "works": not o.failure, "lag_s": round(o.lag_s, 1), "failure": o.failure}
                for o in line.outputs
            ],
            "pictures": _pictures(line),
            "problems": [problem for problems in self.health() for problem in problems],
            "drift": [dataclasses.asdict(drift) for drift in list(line.drift.found.values())],
            "shadow": _shadow(line),
        }

    def scores(self, camera: str, region: str, last: int) -> dict[str, Any]:
        """The newest scores of a place, the oldest first."""
        entries = list(self._known(camera, region).recent)[-last:]
        keys = ("seq", "time", "score", "threshold", "decision")
        return {"scores": [{key: getattr(entry, key) for key in keys} for entry in entries]}

    def live(self, camera: str, region: str, map: bool, width: int) -> tuple[bytes, dict[str, Any]]:
        """Return the newest picture of a place as JPEG, and the verdict it was taken for; there may be newer ones."""
        glimpse = self._known(camera, region).pictured
        if glimpse is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no picture yet; ask again when there is a verdict")
        return self._artist.draw(glimpse, map, width), _record(glimpse.entry)

    def rejects(self, last: int) -> dict[str, Any]:
        """The last parts that were not passed, the newest first."""
        entries = list(self.live_status.rejects)[-last:][::-1]
        return {"rejects": [_record(entry) for entry in entries]}

    def picture(self, seq: int, kind: str, width: int) -> tuple[bytes, str]:
        """A kept picture and its media type; `width` 0: as it is."""
        with self._journal() as journal:
            entry = journal.entry(seq)
        name = "" if entry is None else entry.overlay if kind == "overlay" else entry.picture
        path = self._kept(name)
        if path is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, f"verdict {seq} has no such picture, or has it no more")
        data = path.read_bytes()
        if width:
            return self._artist.shrink(data, width), "image/jpeg"
        return data, "image/png" if path.suffix == ".png" else "image/jpeg"

    def events(self, last: int) -> dict[str, Any]:
        """What befell cameras and line, the newest first."""
        with self._journal() as journal:
            return {"events": [dataclasses.asdict(event) for event in journal.newest_events(last)]}

    def try_threshold(self, threshold: float, camera: str, region: str) -> dict[str, Any]:
        """What a threshold would have done."""
        self._check_place(camera, region)
        found = dataclasses.asdict(what_if(self._options.journal.path, threshold, camera, region))
        return {**found, **{key: list(found[key]) for key in ("newly_rejected", "newly_passed")}}

    def set_threshold(self, threshold: float | None, who: str, camera: str, region: str) -> dict[str, Any]:
        """Order a threshold, and wait a little for the line to take it over."""
        self._check_place(camera, region)
        path = self._options.journal.path
        effect = None if threshold is None else self.try_threshold(threshold, camera, region)
        try:
            number = request_threshold(path, new_threshold_change(threshold, who, camera, region))
            taken = wait_for_result(path, number, TAKEN_S) == "taken"
        except OptionError as error:
            raise RefusedError(HTTPStatus.CONFLICT, f"the threshold stays: {error}") from None
        return {"order": number, "taken": taken, "effect": effect}

    def model(self) -> dict[str, Any]:
        """What rules, and what could."""
        return {"model": fields_of(self.line.active_model.model), "candidates": self.line.model_swap.candidates()}

    def set_model(self, file: str, who: str) -> dict[str, Any]:
        """Load, check and swap."""
        model_swap = self.line.model_swap
        assert model_swap is not None, "every line has one"
        try:
            path = model_swap.path_of(file)
        except OptionError as error:
            raise RefusedError(HTTPStatus.NOT_FOUND, str(error)) from None
        try:
            return {"model": fields_of(model_swap.load_and_swap(path, who))}
        except StfpmError as error:
            raise RefusedError(HTTPStatus.CONFLICT, f"the model stays: {error}") from None

    def _place(self, camera: str, region: str, place: PlaceStatus) -> dict[str, Any]:
        counts, newest, pictured = place.decisions, place.newest, place.pictured
        latency = place.latency_ms()
        return {
            "camera": camera,
            "region": region,
            "passed": counts["pass"],
            "rejected": counts["reject"],
            "faults": counts["fault"],
            "dropped": place.dropped,
            "p50_ms": latency and _rounded(latency[0]),
            "p99_ms": latency and _rounded(latency[1]),
            "threshold": self.line.active_model.thresholds.of(camera, region),
            "threshold_by_hand": self.line.active_model.thresholds.is_changed(camera, region),
            "newest": _newest(newest),
            "pictured": _newest(pictured),
        }

    def _known(self, camera: str, region: str) -> PlaceStatus:
        if place := self.live_status.places.get((camera, region)):
            return place
        known = ", ".join("/".join(names) for names in self.live_status.places)
        raise RefusedError(HTTPStatus.NOT_FOUND, f"no such camera and region; expected one of {known}")

    def _check_place(self, camera: str, region: str) -> None:
        try:
            check_place(list(self.live_status.places), camera, region)
        except OptionError as error:
            raise RefusedError(HTTPStatus.NOT_FOUND, str(error)) from None

    def _kept(self, name: str) -> Path | None:
        """The file of that name in the folder for pictures, and nowhere else."""
        if not name or self._options.pictures is None:
            return None
        folder = self._options.pictures.folder.resolve()
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder) and path.is_file() else None

    @contextlib.contextmanager
    def _journal(self) -> Iterator[JournalReader]:
        with contextlib.closing(JournalReader(self._options.journal.path)) as reader:
            yield reader


def _record(entry: VerdictRow) -> dict[str, Any]:
    kept = {"picture": bool(entry.picture), "overlay": bool(entry.overlay)}
    return {**{key: getattr(entry, key) for key in ENTRY}, **kept}


def _newest(glimpse: LatestVerdict | None) -> dict[str, Any] | None:
    return None if glimpse is None else _record(glimpse.entry)


def _pictures(line: Line) -> dict[str, int] | None:
    found = (output for output in line.outputs if isinstance(output, Pictures))
    return next(({"dropped": pictures.dropped, "failed": pictures.failed} for pictures in found), None)


def _shadow(line: Line) -> dict[str, Any] | None:
    shadow = line.shadow
    return None if shadow is None else {"model": fields_of(shadow.model), **dataclasses.asdict(shadow.counts)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 2)
