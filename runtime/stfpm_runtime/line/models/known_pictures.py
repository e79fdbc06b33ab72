"""The pictures that a model must judge before it may replace another: known defects, and the newest of the journal."""

from __future__ import annotations

import contextlib
from pathlib import Path

from stfpm_runtime.ability import Expected
from stfpm_runtime.errors import ArtifactError
from stfpm_runtime.files import sha256
from stfpm_runtime.imaging.images import find_images
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.journal.labels import Label, read_labelled, read_pictured
from stfpm_runtime.line.journal.reader import Period
from stfpm_runtime.line.journal.rows import VerdictRow

from .trial import KnownPicture

GOOD = "good"
"""A folder of that name among the known defects holds good parts, as in MVTec AD's layout, and is left out."""


def known_pictures(options: LineOptions) -> list[KnownPicture]:
    """Return the known defects, the newest kept originals, and those of all labelled parts, with what is known of them.

    Regions that are cut into tiles are left out: their score is that of the tiles. Raises ArtifactError where the
    folder of known defects cannot be read, JournalError where the journal cannot.
    """
    found: list[KnownPicture] = []
    if folder := options.known_defects:
        try:
            paths = [path for path in find_images(folder) if path.parent.name != GOOD]
            found = [KnownPicture(str(path.absolute()), "reject", must_be_read=True) for path in paths]
        except OSError as error:
            raise ArtifactError(f"{folder}: the known defects cannot be read ({error.strerror})") from None
    if options.pictures:
        tiled = {(camera.name, region.name) for camera in options.camera for region in camera.regions if region.tile}
        known = {sha256(Path(one.path)) for one in found}  # a labelled part is often in both
        judged = {row.seq: (row, label) for row, label in read_pictured(options.journal.path, options.review.replay)}
        labelled = ((row, label) for row, label in read_labelled(options.journal.path, Period()) if row.picture)
        judged.update((row.seq, (row, label)) for row, label in labelled)
        for row, label in judged.values():
            path = options.pictures.folder / row.picture
            with contextlib.suppress(OSError):  # the line may have deleted it
                if (row.camera, row.region) not in tiled and sha256(path) not in known:
                    found.append(KnownPicture(str(path.absolute()), expected_of(row, label), must_be_read=False))
    return found


def expected_of(row: VerdictRow, label: Label | None) -> Expected:
    """Return what a model must decide about a part: as it is labelled, or else a pass where it passed by its score."""
    if label is not None and row.score is not None:
        answers: dict[str, Expected] = {"good": "pass", "defect": "reject"}
        return answers.get(label.label, "")
    is_clear = row.decision == "pass" and row.score is not None and row.score <= row.threshold
    return "pass" if is_clear else ""
