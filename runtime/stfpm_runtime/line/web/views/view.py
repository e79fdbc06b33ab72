"""The state of a running line as the dashboard shows it, and the changes that it can ask for.

Everything here reads the live status, the journal or a file; the loop is never touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import numpy as np
from fastapi import HTTPException

from stfpm_runtime.errors import OptionError
from stfpm_runtime.files import file_below
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.journal.history import Filter
from stfpm_runtime.line.journal.labels import Value, count_confusion, new_label, read_labelled, write_label
from stfpm_runtime.line.journal.reader import JournalReader, Period
from stfpm_runtime.line.journal.review import review_queue
from stfpm_runtime.line.journal.rows import EventRow, VerdictRow, utc
from stfpm_runtime.line.journal.threshold_changes import (
    check_place,
    new_threshold_change,
    request_threshold,
    wait_for_result,
)
from stfpm_runtime.line.journal.what_if import ThresholdEffect, simulate_threshold
from stfpm_runtime.line.loop import Line
from stfpm_runtime.line.models.swap import fields_of
from stfpm_runtime.line.observers.status import LiveStatus, PlaceStatus
from stfpm_runtime.line.outputs.base import problem_of
from stfpm_runtime.line.outputs.pictures import Pictures
from stfpm_runtime.score import format_score

from .faults import FaultCards
from .history_view import HistoryView
from .jpeg_cache import JpegCache
from .model_view import ModelView
from .recipe_view import recipe_state

LOOP_LIMIT_S = 30.0
"""A loop that has not run for so long is not healthy."""
APPLIED_S = 3.0
"""How long an answer waits until the line has applied a threshold."""
CAMERA_FAILURES = ("lost", "frozen")
FIELDS = (
    "seq", "time", "camera", "region", "part", "decision", "relative_score", "score", "p_value", "threshold", "reason",
    "latency_ms",
)  # fmt: skip
"""The fields of a verdict that the dashboard shows."""
HISTORY_FIELDS = ("model", "peak_x", "peak_y")
CHART_FIELDS = ("seq", "time", "relative_score", "score", "threshold", "decision", "model")


class LineView:
    """A line as it is seen and changed from outside. Called by the server's threads.

    Raises HTTPException for a request that means nothing on this line, and StfpmError for what cannot be read.
    """

    def __init__(self, line: Line, options: LineOptions) -> None:
        assert line.live_status is not None, "a line with a web server has one"
        self.live_status: LiveStatus = line.live_status
        self.line = line
        self._options = options
        self._jpeg_cache = JpegCache()
        self._fault_cards = FaultCards()
        self.models = ModelView(line, options.journal.path)
        self.history = HistoryView(options)

    def health(self) -> tuple[list[str], list[str]]:
        """Return what fails, for which `/healthz` answers 503, and what else is wrong, in words. It reads memory only.

        A lost camera does not fail the line: each of its parts is journalled and sent as a fault.
        """
        line, failing = self.line, []
        if (silent_s := time.monotonic() - self.live_status.turned_s) > LOOP_LIMIT_S:
            failing.append(f"the inspection loop has not run for {silent_s:.0f} s")
        if not line.recorder.works:
            failing.append("the journal cannot be written: every verdict is a fault")
        failing += [f"{found.lacking}: {found.failure}" for found in line.listeners if found.failure]
        failing += [problem for output in line.outputs if (problem := problem_of(output))]
        failing += filter(None, [line.integrity.problem])
        lost = [worker for worker in line.cameras if worker.state in CAMERA_FAILURES]
        return failing, line.recipes.warnings() + [
            f"{worker.camera.name}: the camera is {worker.state}" for worker in lost
        ]

    def status(self) -> dict[str, Any]:
        """Return everything that changes from verdict to verdict, as `routes.Status` describes it."""
        line, status = self.line, self.live_status
        places = {names: self._place_fields(*names, place) for names, place in status.places.items()}
        sums = {
            key: sum(place[key] for place in places.values()) for key in ("passed", "rejected", "faults", "dropped")
        }
        total = sums["passed"] + sums["rejected"] + sums["faults"]
        latencies = [e.latency_ms for place in status.places.values() for e in list(place.recent)]
        problems = [problem for problems in self.health() for problem in problems]
        p50, p99 = np.percentile(latencies, [50, 99]) if latencies else (None, None)
        return {
            "time": utc(),
            "uptime_s": round(time.monotonic() - status.started_s, 1),
            "journal": line.recorder.id,
            "model": fields_of(line.active_model.model),
            "totals": {**sums, "total": total, "yield": sums["passed"] / total if total else None},
            "latency": {"p50_ms": _rounded(p50), "p99_ms": _rounded(p99), "parts": len(latencies)},
            "places": [places[names] for names in line.active_model.thresholds.places() if names in places],
            "cameras": [{"name": s.camera.name, "state": s.state} for s in line.cameras],
            "outputs": [
                {"name": o.name, "works": not o.failure, "lag_s": round(o.lag_s, 1), "failure": o.failure}
                for o in line.outputs
            ],
            "pictures": _pictures(line),
            "problems": problems,
            "faults": self._fault_cards.update([*problems, *self._newest_faults(problems)]),
            "drift": [dataclasses.asdict(drift) for drift in list(line.drift.found.values())],
            "shadow": _shadow(line),
            "recipe": recipe_state(line.recipes),
        }

    def acknowledge(self, cause: str, who: str) -> dict[str, str]:
        """Note in the journal that a person has seen a fault, and return its card."""
        try:
            card = self._fault_cards.acknowledge(cause, who)
        except OptionError as error:
            raise HTTPException(HTTPStatus.CONFLICT, str(error)) from None
        self.line.recorder.log_event("acknowledged", f"{cause}, by {who}")
        return card

    def _newest_faults(self, problems: Sequence[str]) -> list[str]:
        """Return why the newest part of each place that is judged now is a fault, unless a problem says it already."""
        judged = self.line.active_model.thresholds.places()
        shown = [place for names, place in self.live_status.places.items() if names in judged]
        newest = [place.newest.row for place in shown if place.newest]
        reasons = dict.fromkeys(f"{row.camera}: {row.reason}" for row in newest if row.decision == "fault")
        return [reason for reason in reasons if not any(reason.startswith(problem) for problem in problems)]

    def place(self, camera: str, region: str) -> PlaceStatus:
        """Return what is known of a region of a camera."""
        if place := self.live_status.places.get((camera, region)):
            return place
        known = ", ".join("/".join(names) for names in self.live_status.places)
        raise HTTPException(HTTPStatus.NOT_FOUND, f"no such camera and region; expected one of {known}")

    def scores(self, camera: str, region: str, last: int) -> list[dict[str, Any]]:
        """Return the newest scores of a place, the oldest first."""
        return [_fields(row, CHART_FIELDS) for row in list(self.place(camera, region).recent)[-last:]]

    def draw_newest(self, camera: str, region: str, with_map: bool, width: int) -> tuple[bytes, dict[str, Any]]:
        """Return the newest picture of a place as JPEG, and the verdict that it belongs to; there may be newer ones."""
        latest = self.place(camera, region).pictured
        if latest is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "there is no picture yet; ask again when there is a verdict")
        return self._jpeg_cache.draw(latest, with_map, width), _verdict_fields(latest.row)

    def rejects(self, last: int) -> list[dict[str, Any]]:
        """Return the last parts that were not passed, the newest first."""
        return [_verdict_fields(row) for row in list(self.live_status.rejects)[-last:][::-1]]

    def kept_picture(self, seq: int, kind: str, width: int) -> tuple[bytes, str]:
        """Return a kept picture and its media type; with `width` 0 it is the file as it is."""
        with contextlib.closing(JournalReader(self._options.journal.path)) as journal:
            row = journal.entry(seq)
        name = "" if row is None else row.overlay if kind == "overlay" else row.picture
        path = file_below(self._options.pictures.folder, name) if self._options.pictures else None
        if path is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"verdict {seq} has no such picture, or has it no more")
        data = path.read_bytes()
        if width:
            return self._jpeg_cache.shrink(data, width), "image/jpeg"
        return data, "image/png" if path.suffix == ".png" else "image/jpeg"

    def events(self, last: int) -> list[EventRow]:
        """Return the last events of the cameras and the line, the newest first."""
        with contextlib.closing(JournalReader(self._options.journal.path)) as journal:
            return list(journal.newest_events(last))

    def try_threshold(self, threshold: float, camera: str, region: str) -> ThresholdEffect:
        """Return what a threshold would have decided about the newest parts."""
        self._check_place(camera, region)
        return simulate_threshold(
            self._options.journal.path, threshold, camera, region, model=self.line.active_model.model.sha256
        )

    def set_threshold(self, threshold: float | None, who: str, camera: str, region: str, reason: str) -> dict[str, Any]:
        """Request a threshold, and wait for `APPLIED_S` seconds until the line has applied it."""
        self._check_place(camera, region)
        path, model = self._options.journal.path, self.line.active_model.thresholds.model_key
        effect = None if threshold is None else self.try_threshold(threshold, camera, region)
        try:
            number = request_threshold(path, new_threshold_change(threshold, who, camera, region, reason, model))
            taken = wait_for_result(path, number, APPLIED_S) == "taken"
        except OptionError as error:
            raise HTTPException(HTTPStatus.CONFLICT, f"the threshold stays: {error}") from None
        return {"order": number, "taken": taken, "effect": effect}

    def label(self, seq: int, value: Value, who: str, kind: str, note: str) -> dict[str, Any]:
        """Write a label of a verdict."""
        try:
            _, earlier = write_label(self._options.journal.path, new_label(seq, value, who, kind, note))
        except OptionError as error:
            raise HTTPException(HTTPStatus.CONFLICT, f"no label was written: {error}") from None
        return {"seq": seq, "label": value, "earlier": len(earlier)}

    def review(self, count: int) -> dict[str, Any]:
        """Return the parts that are most worth a look, and what the labels say."""
        journal = self._options.journal.path
        queue = [{**_verdict_fields(row), "why": why} for row, why in review_queue(journal, count)]
        return {"queue": queue, "confusion": count_confusion(read_labelled(journal, Period())).lines()}

    def history_page(self, asked: Filter, before: int, last: int) -> dict[str, Any]:
        """Return verdicts with numbers below `before`, the newest first, and `before` of the next page."""
        rows, next_before = self.history.page(asked, before, last)
        verdicts = [
            {**_verdict_fields(row), "label": label, **{name: getattr(row, name) for name in HISTORY_FIELDS}}
            for row, label in rows
        ]
        return {"verdicts": verdicts, "next": next_before}

    def _place_fields(self, camera: str, region: str, place: PlaceStatus) -> dict[str, Any]:
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
            "newest": newest and _verdict_fields(newest.row),
            "pictured": pictured and _verdict_fields(pictured.row),
        }

    def _check_place(self, camera: str, region: str) -> None:
        try:
            check_place(list(self.live_status.places), camera, region)
        except OptionError as error:
            raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from None


def _verdict_fields(row: VerdictRow) -> dict[str, Any]:
    kept = {"picture": bool(row.picture), "overlay": bool(row.overlay)}
    return {**_fields(row, FIELDS), **kept}


def _fields(row: VerdictRow, names: Sequence[str]) -> dict[str, Any]:
    """Return these fields, and the relative score as people read it."""
    return {**{name: getattr(row, name) for name in names}, "score_text": format_score(row.score, row.threshold)}


def _pictures(line: Line) -> dict[str, int] | None:
    found = [output for output in line.outputs if isinstance(output, Pictures)]
    return {"dropped": found[0].dropped, "failed": found[0].failed} if found else None


def _shadow(line: Line) -> dict[str, Any] | None:
    shadow = line.shadow
    model = shadow.model
    return None if model is None else {"model": fields_of(model), **dataclasses.asdict(shadow.counts)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 2)
