"""Reading pictures, and finding them. What cannot be read in full is an ImageError, never a guess."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from .errors import ImageError
from .preprocessing import Image, to_bgr8

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


def is_image(path: Path) -> bool:
    """Whether the file's name says that it is a picture. Hidden files (macOS writes `._photo.jpg`) are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def find_images(folder: Path) -> list[Path]:
    """All pictures below `folder`, sorted by path; those whose contents are damaged included."""
    return sorted(path for path in folder.rglob("*") if is_image(path) and path.is_file())


def read_image(path: Path) -> Image:
    """The picture as uint8 [H, W, 3], BGR; grey, alpha and 16 bit as `to_bgr8` has it, EXIF orientation left alone.

    Raises ImageError, with the path, for a file that is missing, empty, cut off or no picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}); check that it exists and may be read") from None
    if not data:
        raise ImageError(f"{path}: the file is empty; expected a picture, copy it again")
    if _is_cut_off(data):
        raise ImageError(f"{path}: the file ends before the picture does; copy it again")
    try:
        # ANYDEPTH keeps 16 bits for to_bgr8; the orientation flag of a phone would turn only some of the pictures.
        flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # OpenCV throws for pictures of more than 2^30 pixels
        raise ImageError(f"{path}: cannot be decoded ({error.err}); expected a picture that OpenCV reads") from None
    if pixels is None:
        raise ImageError(f"{path}: cannot be decoded; expected a PNG, JPEG, BMP, TIFF or WebP picture")
    try:
        return to_bgr8(pixels)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def _is_cut_off(data: bytes) -> bool:
    """Decoders fill the missing part of a JPEG or PNG with grey and say nothing: look for the end marks ourselves."""
    if data.startswith(b"\xff\xd8"):
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")  # the last scan has no end of image behind it
    if data.startswith(b"\x89PNG"):
        return data.rfind(b"IEND") < 0
    return False
