"""A second model that judges the same frames: where its decision differs is journalled, and nothing else follows.

It judges in a thread of its own, by its own threshold. A frame that comes while too many wait is left out and counted.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from pathlib import Path

from stfpm_runtime.errors import ArtifactError, JournalError, StfpmError
from stfpm_runtime.lifecycle import Worker
from stfpm_runtime.line.inspect import Inspector, JudgedPart
from stfpm_runtime.line.journal.models.shadow import (
    Disagreement,
    ShadowCounts,
    read_shadow_counts,
    write_shadow_results,
)
from stfpm_runtime.line.journal.rows import LogCameraEvent, VerdictRow
from stfpm_runtime.model_check import Model

from .base import KeptParts, Observer

LOG = logging.getLogger("stfpm.shadow")
WAITING = 8
"""Frames that may wait for the shadow; further ones are left out."""
POLL_S = 0.1
WRITE_S = 5.0
"""Between two writes of the results into the journal, in seconds."""
TAKEN_S = 10.0
"""The longest time until another model is used as the shadow, in seconds."""


class Shadow(Worker, Observer):
    """Judges what the line judged, and compares; without a model it does nothing."""

    keeps_real_time = False
    restarts_after_error = True

    name = "shadow"

    def __init__(self, model: Model | None, batch: int, journal: Path, log_event: LogCameraEvent) -> None:
        """Store the model, which `stop` closes, and the number of pictures in one run of its engine at most."""
        super().__init__("shadow")
        self.model: Model | None = None
        self.counts = ShadowCounts()
        self._batch = batch
        self._journal = journal
        self._log_event = log_event
        self._left_out = 0
        self._found: list[Disagreement] = []
        self._write_due_s = 0.0
        self._waiting: deque[KeptParts] = deque()
        self._woken = threading.Event()
        self._changing = threading.Lock()
        self._taken = threading.Event()
        self._pending: deque[Model | None] = deque([model])
        """The model to use next, if there is one; whoever takes it out owns it."""

    def observe(self, parts: KeptParts) -> None:
        """Queue one frame's verdicts without waiting; faults are left out, since they cannot be compared."""
        if self.model is None or any(judged.verdict.score is None for judged, _ in parts):
            return
        if len(self._waiting) >= WAITING:
            self._left_out += len(parts)
            return
        self._waiting.append(list(parts))
        self._woken.set()

    def replace_model(self, model: Model | None) -> None:
        """Judge with this model from now on, or with none; the one before is closed. For any thread but its own.

        Raises ArtifactError where the one before does not give way; the new one is closed then.
        """
        with self._changing:
            self._taken.clear()
            self._pending.append(model)
            self._woken.set()
            if self._taken.wait(TAKEN_S):
                return
            try:
                self._pending.pop()
            except IndexError:  # it is being used at this moment
                return
        if model is not None:
            model.engine.close()
        raise ArtifactError(f"the shadow in use did not end within {TAKEN_S:.0f} s; nothing was changed")

    def wake(self) -> None:
        """Make `run` notice that it is to end."""
        self._woken.set()

    def stop(self, deadline_s: float) -> None:
        """Compare the frames that wait, until the deadline on `time.monotonic()`, and close the model's engine."""
        super().stop(deadline_s)
        if not self._thread.is_alive() and self.model is not None:
            self.model.engine.close()

    def run(self) -> None:
        """Compare frames until the stop."""
        while True:
            self._woken.clear()
            with contextlib.suppress(IndexError):
                self._use(self._pending.popleft())
                self._taken.set()
            while self._waiting and not self._pending:
                self._compare(self._waiting.popleft())
                if time.monotonic() >= self._write_due_s:
                    self._write()
            if self.stopping.is_set():
                self._write()
                return
            self._woken.wait(POLL_S)

    def _use(self, model: Model | None) -> None:
        self._write()
        before, self.model = self.model, None  # no frame is queued meanwhile
        self._waiting.clear()
        if before is not None:
            with contextlib.suppress(StfpmError):  # it is not needed any more
                before.engine.close()
        self.counts = ShadowCounts()
        if model is not None:
            detector = model.detector
            self._inspector = Inspector(detector, self._batch, lambda camera, region: detector.threshold)
            with contextlib.suppress(JournalError):
                self.counts = read_shadow_counts(self._journal).get(model.sha256, ShadowCounts())
        self._left_out = self.counts.left_out
        self.model = model

    def _compare(self, parts: KeptParts) -> None:
        if self.model is None:  # a frame that was queued while the model was taken away
            return
        counts = self.counts
        compared, disagreed, would_reject = counts.compared, counts.disagreed, counts.would_reject
        for (line, row), shadow in zip(parts, self._inspector.judge([parts[0][0].triggered]), strict=True):
            compared += 1
            verdict = shadow.verdict
            if verdict.decision == line.verdict.decision:
                continue
            disagreed += 1
            would_reject += line.verdict.decision == "pass"
            if row.seq:  # else the journal does not work
                found = (row.seq, self.model.sha256, verdict.decision, verdict.score, verdict.threshold)
                self._found.append(Disagreement(*found))
            self._log_event("shadow", _describe(row, line, shadow), row.camera)
        self.counts = ShadowCounts(compared, disagreed, would_reject, self._left_out)

    def _write(self) -> None:
        """Write the results into the journal; what cannot be written is tried again."""
        if self.model is None:
            return
        self._write_due_s = time.monotonic() + WRITE_S
        try:
            write_shadow_results(self._journal, self.model.sha256, self.counts, self._found)
            self._found.clear()
        except JournalError as error:
            LOG.error("the shadow's results wait: %s", error)
            del self._found[:-1000]


def _describe(row: VerdictRow, line: JudgedPart, shadow: JudgedPart) -> str:
    ours, theirs = line.verdict, shadow.verdict
    score = theirs.reason if theirs.score is None else f"{theirs.score:.4g}, threshold {theirs.threshold:.4g}"
    return (
        f"{row.camera}/{row.region} ({row.seq}): {ours.decision} ({ours.score:.4g}, threshold "
        f"{ours.threshold:.4g}), the shadow says {theirs.decision} ({score})"
    )
