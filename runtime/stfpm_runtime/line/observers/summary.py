"""The log's lines about verdicts: one a minute with the counts, and at once each reject and each new fault."""

from __future__ import annotations

import logging
import time

from stfpm_runtime.line.journal.rows import VerdictRow
from stfpm_runtime.score import describe_score
from stfpm_runtime.verdict_counter import VerdictCounter

from .base import KeptParts, Observer

LOG = logging.getLogger("stfpm.line")
EVERY_S = 60.0
LATENCIES = 1000
"""The number of newest latencies that percentiles are computed from."""


class Summary(VerdictCounter, Observer):
    """Counts verdicts, and logs them."""

    name = "summary"

    def __init__(self) -> None:
        super().__init__(LATENCIES)
        self._reasons: dict[tuple[str, str], str] = {}
        """The reason of the last verdict of each place where that is a fault."""
        self._due_s = time.monotonic() + EVERY_S
        self._logged = 0

    def status(self) -> str:
        """Return counts and latencies in one line."""
        return self.describe("verdicts")

    def observe(self, parts: KeptParts) -> None:
        """Count the verdicts; log each reject, and a fault whose reason differs from that of the last one there."""
        for _, row in parts:
            self.count(row.decision, row.reason, row.latency_ms)
            self._log(row)

    def do_maintenance(self) -> None:
        """Write the counts into the log once a minute, if there were verdicts."""
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + EVERY_S
            if self.total != self._logged:
                LOG.info("%s", self.status())
            self._logged = self.total

    def _log(self, row: VerdictRow) -> None:
        place = row.camera, row.region
        what = f"{row.camera}/{row.region}" + (f", part {row.part}" if row.part else "")
        if row.decision == "fault":
            if self._reasons.get(place) != row.reason:
                LOG.error("%s: fault (%d): %s", what, row.seq, row.reason)
            self._reasons[place] = row.reason
            return
        if self._reasons.pop(place, None) is not None:
            LOG.warning("%s/%s: frames are judged again", *place)
        if row.decision == "reject":
            why = "; ".join(filter(None, (describe_score(row.score, row.threshold), row.reason)))
            LOG.info("%s: reject (%d): %s", what, row.seq, why)
