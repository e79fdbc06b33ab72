"""Facts of pictures that tell whether they fit into a training set: of each picture, and of a folder of them."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from PIL.ImageFile import ImageFile

from stfpm_runtime.imaging.preprocessing import Image

SAMPLE_SIDE = 256
"""About so many rows and columns of a picture are looked at."""
BLACK_LEVEL = 16
"""A picture is near-black where 99.9% of its pixels are at or below this level of 255."""
CONSTANT_RANGE = 2
"""A picture is constant where the 1st and the 99th percentile of its levels are at most so far apart."""
ORIENTATION_TAG = 0x0112
BITS_PER_SAMPLE_TAG = 258


@dataclass(frozen=True)
class Picture:
    """Facts of one picture file."""

    path: str
    width: int
    """In pixels, as are all sides."""
    height: int
    kind: str
    """Bit depth and colour: `8-bit grey`, `8-bit colour`, `16-bit grey` or `16-bit colour`."""
    digest: str
    """A hash of all pixels."""
    orientation: int = 1
    """The EXIF flag, 1 to 8; 1 where there is none."""
    highest: int | None = None
    """The highest value of a 16-bit picture whose number of used bits was not declared; None for other pictures."""
    is_near_black: bool = False
    is_constant: bool = False
    has_two_levels: bool = False
    """Whether only two levels occur, as in a mask."""


@dataclass(frozen=True)
class DataReport:
    """Facts of a folder of good pictures. All paths are relative to `folder`."""

    folder: Path
    pictures: tuple[Picture, ...]
    """The pictures that are used."""
    unreadable: tuple[str, ...] = ()
    """Pictures that were left out because they cannot be read."""
    unopened: tuple[str, ...] = ()
    """Links that lead nowhere, and files and folders that cannot be opened, each with the reason."""
    other_suffixes: tuple[tuple[str, int], ...] = ()
    """Files that are left out because of their suffix: (suffix in lower case, number of files)."""
    files_sha256: str = ""
    """SHA-256 over the contents of all picture files that were found, the unreadable ones included."""

    @property
    def folders(self) -> Counter[str]:
        """Return the number of pictures in each folder; `.` is the folder itself."""
        return Counter(Path(picture.path).parent.as_posix() for picture in self.pictures)

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """Return the number of pictures of each (width, height), in pixels."""
        return Counter((picture.width, picture.height) for picture in self.pictures)

    @property
    def kinds(self) -> Counter[str]:
        """Return the number of pictures of each bit depth and colour, say `8-bit colour`."""
        return Counter(picture.kind for picture in self.pictures)

    @property
    def duplicates(self) -> tuple[str, ...]:
        """Return the pictures whose pixels all equal those of a picture before them."""
        seen: set[str] = set()
        return tuple(p.path for p in self.pictures if p.digest in seen or seen.add(p.digest))  # type: ignore[func-returns-value]

    def named(self, fact: str) -> tuple[str, ...]:
        """Return the pictures for which a boolean attribute of Picture is true."""
        return tuple(picture.path for picture in self.pictures if getattr(picture, fact))

    def provenance(self) -> dict[str, object]:
        """Return the essentials for a model's provenance, as plain JSON data."""
        return {
            "files_sha256": self.files_sha256,
            "pictures": len(self.pictures),
            "folders": dict(self.folders.most_common(20)),
            "sizes": {f"{width}x{height}": count for (width, height), count in self.sizes.most_common(20)},
            "kinds": dict(self.kinds),
            "duplicates": len(self.duplicates),
            "near_black": len(self.named("is_near_black")),
            "constant": len(self.named("is_constant")),
            "unreadable": list(self.unreadable[:100]),
            "unopened": list(self.unopened[:100]),
            "other_suffixes": dict(self.other_suffixes),
        }


def picture_facts(path: Path, frame: Image, name: str, declared_bits: int | None = None) -> Picture:
    """Return the facts of the picture file `path`, called `name`, whose decoded pixels are uint8 [H, W, 3], BGR.

    Bit depth and orientation come from the file's header; only 16-bit files without `declared_bits` are decoded again.
    """
    step = math.ceil(max(frame.shape[:2]) / SAMPLE_SIDE)
    levels = np.bincount(frame[::step, ::step].reshape(-1), minlength=256)
    p1, p99, p999 = np.searchsorted(levels.cumsum() / levels.sum(), (0.01, 0.99, 0.999))
    bits, is_grey, orientation = _header(path)
    return Picture(
        path=name,
        width=frame.shape[1],
        height=frame.shape[0],
        kind=f"{bits}-bit {'grey' if is_grey else 'colour'}",
        digest=hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=16).hexdigest(),
        orientation=orientation,
        highest=_highest(path) if bits == 16 and declared_bits is None else None,
        is_near_black=bool(p999 <= BLACK_LEVEL),
        is_constant=bool(p99 - p1 <= CONSTANT_RANGE),
        has_two_levels=bool(np.count_nonzero(levels) == 2 and np.ptp(np.flatnonzero(levels)) > CONSTANT_RANGE),
    )


def _header(path: Path) -> tuple[int, bool, int]:
    """Read bit depth, whether the picture is grey, and EXIF orientation; defaults where they are not known."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF data, and of large pictures, which were read already
            with PIL.Image.open(path) as picture:
                assert isinstance(picture, ImageFile), "it was opened from a file"
                bits = _bits(picture)
                is_grey = picture.mode in ("1", "L", "LA", "I", "F") or picture.mode.startswith("I;")
                # Pillow decodes a whole PNG picture to look for EXIF data behind the pixels.
                has_exif = picture.format != "PNG" or "exif" in picture.info
                orientation = picture.getexif().get(ORIENTATION_TAG, 1) if has_exif else 1
                return bits, is_grey, orientation if orientation in range(1, 9) else 1
    except Exception:  # Pillow's readers raise whatever a damaged header leads them to
        return 8, False, 1


def _bits(picture: ImageFile) -> int:
    """Return 16 for a picture of more than 8 bits a channel, else 8."""
    tags = getattr(picture, "tag_v2", {})
    if BITS_PER_SAMPLE_TAG in tags:
        return 16 if max(tags[BITS_PER_SAMPLE_TAG]) > 8 else 8
    arguments = picture.tile[0].args if picture.tile else ""
    if picture.format == "PPM" and isinstance(arguments, tuple):
        return 16 if arguments[1] > 255 else 8  # (raw mode, highest value)
    raw_mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return 16 if ";16" in str(raw_mode) or picture.mode.startswith("I") else 8


def _highest(path: Path) -> int | None:
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    return None if pixels is None or pixels.dtype != np.uint16 else int(pixels.max())
