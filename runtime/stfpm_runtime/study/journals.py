"""The presentations of a study from journals: the verdicts of a part, one after the other, are its trials."""

from __future__ import annotations

import collections
import contextlib
import math
from collections.abc import Sequence
from pathlib import Path

from stfpm_runtime.errors import DataError
from stfpm_runtime.line.journal.labels import read_labelled
from stfpm_runtime.line.journal.reader import JournalReader, Period, check_journals
from stfpm_runtime.line.journal.rows import WORST_FIRST, VerdictRow

from .presentations import Presentation


def is_journal(path: Path) -> bool:
    """Return whether a file begins as SQLite's files do; False for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False


def read_journal(
    path: Path, period: Period, references: dict[str, str] | None, per_region: bool, name: str
) -> tuple[list[Presentation], list[str]]:
    """Return the presentations of a journal, and notes on verdicts that were left out.

    A part's first verdict in the period is its first trial. Scores are relative: the threshold is 1.
    All regions judge a part together, or with `per_region` each is an appraiser of its own. `references` names the
    parts of the study; with None all parts take part, and their newest labels are their references.
    Raises JournalError, OptionError for an unknown camera, and DataError where regions have not judged a part equally
    often, where labels differ, or where model or threshold have changed during the study.
    """
    with contextlib.closing(JournalReader(path)) as journal:
        check_journals([journal], period.camera)
        kept, left_out = [], 0
        for row in journal.rows(period):
            if row.part and (references is None or row.part in references):
                kept.append(row)
            else:
                left_out += 1
    labelled = _labels(path, period) if references is None else references
    if not kept:
        raise DataError(f"{path}: has no verdicts of {'parts with an id' if references is None else 'these parts'} in "
                        "this period; expected the verdicts of the study")  # fmt: skip
    notes = []
    if left_out:
        notes.append(f"Verdicts of {path.name} that are left out, as they have no part id or one that the reference "
                     f"does not name: {left_out}.")  # fmt: skip
    _check_unchanged(path, kept)
    verdicts: dict[tuple[str, str], dict[tuple[str, str], list[VerdictRow]]] = {}
    for row in kept:
        appraiser = f"{name} {row.camera}/{row.region}" if per_region else name
        regions = verdicts.setdefault((row.part, appraiser), collections.defaultdict(list))
        regions[row.camera, row.region].append(row)
    places = {(row.camera, row.region) for row in kept}
    found = []
    for (part, appraiser), regions in verdicts.items():
        counts = {place: len(regions.get(place, ())) for place in (regions if per_region else places)}
        if len(set(counts.values())) > 1:
            texts = ", ".join(f"{count} of {'/'.join(place)}" for place, count in sorted(counts.items()))
            raise DataError(f"{path}: part {part} has unequal numbers of verdicts: {texts}; present it again, choose a "
                            "camera with --camera, or compare the regions with --per-region")  # fmt: skip
        for trial, together in enumerate(zip(*regions.values(), strict=True), 1):
            found.append(_presentation(path, part, appraiser, trial, together, labelled.get(part, "")))
    return found, notes


def _presentation(
    path: Path, part: str, appraiser: str, trial: int, rows: Sequence[VerdictRow], reference: str
) -> Presentation:
    """Return what the regions decided together: the worst decision, and the highest score unless one has none."""
    decision = next(one for one in WORST_FIRST if any(row.decision == one for row in rows))
    scores = [math.nan if row.relative_score is None else row.relative_score for row in rows]
    score = None if any(map(math.isnan, scores)) else max(scores)
    return Presentation(part, appraiser, trial, decision, score, reference, f"{path}: verdict {rows[0].seq}")


def _check_unchanged(path: Path, rows: Sequence[VerdictRow]) -> None:
    """Raise DataError where a region judged with more than one model or threshold: these are two studies."""
    used: dict[tuple[str, str], VerdictRow] = {}
    for row in rows:
        first = used.setdefault((row.camera, row.region), row)
        if (row.model, row.threshold) != (first.model, first.threshold):
            what = "model" if row.model != first.model else "threshold"
            raise DataError(
                f"{path}: verdict {row.seq} of {row.time} has another {what} than verdict {first.seq}; expected one "
                "model and one threshold; choose the study's time with --since and --until"
            )


def _labels(path: Path, period: Period) -> dict[str, str]:
    """Return what the labels say of each part; unclear parts have no reference. Raises DataError where they differ."""
    found: dict[str, str] = {}
    for row, label in read_labelled(path, period):
        if row.part and label.label != "unclear" and found.setdefault(row.part, label.label) != label.label:
            raise DataError(
                f"{path}: part {row.part} is labelled good and defect; label its verdicts alike, or "
                "give the references with --reference"
            )
    return found
