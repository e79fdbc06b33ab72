"""The segments of a JPEG file, and damage in its coded data that a decoder does not notice."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""The next marker; stuffed bytes and restart markers belong to the coded picture."""
_MPF_ENTRIES = 0xB002
_GAIN_MAPS = (b"hdr-gain-map", b"HDRGainMap", b"urn:iso:std:iso:ts:21496")
"""Marks in the metadata of a gain map, as Adobe and Android, Apple and ISO 21496 write it."""
ZERO_RUN = bytes(32)
"""Zero bytes that coded coefficients of a picture do not give, see `check_jpeg_zeros`; WebP has no other check."""


class HeaderError(Exception):
    """The picture must not be decoded; the text says why, and the remedy."""


class TornPictureError(HeaderError):
    """The bytes are not a whole picture."""

    def __init__(self, reason: str = "the file ends before the picture does") -> None:
        super().__init__(f"{reason}; copy it again")


@dataclass(frozen=True)
class Header:
    """The description that a picture file carries."""

    kind: str
    """JPEG, PNG, TIFF and so on."""
    width: int
    """Width of the picture in pixels; 0 where the header does not say."""
    height: int
    pages: int = 1
    """Number of pages or of frames of an animation; reduced copies (thumbnails) of a page do not count."""
    strict: bool = True
    """True where OpenCV refuses coded data in which it finds an error."""


def read_jpeg_header(data: bytes) -> Header:
    """Read the size of a JPEG, and the number of pictures in an MPO file. Raises TornPictureError as it comes."""
    width = height = pages = 0
    ended = False
    for marker, start, end in jpeg_segments(data):
        if len(data) < end:
            raise TornPictureError
        if marker in _SIZES and not width:
            height, width = struct.unpack_from(">HH", data, start + 1)
        elif marker == 0xE2 and data.startswith(b"MPF\0", start):
            pages = _mpf_pictures(data, start + 4)
        ended = marker == 0xD9
    if not ended or not width:
        raise TornPictureError
    return Header("JPEG", width, height, max(1, pages))


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment's contents, up to the end marker 0xD9.

    After a scan header (0xDA), its coded data comes as a segment of marker 0. The list ends early where the file does.
    """
    position = 2
    while (found := _MARKER.search(data, position)) is not None:
        marker, start = data[found.end() - 1], found.end()
        if marker == 0xD9:
            yield marker, start, start
            return
        if marker == 0x01:
            position = start
            continue
        if start + 2 > len(data):
            return
        end = start + int.from_bytes(data[start : start + 2], "big")
        yield marker, start + 2, end
        position = end
        if marker == 0xDA:
            found = _MARKER.search(data, end)
            position = len(data) if found is None else found.start()
            yield 0, end, position


def _mpf_pictures(data: bytes, start: int) -> int:
    """Return the number of pictures that the index of a file of CIPA DC-007 (MPO), which begins at `start`, lists.

    Previews, which many cameras append, and gain maps for bright displays show the same part again: they do not count.
    """
    order = "<" if data.startswith(b"II", start) else ">"
    (offset,) = struct.unpack_from(order + "I", data, start + 4)
    (fields,) = struct.unpack_from(order + "H", data, start + offset)
    for number in range(fields):
        tag, _, size, where = struct.unpack_from(order + "HHII", data, start + offset + 2 + 12 * number)
        if tag == _MPF_ENTRIES:
            entries = (struct.unpack_from(order + "III", data, start + where + at) for at in range(0, size, 16))
            return sum(not _is_copy(data, kind & 0xFFFFFF, start + begin) for kind, _, begin in entries)
    return 1


def _is_copy(data: bytes, kind: int, begin: int) -> bool:
    """Return whether the picture at `begin` is a preview or a gain map; `kind` is its type in the index."""
    return kind >> 16 == 1 or (kind == 0 and any(mark in data[begin : begin + (1 << 16)] for mark in _GAIN_MAPS))


def check_jpeg_zeros(data: bytes) -> None:
    """Raise TornPictureError where coded JPEG data holds zero bytes that no encoder writes.

    Huffman codes find their way back after a gap, often without a trace for the decoder (25 of 40 pictures with 300
    zeroed bytes gave no warning). Zeros decode as the shortest code again and again. Where that code is a coefficient,
    as in the standard luminance table, 32 zero bytes are some 80 coefficients that are all -1: no picture has them.
    Where it ends a block, zeros may be a flat area; then a gap changes the number of blocks, and the decoder warns.
    """
    if ZERO_RUN not in data:
        return
    tables: dict[int, int] = {}  # the value of each AC table's code of zeros
    suspicious = False
    for marker, start, end in jpeg_segments(data):
        if marker == 0xC4:
            tables.update(_zero_codes(data[start:end]))
        elif marker == 0xDA:
            count = data[start]
            used = [tables.get(data[start + 2 + 2 * number] & 15, 0) for number in range(count)]
            has_coefficients = data[end - 2] > 0  # the last coefficient of the scan; 0: it holds averages alone
            suspicious = has_coefficients and any(value & 15 for value in used)
        elif marker == 0 and suspicious and data.find(ZERO_RUN, start, end) >= 0:
            raise TornPictureError("a part of the coded picture was overwritten with zeros")


def _zero_codes(tables: bytes) -> Iterator[tuple[int, int]]:
    """Yield each AC table's number, and the value (run and size) whose code is all zeros: its first."""
    position = 0
    while position + 17 < len(tables):
        count = sum(tables[position + 1 : position + 17])
        if tables[position] >> 4 == 1:
            yield tables[position] & 15, tables[position + 17]
        position += 17 + count
