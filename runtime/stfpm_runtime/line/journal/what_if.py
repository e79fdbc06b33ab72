"""Computes what another threshold would have decided about the newest parts, debounce included."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stfpm_runtime.detector import Decision
from stfpm_runtime.line.debounce import Debounce

from .reader import opened, read_debounces

PARTS = 1000
"""How many of the newest parts a threshold is tried on."""
BEFORE = 1000
"""Older verdicts that are decided too, so that a debounce has the frames before the first part that counts."""

WITHIN = "seq > (SELECT max(seq) FROM verdicts) - 200000"
"""Older parts are not looked for: there may be millions of another model."""
NEWEST_MODEL = f"SELECT model FROM verdicts WHERE model != '' AND {WITHIN} ORDER BY seq DESC LIMIT 1"


@dataclass(frozen=True)
class ThresholdEffect:
    """What a threshold would have decided about the newest parts of one model. Faults stay."""

    threshold: float
    model: str
    """SHA-256 of the model that has judged them; empty where there are none."""
    parts: int
    since: str
    """Time of the oldest of them; empty where there are none."""
    rejected: int
    """How many the line rejected."""
    would_reject: int
    newly_rejected: tuple[int, ...]
    """Numbers of parts that the line passed and the threshold would reject, the newest first."""
    newly_passed: tuple[int, ...]
    """Numbers of parts that the line rejected and the threshold would pass, the newest first."""


def simulate_threshold(
    journal: Path, threshold: float, camera: str = "", region: str = "", parts: int = PARTS, model: str = ""
) -> ThresholdEffect:
    """Return the effect of a threshold on the newest parts, of all places or of some. Raises JournalError.

    They are those of the `model` with this SHA-256; empty: of the one that judged the newest part.
    """
    where = [f"{name} = ?" for name, value in (("camera", camera), ("region", region)) if value]
    sql = (
        f"SELECT seq, time, run, camera, region, score, decision FROM verdicts WHERE model = ? AND {WITHIN}"
        f"{''.join(f' AND {condition}' for condition in where)} ORDER BY seq DESC LIMIT ?"
    )
    values = [value for value in (camera, region) if value]
    model = model or newest_model(journal)
    with opened(journal) as file:
        rows = file.execute(sql, (model, *values, parts + BEFORE)).fetchall()
        configured = read_debounces(file)
    debounces: dict[tuple[int, str, str], Debounce] = {}
    decided: list[tuple[int, str, Decision, Decision]] = []
    for seq, time, run, name, part_of_frame, score, decision in reversed(rows):
        would: Decision = "fault" if score is None else "reject" if score > threshold else "pass"
        if setting := configured.get((run, name)):
            would, _ = debounces.setdefault((run, name, part_of_frame), Debounce(*setting)).decide(would, seq)
        if score is not None:
            decided.append((seq, time, decision, would))
    newest_first = decided[::-1][:parts]
    return ThresholdEffect(
        threshold=threshold,
        model=model,
        parts=len(newest_first),
        since=newest_first[-1][1] if newest_first else "",
        rejected=sum(decision == "reject" for _, _, decision, _ in newest_first),
        would_reject=sum(would == "reject" for _, _, _, would in newest_first),
        newly_rejected=tuple(seq for seq, _, was, would in newest_first if (was, would) == ("pass", "reject")),
        newly_passed=tuple(seq for seq, _, was, would in newest_first if (was, would) == ("reject", "pass")),
    )


def newest_model(journal: Path) -> str:
    """Return the SHA-256 of the model that judged the newest part; empty where none did. Raises JournalError."""
    with opened(journal) as file:
        return str((file.execute(NEWEST_MODEL).fetchone() or ("",))[0])
