"""Extending a data set: the labelled parts of a line's journal join it, with the original pictures that were kept."""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stfpm_runtime.errors import DataError, OptionError, OutputError
from stfpm_runtime.files import atomic_path, sha256
from stfpm_runtime.imaging.images import read_image
from stfpm_runtime.imaging.perceptual_hash import ALIKE, hash_distances, perceptual_hash
from stfpm_runtime.line.journal.labels import Label, read_labelled
from stfpm_runtime.line.journal.reader import JournalReader, Period
from stfpm_runtime.line.journal.rows import VerdictRow

from .manifest import (
    GOOD,
    MANIFEST,
    Entry,
    check_sets,
    find_duplicates,
    pictures_of,
    read_manifest,
    write_manifest,
)

NAME = re.compile(r"([0-9a-f]{8})-(\d{12})")
"""The name of a picture that came from a line: the id of the journal, and the number of the verdict."""
UNNAMED = "defect"
"""The kind of a defect that nobody has named."""


@dataclass(frozen=True)
class ExtendOptions:
    """Which labelled parts join which data set."""

    data: Path
    """The folder of the data set; it may be new."""
    journal: Path | None = None
    """None: the pictures that are there are entered, and nothing else."""
    pictures: Path | None = None
    """The folder of the line's pictures."""
    camera: str = ""
    """Empty: all cameras."""
    good_to: str = "train"
    """`train` or `test`: which good pictures a labelled good part joins."""
    bits: int | None = None
    model: str = ""
    """The beginning of the SHA-256 of the model that has judged the parts; empty: any."""

    def __post_init__(self) -> None:
        if (self.journal is None) != (self.pictures is None):
            raise OptionError("got a journal or --pictures alone; expected both: the journal holds the pictures' names")


@dataclass
class Extension:
    """The changes to a data set."""

    added: list[Entry] = field(default_factory=list)
    removed: list[Entry] = field(default_factory=list)
    """Pictures whose part was labelled otherwise since, or unclear."""
    entered: int = 0
    """Pictures that were there before."""
    gone: int = 0
    """Pictures that are neither in the data set nor with the line any more; the manifest drops them."""
    duplicates: int = 0
    """Labelled parts whose picture, or nearly the same, is in the same set already."""
    without_picture: int = 0
    entries: list[Entry] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return what was done, for a person."""
        train = sum(entry.is_trained_on for entry in self.entries)
        defects = sum(not entry.is_good for entry in self.entries)
        counts = [
            (len(self.added), "labelled parts were added"),
            (len(self.removed), "were removed, since their label has changed"),
            (self.gone, "pictures were removed from the manifest, as their files are missing"),
            (self.entered, "pictures that were there already were added to the manifest"),
            (self.duplicates, "labelled parts were left out: their picture is there already"),
            (self.without_picture, "labelled parts were left out: their picture was not kept, or has been deleted"),
        ]
        lines = [f"{count} {words}" for count, words in counts if count]
        twins = find_duplicates(self.entries)
        if twins:
            one, other = twins[0]
            lines.append(
                f"warning: {len(twins)} test pictures are nearly those of a training, say {one.path} and {other.path}"
            )
        total = f"{train} good pictures to train on, {defects} known defects, "
        return [*lines, f"{total}{len(self.entries) - train - defects} further good pictures"]


def extend(options: ExtendOptions) -> Extension:
    """Let labelled parts join a data set, and write its manifest; what is there already stays.

    Raises StfpmError for a journal or a picture that cannot be read, and for a part that would be good and a defect:
    then nothing was changed. Pictures are copied last: after a full disk the next run copies what is missing.
    """
    if options.journal is None and not options.data.is_dir():
        raise DataError(f"{options.data}: no such folder; expected a data set, or a journal to make one from")
    if options.pictures is not None and not options.pictures.is_dir():
        raise DataError(f"{options.pictures}: is no folder; expected that of the line's pictures")
    journal_id = ""
    if options.journal is not None:
        with contextlib.closing(JournalReader(options.journal)) as reader:
            journal_id = reader.id
    manifest = options.data / MANIFEST
    with _locked(manifest):
        entries = {entry.path: entry for entry in (read_manifest(manifest) if manifest.exists() else [])}
        done = Extension()
        for path in pictures_of(options.data):
            if path not in entries:
                file = options.data / path
                origin = NAME.fullmatch(file.stem)  # of a run that ended before it wrote the manifest
                journal, seq = (origin[1], int(origin[2])) if origin else ("", 0)
                looks = perceptual_hash(read_image(file, bits=options.bits))
                entries[path] = Entry(path, sha256(file), looks, journal, seq)
                done.entered += 1
        sources = _plan(options, journal_id, entries, done) if journal_id else {}
        kept = {path: one for path, one in entries.items() if path in sources or (options.data / path).is_file()}
        done.gone, done.entries = len(entries) - len(kept), list(kept.values())
        check_sets(options.data, done.entries)
        moved = {source: path for path, source in sources.items()}
        for entry in done.removed:
            old = options.data / entry.path
            if old in moved:
                _move(old, options.data / moved[old])
            else:
                old.unlink(missing_ok=True)
        write_manifest(manifest, done.entries)
        for path, source in sources.items():
            if not (options.data / path).is_file():
                with atomic_path(options.data / path) as unfinished:
                    shutil.copyfile(source, unfinished)
    return done


def _plan(options: ExtendOptions, journal: str, entries: dict[str, Entry], done: Extension) -> dict[str, Path]:
    """Bring the entries up to date with the labels; return the sources of the pictures that are not in place.

    `journal` is the journal's id.
    """
    assert options.journal is not None, "asked by the caller"
    assert options.pictures is not None, "checked with the options"
    by_part = {(entry.journal, entry.seq): entry for entry in entries.values() if entry.journal}
    sources: dict[str, Path] = {}
    for row, label in read_labelled(options.journal, Period(camera=options.camera)):
        if not row.model.startswith(options.model):
            continue
        before = by_part.get((journal, row.seq))
        target = _target(row, label, journal, options.good_to)
        if before is not None and before.is_good and label.label == "good":
            target = before.path  # what was trained on stays where it is
        own = options.data / before.path if before else None
        source = options.pictures / row.picture if row.picture else None
        is_same = before is not None and bool(target) and Path(before.path).parent == Path(target).parent
        if before is not None and not is_same:
            done.removed.append(entries.pop(before.path))
        elif own is not None and own.is_file():
            continue
        found = next((path for path in (source, own) if path is not None and path.is_file()), None)
        if not target:
            continue
        if found is None:
            done.without_picture += 1
            continue
        entry = Entry(
            target, sha256(found), perceptual_hash(read_image(found, bits=options.bits)), journal, row.seq, row.camera,
            row.region, row.time, label.label, label.who, label.time, label.note,
        )  # fmt: skip
        if _is_there(entry, entries):
            done.duplicates += 1
            continue
        entries[target], sources[target] = entry, found
        done.added.append(entry)
    return sources


def _target(row: VerdictRow, label: Label, journal: str, good_to: str) -> str:
    """Return the path within the data set; empty for a part that joins none."""
    if label.label == "unclear" or row.score is None:  # the picture of a fault may be the whole frame
        return ""
    kind = "".join(c if c.isalnum() or c in "-_" else "_" for c in label.kind) or UNNAMED
    kind = f"{UNNAMED}_{kind}" if kind == GOOD else kind
    folder = f"{good_to}/{GOOD}" if label.label == "good" else f"test/{kind}"
    return f"{folder}/{journal}-{row.seq:012d}{Path(row.picture).suffix or '.png'}"


def _is_there(entry: Entry, entries: dict[str, Entry]) -> bool:
    """Return whether the same folder has the picture, or nearly the same."""
    folder = Path(entry.path).parent
    alike = [other.looks for path, other in entries.items() if path != entry.path and Path(path).parent == folder]
    return bool(alike) and int(hash_distances([entry.looks], alike).min()) <= ALIKE


def _move(old: Path, new: Path) -> None:
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
        old.replace(new)
    except OSError as error:
        raise OutputError(f"{new}: cannot be written ({error.strerror}); check the folder") from None


@contextlib.contextmanager
def _locked(manifest: Path) -> Iterator[None]:
    """Keep other runs from changing the same data set. Raises OutputError where one does."""
    lock = manifest.with_name(f".{manifest.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w", encoding="ascii")
    except OSError as error:
        raise OutputError(f"{lock.parent}: cannot be written ({error.strerror}); choose another place") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(f"{manifest}: another stfpm-dataset changes it; wait until it has ended") from None
        yield
