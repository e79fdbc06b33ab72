"""The presentations of a study: each is what one appraiser decided about one part in one trial."""

from __future__ import annotations

import collections
import csv
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stfpm_runtime.errors import DataError, name_some

DECISIONS = ("pass", "reject", "fault")
REFERENCES = ("good", "defect")
COLUMNS = ("part", "appraiser", "trial", "decision", "score", "reference")
LARGEST = 1e100
"""Squares of larger numbers could not be computed."""


@dataclass(frozen=True)
class Presentation:
    """What one appraiser decided about one part in one trial."""

    part: str
    appraiser: str
    trial: int
    """From 1."""
    decision: str
    """One of DECISIONS; empty where only scores are studied."""
    score: float | None
    """None where there is none, as of a fault and of a person."""
    reference: str
    """What the part is: one of REFERENCES; empty where nobody has said so."""
    place: str
    """Where it was read: file and line, or journal and verdict."""


@dataclass(frozen=True)
class Study:
    """All presentations of a balanced study: each appraiser has judged each part in each trial."""

    parts: tuple[str, ...]
    appraisers: tuple[str, ...]
    references: tuple[str, ...]
    """One of each part."""
    decisions: NDArray[np.str_]
    """[appraisers, parts, trials]; empty texts where an appraiser made none."""
    scores: NDArray[np.float64]
    """[appraisers, parts, trials]; NaN where there is none."""
    notes: tuple[str, ...]
    """What a reader has to know: parts that were left out."""

    @property
    def trials(self) -> int:
        """Return the number of trials."""
        return int(self.scores.shape[2])


def new_study(
    found: Sequence[Presentation],
    given: Mapping[str, str] | None = None,
    only_complete: bool = False,
    notes: Iterable[str] = (),
) -> Study:
    """Return a study of presentations; `given` holds references by part, `notes` those of the readers.

    `only_complete` leaves out the parts that lack presentations.
    Raises DataError where a presentation is there twice or lacking, where two references of a part differ, or where
    an appraiser made only some decisions.
    """
    deciding = {one.appraiser for one in found if one.decision}
    by_key: dict[tuple[str, str, int], Presentation] = {}
    references: dict[str, str] = {}
    for one in found:
        key = one.part, one.appraiser, one.trial
        if key in by_key:
            raise DataError(f"{one.place}: part {one.part}, appraiser {one.appraiser}, trial {one.trial} was at "
                            f"{by_key[key].place} already; expected each presentation once")  # fmt: skip
        by_key[key] = one
        if one.appraiser in deciding and not one.decision:
            raise DataError(f"{one.place}: part {one.part}, appraiser {one.appraiser}, trial {one.trial} has no "
                            "decision; expected one, as in this appraiser's other lines")  # fmt: skip
        known = references.get(one.part, "") or (given or {}).get(one.part, "")
        if one.reference and known and one.reference != known:
            raise DataError(f"{one.place}: part {one.part} is {one.reference} here and {known} elsewhere; "
                            "expected one reference of each part")  # fmt: skip
        references[one.part] = known or one.reference
    appraisers = tuple(dict.fromkeys(one.appraiser for one in found))
    counts = collections.Counter((one.part, one.appraiser) for one in found)
    trials = collections.Counter(counts.values()).most_common(1)[0][0] if found else 0
    expected = range(1, trials + 1)
    wrong = {
        part: name for part, name in itertools.product(references, appraisers)
        if counts[part, name] != trials or any((part, name, trial) not in by_key for trial in expected)
    }  # fmt: skip
    parts = tuple(sorted((part for part in references if part not in wrong), key=_natural_order))
    all_notes = list(notes)
    if wrong and not only_complete:
        part, name = next(iter(wrong.items()))
        raise DataError(
            f"the study is not balanced: got {counts[part, name]} of trials 1 to {trials} of part {part}, appraiser "
            f"{name}; expected all of each part; wrong are: {name_some(wrong)}; present these parts again, or leave "
            "them out with --only-complete"
        )
    if wrong:
        all_notes.append(f"Left out are parts without {trials} trials of each appraiser: {name_some(wrong)}.")
    if len(parts) < 2:
        raise DataError(
            f"parts in the study: {len(parts)}; expected two or more that all appraisers judged in all trials"
        )
    shape = len(appraisers), len(parts), trials
    ordered = [by_key[part, name, trial] for name in appraisers for part in parts for trial in expected]
    return Study(
        parts, appraisers, tuple(references[part] for part in parts),
        np.array([one.decision for one in ordered]).reshape(shape),
        np.array([math.nan if one.score is None else one.score for one in ordered]).reshape(shape), tuple(all_notes),
    )  # fmt: skip


def read_presentations(path: Path, threshold: float | None = None) -> Iterator[Presentation]:
    """Yield the presentations of a CSV file with COLUMNS; scores become relative where a threshold is given.

    Part and decision, or part and score, are required; without a trial a part's lines are counted; without an
    appraiser it is the file's name. Raises DataError, with the number of the line, for what is not understood.
    """
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for place, row in _read_rows(path, COLUMNS):
        appraiser = row["appraiser"] or path.stem
        if not row["decision"] and not row["score"]:
            raise DataError(f"{place}: part {row['part']} has neither decision nor score; expected one of them")
        for column, allowed in (("decision", DECISIONS), ("reference", REFERENCES)):
            if row[column] and row[column] not in allowed:
                raise DataError(f"{place}: got the {column} {row[column]!r}; expected {', '.join(allowed)}")
        counts[row["part"], appraiser] += 1
        trial = _number(row["trial"], place, "trial") if row["trial"] else counts[row["part"], appraiser]
        if trial < 1 or trial != int(trial):
            raise DataError(f"{place}: got the trial {row['trial']!r}; expected a whole number from 1")
        score = _number(row["score"], place, "score") / (threshold or 1) if row["score"] else None
        yield Presentation(row["part"], appraiser, int(trial), row["decision"], score, row["reference"], place)


def read_references(path: Path) -> dict[str, str]:
    """Return the reference of each part from a CSV file with the columns part and reference. Raises DataError."""
    found: dict[str, str] = {}
    for place, row in _read_rows(path, ("part", "reference")):
        if row["reference"] not in REFERENCES:
            raise DataError(f"{place}: got the reference {row['reference']!r}; expected {' or '.join(REFERENCES)}")
        if found.setdefault(row["part"], row["reference"]) != row["reference"]:
            raise DataError(f"{place}: part {row['part']} is {found[row['part']]} before; expected one reference")
    return found


def _read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each line's place and fields, an empty text for a column that is not there. Raises DataError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            semicolons = ";" in first  # a spreadsheet where 0.5 is written 0,5
            reader = csv.reader(file, delimiter=";" if semicolons else ",", strict=True)
            names = [name.strip().lower() for name in next(reader, [])]
            if "part" not in names or set(names) - set(columns) or len(set(names)) < len(names):
                raise DataError(f"{path}: line 1: got the columns {first.strip()!a:.80}; expected some of "
                                f"{','.join(columns)}, part among them")  # fmt: skip
            for fields in reader:
                place = f"{path}: line {reader.line_num}"
                if not any(fields):
                    continue
                if len(fields) != len(names):
                    raise DataError(f"{place}: got {len(fields)} fields; expected {len(names)}, as in line 1")
                row = {**dict.fromkeys(columns, ""), **dict(zip(names, map(str.strip, fields), strict=True))}
                if not row["part"] or not "".join(fields).isprintable():
                    raise DataError(f"{place}: expected the name of a part, and printable text")
                if semicolons and "score" in row:
                    row["score"] = row["score"].replace(",", ".")
                yield place, row
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: cannot be read as CSV ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a journal or a CSV file") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is neither a journal nor UTF-8 text; save it as CSV in UTF-8") from None


def _number(text: str, place: str, what: str) -> float:
    """Return a number from -LARGEST to LARGEST. Raises DataError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST:
        raise DataError(f"{place}: got the {what} {text!r:.80}; expected a number, at most {LARGEST:g}")
    return value


def _natural_order(name: str) -> list[tuple[str, int]]:
    """Return a key by which S2 is before S10."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d{0,18})", name)]
