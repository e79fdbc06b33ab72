"""Names of folders that say that their pictures show no good parts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

DEFECT_WORDS = {
    "abnormal", "anomalies", "anomalous", "anomaly", "ausschuss", "bad", "broken", "defect", "defective", "defects",
    "defekt", "fail", "failed", "fault", "faults", "faulty", "fehler", "ko", "ng", "nio", "nok", "notgood", "notok",
    "reject", "rejected", "rejects", "schlecht",
}  # fmt: skip
MASK_WORDS = {"annotation", "annotations", "groundtruth", "gt", "mask", "masks", "segmentation", "segmentations"}
GOOD_WORDS = {"gut", "good", "io", "normal", "ok", "pass", "passed"}
NOT_GOOD_WORDS = DEFECT_WORDS | MASK_WORDS


def suspect_folders(folders: Iterable[str]) -> set[str]:
    """Return those of the folders, named below a common one, that seem to hold defects or masks.

    A word of their names says so, or one of their parents lies beside a folder named like good pictures and is not.
    """
    parts = {name: Path(name).parts for name in folders}
    suspects = {name for name, parents in parts.items() if any(words_of(parent) & NOT_GOOD_WORDS for parent in parents)}
    good_parents = {
        parents[:depth]
        for parents in parts.values()
        for depth, parent in enumerate(parents)
        if words_of(parent) & GOOD_WORDS
    }
    for name, parents in parts.items():
        for depth, parent in enumerate(parents):
            if parents[:depth] in good_parents and not words_of(parent) & GOOD_WORDS:
                suspects.add(name)
    return suspects


def words_of(name: str) -> set[str]:
    """Return the words of a file's or folder's name in lower case, and their concatenation: `NG-2024_b` has ng."""
    words = "".join(c if c.isalnum() else " " for c in name.casefold()).split()
    return {*words, "".join(words)}
