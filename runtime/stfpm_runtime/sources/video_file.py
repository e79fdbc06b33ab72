"""Frames of video files, and whether a file is whole by the lengths that its container states."""

from __future__ import annotations

import functools
import logging
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import cv2

from stfpm_runtime.imaging.preprocessing import Image

from .base import Frame

LOG = logging.getLogger(__name__)

VIDEO_SUFFIXES = (
    ".avi", ".mkv", ".mov", ".mp4", ".m4v", ".mpeg", ".mpg", ".mpe", ".ts", ".mts", ".m2ts", ".webm", ".wmv", ".flv",
    ".ogv", ".3gp", ".mjpg", ".mjpeg", ".h264", ".h265", ".hevc",
)  # fmt: skip
UNCHECKED_VIDEOS = "damaged frames in the middle of a video look like whole ones; pip install 'stfpm-edge[video]'"
UNKNOWN_COUNT = 1 << 30
"""The number of frames that FFmpeg writes into an AVI file whose end it cannot know, because it goes into a pipe."""
_WRITTEN_AS_STREAM = 0xFFFF_FFFF
"""The length of a RIFF chunk whose writer could not know it."""
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp")
_EBML_HEADER, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_video(path: Path) -> bool:
    """Return whether the file's name says that it is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def read_video_file(path: Path, max_megapixels: float) -> Iterator[Frame]:
    """Yield all frames of a video, damaged ones as errors, and one with the error where its file is not whole."""
    capture, error, count = cv2.VideoCapture(str(path)), "", 0
    try:
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        # An AVI file counts its frames. Elsewhere the number is an estimate, or includes frames that are not shown.
        announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if path.suffix.lower() == ".avi" else 0
        if width * height > max_megapixels * 1e6:
            error = f"has frames of {width:.0f}x{height:.0f} pixels; expected at most {max_megapixels:g} megapixels"
            yield Frame(str(path), 0, error=f"{path}: {error}, raise max_megapixels if they are meant to be so large")
            return
        for image, error in _decode(path, capture, max_megapixels):
            yield Frame(str(path), count, image, f"{path}: {error}" if error else "")
            count += 1
    finally:
        capture.release()
    if count == 0:
        yield Frame(str(path), 0, error=f"{path}: no frame can be decoded; expected a whole video, copy it again")
    elif count < announced < UNKNOWN_COUNT:
        yield Frame(str(path), count, error=f"{path}: breaks off after {count} of {announced} frames; copy it again")
    elif breaks_off(path):
        yield Frame(str(path), count, error=f"{path}: breaks off after {count} frames; copy it again")


def checks_videos() -> bool:
    """Return whether damaged frames of videos are found, which needs PyAV; a warning is logged once if they are not."""
    found = find_spec("av") is not None
    if not found:
        _warn_unchecked()
    return found


@functools.cache
def _warn_unchecked() -> None:
    LOG.warning("%s", UNCHECKED_VIDEOS)


def _decode(path: Path, capture: cv2.VideoCapture, max_megapixels: float) -> Iterator[tuple[Image | None, str]]:
    """Yield pixels or error of each frame: with PyAV or, where that is not installed, with OpenCV."""
    if checks_videos():
        from .video import read_video

        yield from read_video(str(path), max_megapixels)
        return
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # as with pictures: a phone's flag would turn only some
    while True:
        try:
            read, image = capture.read()
        except cv2.error:
            return
        if not read:
            return
        yield image, ""  # type: ignore[misc]


def breaks_off(path: Path) -> bool:
    """Return whether an MP4, MOV, AVI or Matroska (WebM) file is shorter than it says; False for other containers.

    Files that were written as a stream state no length, and damage in the middle does not show.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(12)
            file.seek(0)
            if start[4:8] in _BOXES:
                return _boxes_end(file, size) > size
            if start[:4] == b"RIFF":
                return _riff_end(file, size) > size
            if start[:4] == _EBML_HEADER:
                return _matroska_end(file) > size
    except (OSError, struct.error, IndexError):
        return True
    return False


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Return where the last top-level box of an ISO media file ends (ISO/IEC 14496-12)."""
    position = 0
    while position < size:
        file.seek(position)
        length, _ = struct.unpack(">I4s", file.read(8))
        if length == 0:  # up to the end of the file
            return size
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        position += max(length, 8)
    return position


def _riff_end(file: BinaryIO, size: int) -> int:
    """Return where the last RIFF chunk ends; an AVI file beyond 1 GB has several."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or length == _WRITTEN_AS_STREAM:
            break
        if length == 0:  # it was never finished
            return size + 1
        position += 8 + length + length % 2
    return position


def _matroska_end(file: BinaryIO) -> int:
    """Return where the segment ends, 0 where it states no length (RFC 8794)."""
    for identifier in (_EBML_HEADER, _SEGMENT):
        if file.read(4) != identifier:
            return 0
        first = file.read(1)[0]
        octets = 9 - first.bit_length()
        length = int.from_bytes(bytes([first & (0xFF >> octets)]) + file.read(octets - 1), "big")
        if length == (1 << 7 * octets) - 1:
            return 0
        end = file.tell() + length
        if identifier == _EBML_HEADER:
            file.seek(end)
    return end
