"""Reading pictures, and finding them. What cannot be read in full is an ImageError, never a guess."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import simplejpeg

from stfpm_runtime.errors import ImageError
from stfpm_runtime.options import MAX_MEGAPIXELS

from .jpeg_data import Header, HeaderError, check_jpeg_zeros
from .picture_header import read_header
from .preprocessing import Image, to_bgr8

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".tif", ".tiff", ".webp",
    ".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".gif", ".jp2", ".j2k", ".j2c", ".jpc", ".avif",
    ".tga", ".pcx", ".sgi", ".ras",
)  # fmt: skip
"""File names that end like this are pictures."""

_FLAGS = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
"""ANYDEPTH keeps 16 bits for `to_bgr8`; the orientation is ignored: a camera's flag would turn only some pictures."""
_EXPECTED = "expected a PNG, JPEG, BMP, TIFF or WebP picture"


@dataclass
class Found:
    """The files of a folder."""

    files: list[Path] = field(default_factory=list)
    """The files that were wanted, sorted by path; damaged pictures included."""
    left_out: dict[Path, str] = field(default_factory=dict)
    """All other files, and folders that could not be searched, each with the reason; hidden ones do not count."""


def is_image(path: Path) -> bool:
    """Return whether the file's name says that it is a picture. Hidden files (macOS writes `._photo.jpg`) are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def find_images(folder: Path) -> list[Path]:
    """Return all pictures below `folder`, sorted by path, those behind links to folders and damaged ones included."""
    return survey_folder(folder).files


def survey_folder(folder: Path, wanted: Callable[[Path], bool] = is_image) -> Found:
    """Return the files below `folder` that are wanted (pictures), and by name what else lies there.

    Links to folders are followed. Raises OSError where the folder itself cannot be read.
    """
    found = Found()
    for name, _, problem in walk_files(folder):
        path = Path(name)
        if problem:
            found.left_out[path] = problem
        elif wanted(path):
            found.files.append(path)
        elif not path.name.startswith("."):
            found.left_out[path] = why_left_out(path)
    found.files.sort()
    return found


def why_left_out(path: Path) -> str:
    """Return the reason why a file is not read, as its name says that it is no picture."""
    return f"files named *{path.suffix} are not read" if path.suffix else "files without a suffix are not read"


def walk_files(folder: Path) -> Iterator[tuple[str, os.stat_result | None, str]]:
    """Yield path and status of each file below `folder`, and with the reason what cannot be searched or opened.

    Links to folders are followed; each folder is searched once, however many links lead to it.
    Raises OSError where `folder` itself cannot be read.
    """
    status = os.stat(folder)  # noqa: PTH116 (text, as everything here: a folder may hold 100,000 files)
    waiting, searched = [str(folder)], {(status.st_dev, status.st_ino)}
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as opened:
                entries = list(opened)
        except OSError as error:
            if here == str(folder):
                raise
            yield here, None, f"the folder cannot be read ({error.strerror})"
            continue
        for entry in entries:
            try:
                if entry.is_dir():
                    status = entry.stat()
                    if (status.st_dev, status.st_ino) not in searched:
                        searched.add((status.st_dev, status.st_ino))
                        waiting.append(entry.path)
                elif entry.is_file():
                    yield entry.path, entry.stat(), ""
                elif entry.is_symlink():
                    yield entry.path, None, "the link leads nowhere"
            except FileNotFoundError:
                continue  # it was taken away between two calls
            except OSError as error:
                yield entry.path, None, f"cannot be opened ({error.strerror})"


def read_image(
    path: str | os.PathLike[str], *, bits: int | None = None, max_megapixels: float = MAX_MEGAPIXELS
) -> Image:
    """Read a picture file as uint8 [H, W, 3], BGR; see `decode_image` for the arguments.

    Raises ImageError, with the path, for a file that is missing or empty, and where `decode_image` does.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}); check that it exists and may be read") from None
    return decode_image(data, os.fspath(path), bits=bits, max_megapixels=max_megapixels)


def decode_image(data: bytes, name: str, *, bits: int | None = None, max_megapixels: float = MAX_MEGAPIXELS) -> Image:
    """Decode a picture in memory as uint8 [H, W, 3], BGR; grey, alpha and 16 bits are treated as `to_bgr8` does it.

    `bits`, 9 to 16, is the number of bits that the values of a 16-bit picture use. An EXIF orientation is ignored: the
    picture comes as the sensor gave it. `name` begins the messages of errors.

    Raises ImageError for bytes that are no picture or only a part of one, for a picture that its decoder finds
    damaged, one of several pages or frames, and one of more than `max_megapixels` (it is refused before decoding).
    Formats without checksums (BMP, PNM, uncompressed TIFF, lossy WebP, JPEG 2000) cannot show that values in their
    middle were changed, and a JPEG does not always show it.
    """
    if not data:
        raise ImageError(f"{name}: the file is empty; expected a picture, copy it again")
    try:
        header = read_header(data)
        if header is not None:
            _check(header, max_megapixels)
        pixels = _decode(data, header, max_megapixels)
        return to_bgr8(pixels, bits)
    except (HeaderError, ImageError) as error:
        raise ImageError(f"{name}: {error}") from None


def _check(header: Header, max_megapixels: float) -> None:
    megapixels = header.width * header.height / 1e6
    if megapixels > max_megapixels:
        raise ImageError(
            f"cannot be decoded: it has {megapixels:.1f} megapixels ({header.width}x{header.height}); expected at most "
            f"{max_megapixels:g}, raise max_megapixels if it is meant to be so large"
        )
    if header.pages > 1:
        raise ImageError(
            f"the {header.kind} file holds {header.pages} pictures; expected one, save each as a file of its own"
        )


def _decode(data: bytes, header: Header | None, max_megapixels: float) -> npt.NDArray[Any]:
    if header is None:
        return _decode_with_pillow(data, max_megapixels)
    if header.kind == "JPEG":
        return _decode_jpeg(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded ({error.err}); {_EXPECTED}") from None
    if pixels is None or not header.strict:
        checked = _decode_with_pillow(data, max_megapixels)
        pixels = checked if pixels is None else pixels
    return pixels


def _decode_jpeg(data: bytes) -> npt.NDArray[Any]:
    """Decode with libjpeg-turbo, whose warnings are errors here; OpenCV's copy of it prints them and goes on."""
    try:
        pixels = simplejpeg.decode_jpeg(data, "BGR", strict=True)
    except ValueError as error:
        raise ImageError(f"cannot be decoded cleanly ({error}); copy it again") from None
    check_jpeg_zeros(data)
    return pixels  # type: ignore[no-any-return]


def _decode_with_pillow(data: bytes, max_megapixels: float) -> npt.NDArray[Any]:
    """Decode with Pillow what OpenCV does not read. It refuses coded data that is damaged."""
    try:
        with PIL.Image.open(io.BytesIO(data)) as picture:
            pages = getattr(picture, "n_frames", 1)
            _check(Header(picture.format or "", *picture.size, pages), max_megapixels)
            if picture.mode in ("F", "I") or picture.mode.startswith("I;"):
                raise ImageError(f"cannot be decoded: its pixels are of mode {picture.mode}; expected 8 bits a channel")
            return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1])
    except ImageError:
        raise
    except Exception:  # what Pillow's decoders raise for damaged data has no common base
        raise ImageError(f"cannot be decoded; {_EXPECTED}, copy it again if it is one") from None
