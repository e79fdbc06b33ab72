"""Whether a video file is whole, from the lengths that its container states."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_WRITTEN_AS_STREAM = 0xFFFF_FFFF
"""The length of a RIFF chunk whose writer could not know it."""
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp")


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
            if start[:4] == b"\x1a\x45\xdf\xa3":
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
    for identifier in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        if file.read(4) != identifier:
            return 0
        first = file.read(1)[0]
        octets = 9 - first.bit_length()
        length = int.from_bytes(bytes([first & (0xFF >> octets)]) + file.read(octets - 1), "big")
        if length == (1 << 7 * octets) - 1:
            return 0
        end = file.tell() + length
        if identifier == b"\x1a\x45\xdf\xa3":
            file.seek(end)
    return end
