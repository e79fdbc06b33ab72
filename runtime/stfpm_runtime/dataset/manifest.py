"""The manifest of a data set: one line of JSON for each picture, with its SHA-256, its use and its origin.

The folder has MVTec AD's layout: `train/good` holds the good parts, `test/KIND` the known defects, and `test/good`
further good parts that no training sees.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stfpm_runtime.errors import DataError
from stfpm_runtime.files import atomic_path, sha256
from stfpm_runtime.imaging.images import find_images
from stfpm_runtime.imaging.perceptual_hash import ALIKE, hash_distances

MANIFEST = "manifest.jsonl"
GOOD = "good"


@dataclass(frozen=True)
class Entry:
    """A picture of the data set."""

    path: str
    """Its path within the data set, with slashes."""
    sha256: str
    looks: str
    """Its perceptual hash, in hexadecimal."""
    journal: str = ""
    """The id of the journal that it comes from; empty for one that was there before."""
    seq: int = 0
    """The number of its verdict."""
    camera: str = ""
    region: str = ""
    time: str = ""
    """When it was judged, UTC."""
    label: str = ""
    by: str = ""
    """The name of the person who labelled the part."""
    labelled: str = ""
    """When the part was labelled, UTC."""
    note: str = ""

    @property
    def is_trained_on(self) -> bool:
        """Return whether trainings use it."""
        return self.path.startswith("train/")

    @property
    def is_good(self) -> bool:
        """Return whether it shows a good part."""
        return Path(self.path).parent.name == GOOD


def read_manifest(path: Path) -> list[Entry]:
    """Return the entries of a manifest. Raises DataError for a line that is none, with its number."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise DataError(f"{path}: cannot be read ({why}); expected a manifest that stfpm-dataset wrote") from None
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(Entry(**json.loads(line)))
        except (json.JSONDecodeError, TypeError):
            raise DataError(f"{path}: line {number} is no entry of a manifest; restore the file") from None
    return entries


def write_manifest(path: Path, entries: Iterable[Entry]) -> None:
    """Replace a manifest. Raises OutputError, and then the old one stays."""
    with atomic_path(path) as unfinished:
        lines = (json.dumps(dataclasses.asdict(entry)) for entry in sorted(entries, key=lambda entry: entry.path))
        unfinished.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def check_manifest(manifest: Path, entries: Sequence[Entry]) -> None:
    """Raise DataError where a picture is missing, was changed, is not in the manifest, or is in two sets."""
    folder = manifest.parent
    for entry in entries:
        path = folder / entry.path
        if not path.is_file():
            raise DataError(f"{path}: is gone; bring it back, or run stfpm-dataset again, which drops it")
        if sha256(path) != entry.sha256:
            raise DataError(f"{path}: was changed since it was entered into {manifest.name}; bring the old file back")
    known = {entry.path for entry in entries}
    if unknown := [path for path in pictures_of(folder) if path not in known]:
        raise DataError(
            f"{folder / unknown[0]}: is one of {len(unknown)} pictures that {manifest.name} does not have; "
            "run stfpm-dataset first"
        )
    check_sets(folder, entries)


def check_sets(folder: Path, entries: Sequence[Entry]) -> None:
    """Raise DataError where a known defect, or a near-duplicate of it, is also a good picture."""
    good = [entry for entry in entries if entry.is_good]
    defects = [entry for entry in entries if not entry.is_good]
    if good and defects:
        distances = hash_distances([entry.looks for entry in defects], [entry.looks for entry in good])
        row, column = np.unravel_index(int(distances.argmin()), distances.shape)
        if distances[row, column] <= ALIKE:
            one, other = defects[int(row)], good[int(column)]
            raise DataError(
                f"{folder / one.path}: shows the same part as the good {other.path}; label it again, or remove one"
            )


def find_duplicates(entries: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Return pairs of near-duplicates of which one is trained on and the other is not: a test would see its twin."""
    trained = [entry for entry in entries if entry.is_trained_on]
    tested = [entry for entry in entries if not entry.is_trained_on and entry.is_good]
    if not (trained and tested):
        return []
    distances = hash_distances([entry.looks for entry in tested], [entry.looks for entry in trained])
    return [(tested[row], trained[column]) for row, column in np.argwhere(distances <= ALIKE).tolist()]


def pictures_of(folder: Path) -> list[str]:
    """Return the paths of the pictures in the sets of a data set, with slashes, relative to its folder."""
    sets = [folder / "train" / GOOD, *sorted(path for path in (folder / "test").glob("*") if path.is_dir())]
    found = itertools.chain.from_iterable(find_images(one) for one in sets if one.is_dir())
    return [path.relative_to(folder).as_posix() for path in found]
