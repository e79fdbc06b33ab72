"""The model files of a line as the dashboard shows them, and what can be done with them."""

from __future__ import annotations

import contextlib
import dataclasses
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from stfpm_runtime.artifact.onnx_metadata import read_spec
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.errors import ArtifactError, OptionError, StfpmError
from stfpm_runtime.files import sha256
from stfpm_runtime.line.journal.models.shadow import read_shadow_counts
from stfpm_runtime.line.journal.models.states import Action, ModelState, new_command, newest_by_model, read_states
from stfpm_runtime.line.journal.reader import counts_by_model
from stfpm_runtime.line.loop import Line
from stfpm_runtime.line.models.swap import fields_of
from stfpm_runtime.score import relative_score

NEWEST = 100_000
"""Verdicts that are counted by model."""


class ModelView:
    """Shows the files next to the active model, and models that were there. For the server's threads."""

    def __init__(self, line: Line, journal: Path) -> None:
        self._line = line
        self._journal = journal
        self._digests: dict[tuple[Path, int, int], str] = {}

    def describe(self) -> dict[str, Any]:
        """Return the model in use, and the files that could replace it with their states. Raises JournalError."""
        files, active = self._line.model_swap.candidates(), self._line.active_model.model
        return {"model": fields_of(active), "candidates": files, "models": self._rows(active.path.parent, files)}

    def calibration(self, file: str) -> dict[str, Any]:
        """Return where the threshold of a .onnx file next to the model in use comes from, and the scores behind it."""
        path = self._path_of(file)
        try:
            return {"file": file, "sha256": self._digest(path), **calibration_fields(read_spec(path))}
        except (ArtifactError, TypeError, AttributeError) as error:  # values of another program
            raise HTTPException(HTTPStatus.CONFLICT, f"{file}: its description is damaged ({error})") from None

    def act(self, action: Action, file: str, who: str, override: str, reason: str) -> dict[str, Any]:
        """Do something with a model, and return the fields of the one in use and what was done."""
        if (action == "rollback") == bool(file):
            expected = "no file" if action == "rollback" else "a file in the folder of the model in use"
            raise HTTPException(HTTPStatus.CONFLICT, f"file: got {file[:60]!r}; {action} takes {expected}")
        if file:
            self._path_of(file)
        try:
            message = self._line.promotion.ask(new_command(who, action, file, override, reason))
        except StfpmError as error:
            raise HTTPException(HTTPStatus.CONFLICT, f"the model stays: {error}") from None
        return {"model": fields_of(self._line.active_model.model), "message": message}

    def _path_of(self, file: str) -> Path:
        try:
            return self._line.model_swap.path_of(file)
        except OptionError as error:
            raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from None

    def _rows(self, folder: Path, names: list[str]) -> list[dict[str, Any]]:
        """Return the fields of each model: the active one, then the newest change first, then files without a state."""
        states = newest_by_model(read_states(self._journal))
        shadows, counts = read_shadow_counts(self._journal), counts_by_model(self._journal, NEWEST)
        digests = ((self._digest(folder / name), folder / name) for name in names)
        there = {digest: path for digest, path in digests if digest}
        found: list[dict[str, Any]] = []
        newest_first = sorted(states, key=lambda digest: (states[digest].state == "active", states[digest].time))[::-1]
        for digest in [*newest_first, *there]:
            row = states.pop(digest, None) or ModelState("", "", digest, "", "candidate")
            if any(one["sha256"] == digest for one in found):
                continue
            path = there.get(digest, Path(row.path))
            passed, rejected, faults = counts.get(digest, (0, 0, 0))
            shadow = shadows.get(digest)
            found.append({
                "file": path.name, "sha256": digest, "is_present": digest in there,
                "state": row.state if row.time else "new", "time": row.time, "who": row.who, "note": row.note,
                "ability": row.measured, "shadow": shadow and dataclasses.asdict(shadow),
                "passed": passed, "rejected": rejected, "faults": faults,
            })  # fmt: skip
        return found

    def _digest(self, path: Path) -> str:
        """Return the file's SHA-256, computed again where it has changed; empty where it cannot be read."""
        with contextlib.suppress(OSError):
            status = path.stat()
            key = (path, status.st_mtime_ns, status.st_size)
            if key not in self._digests:
                self._digests[key] = sha256(path)
            return self._digests[key]
        return ""


def calibration_fields(spec: Spec) -> dict[str, Any]:
    """Return where the threshold of a model file comes from, as the API gives it."""
    relative = (relative_score(score, spec.threshold) for score in sorted(spec.held_out_scores))
    found = spec.training.get("synthetic_defects", {})
    return {
        "threshold": spec.threshold, "threshold_set_by": spec.threshold_set_by,
        "false_alarm_rate": spec.false_alarm_rate, "folds": spec.folds,
        "held_out": [score for score in relative if score is not None],
        "synthetic_defects": [{"relative_scores": []} | row for row in found.get("by_kind_and_size", [])],
        "too_hard": found.get("too_hard", False),
    }  # fmt: skip
