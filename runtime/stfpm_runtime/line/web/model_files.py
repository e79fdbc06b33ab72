"""The model files of a line with their states, as the dashboard shows them."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from stfpm_runtime.files import sha256
from stfpm_runtime.line.journal.models.shadow import read_shadow_counts
from stfpm_runtime.line.journal.models.states import ModelState, newest_by_model, read_states
from stfpm_runtime.line.journal.reader import counts_by_model

NEWEST = 100_000
"""Verdicts that are counted by model."""


class ModelFiles:
    """Lists the files next to the active model, and models that were there. For the server's threads."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._digests: dict[tuple[Path, int, int], str] = {}

    def rows(self, folder: Path, names: list[str]) -> list[dict[str, Any]]:
        """Return the fields of each model: the active one, then the newest change first, then files without a state.

        Raises JournalError.
        """
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
