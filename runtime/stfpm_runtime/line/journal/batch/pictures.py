"""The kept pictures of a report: whether they are what the journal says, and small ones of them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from stfpm_runtime.errors import ImageError
from stfpm_runtime.files import file_below
from stfpm_runtime.imaging.images import decode_image
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.line.journal.rows import VerdictRow

PICTURES = 200
"""The most pictures in a report: those of the first rejects, then of the first faults."""
WIDTH = 400
"""The most pixels along each side of a small picture."""
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 80]
WRONG = ("CHANGED", "MISSING")
"""States of a picture that is not the one that the line wrote."""


@dataclass(frozen=True)
class KeptPicture:
    """A picture of a verdict."""

    row: VerdictRow
    name: str
    """The name below the folder of the pictures."""
    sha256: str
    """As the journal has it; empty where it has none."""
    state: str
    """In words; one of `WRONG` where it is not the one that the line wrote."""
    small: str
    """A JPEG in Base64; empty where the picture is not shown."""


def read_pictures(
    rows: Sequence[VerdictRow], folder: Path | None, recorded: Mapping[str, str]
) -> dict[int, KeptPicture]:
    """Return the first pictures of these verdicts by the verdicts' numbers, the one with the anomaly map if there is.

    `folder` is that of the pictures, `recorded` the journal's SHA-256 by name.
    """
    shown = [(row, row.overlay or row.picture) for row in rows if row.overlay or row.picture][:PICTURES]
    return {row.seq: _read(row, name, folder, recorded.get(name)) for row, name in shown}


def _read(row: VerdictRow, name: str, folder: Path | None, digest: str | None) -> KeptPicture:
    def found(state: str, small: str = "") -> KeptPicture:
        return KeptPicture(row, name, digest or "", state, small)

    if digest == "":
        return found("deleted by the line for space")
    if folder is None:
        return found("not looked at")
    try:
        path = file_below(folder, name)
        data = path.read_bytes() if path else None
    except OSError:
        data = None
    if data is None:
        return found("was not written" if digest is None else "MISSING")
    state = "unchanged" if hashlib.sha256(data).hexdigest() == digest else "CHANGED"
    try:
        small = shrink(decode_image(data, name))
    except ImageError:
        return found(state if state == "CHANGED" else "cannot be read")
    jpeg = base64.b64encode(cv2.imencode(".jpg", small, QUALITY)[1].tobytes()).decode()
    return found("without SHA-256 in the journal" if digest is None else state, jpeg)


def shrink(image: Image) -> Image:
    """Return an image, uint8 [H, W, 3], with at most `WIDTH` pixels along each side.

    It is averaged over squares in whole numbers: the result is the same on every processor.
    """
    step = -(-max(image.shape[:2]) // WIDTH)
    down, across = (min(step, side) for side in image.shape[:2])
    height, width = image.shape[0] // down, image.shape[1] // across
    rows = image[: height * down, : width * across].reshape(height, down, -1).sum(axis=1, dtype=np.uint32)
    squares = rows.reshape(height, width, across, 3).sum(axis=2)
    means: Image = (squares // (down * across)).astype(np.uint8)
    return means
