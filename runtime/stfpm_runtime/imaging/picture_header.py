"""The header of a picture file: its kind, size and number of pages, and whether all its bytes are there.

Decoders fill what is missing with grey or black and report nothing, and they reserve memory for whatever size a header
names. The header is therefore read and checked before any decoder sees the bytes.
"""

from __future__ import annotations

import re
import struct
import zlib

from .jpeg_data import ZERO_RUN, Header, HeaderError, TornPictureError, read_jpeg_header

PNG_START = b"\x89PNG\r\n\x1a\n"


def read_header(data: bytes) -> Header | None:
    """Read the header of a picture in memory; None for a kind that is not known here.

    Raises TornPictureError where the header says, or a checksum shows, that the file is not whole, and HeaderError for
    a TIFF file with inverted grey levels.
    """
    for start, reader in _READERS:
        if start.match(data):
            try:
                return reader(data)
            except (struct.error, LookupError, ValueError, OverflowError):
                raise TornPictureError from None
    return None


def looks_like_picture(start: bytes) -> bool:
    """Return whether a file that starts with these bytes, 32 or more, is of a kind that `read_header` knows."""
    return any(pattern.match(start) for pattern, _ in _READERS)


def _expect_bytes(data: bytes, count: int) -> None:
    if len(data) < count:
        raise TornPictureError


def _png(data: bytes) -> Header:
    """Check all checksums, too: OpenCV's reader ignores some of them."""
    position, pages = len(PNG_START), 1
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        _expect_bytes(data, end)
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise TornPictureError(f"the checksum of the PNG chunk {kind.decode('ascii', 'replace')} is wrong")
        if kind == b"acTL":
            pages = int.from_bytes(data[position + 8 : position + 12], "big")
        if kind == b"IEND":
            break
        position = end
    width, height = struct.unpack_from(">II", data, 16)
    return Header("PNG", width, height, pages)


def _bmp(data: bytes) -> Header:
    file_bytes, offset, info_bytes = struct.unpack_from("<I4xII", data, 2)
    if info_bytes == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    row_bytes = (width * bits + 31) // 32 * 4
    _expect_bytes(data, offset + row_bytes * abs(height) if compression in (0, 3) else file_bytes)
    return Header("BMP", abs(width), abs(height))


def _tiff(data: bytes) -> Header:
    order = "<" if data.startswith(b"II") else ">"
    big = data[2 if order == "<" else 3] == 43
    word, count_format, entry_bytes = ("Q", "Q", 20) if big else ("I", "H", 12)
    (offset,) = struct.unpack_from(order + word, data, 8 if big else 4)
    pages, size, seen, strict = 0, (0, 0), set(), True
    while offset and offset not in seen:
        seen.add(offset)
        (entries,) = struct.unpack_from(order + count_format, data, offset)
        first = offset + struct.calcsize(count_format)
        tags = dict(_tiff_tag(data, first + entry_bytes * number, order, big) for number in range(entries))
        for offsets, counts in ((273, 279), (324, 325)):  # of strips and of tiles
            for where, length in zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False):
                _expect_bytes(data, where + length)
                if tags.get(259) in ((8,), (32946,)):
                    _check_deflate(memoryview(data)[where : where + length])
        if tags.get(259, (1,)) != (1,) and max(tags.get(258, (1,))) <= 8:
            strict = False
        if tags.get(262) == (0,):
            raise HeaderError(
                "its grey levels are stored inverted (TIFF MinIsWhite), which decoders read in two ways; save it as PNG"
            )
        if not tags.get(254, (0,))[0] & 1:
            pages += 1
            size = size if size != (0, 0) else (tags[256][0], tags[257][0])
        (offset,) = struct.unpack_from(order + word, data, first + entry_bytes * entries)
    return Header("TIFF", *size, pages=pages, strict=strict)


def _check_deflate(coded: memoryview) -> None:
    """Raise TornPictureError unless the data ends well and has its checksum; at most 1 MiB is decoded at a time."""
    decoder = zlib.decompressobj()
    try:
        decoder.decompress(coded, 1 << 20)
        while not decoder.eof and decoder.unconsumed_tail:
            decoder.decompress(decoder.unconsumed_tail, 1 << 20)
    except zlib.error:
        raise TornPictureError("the compressed data of the TIFF file is damaged") from None
    if not decoder.eof:
        raise TornPictureError


def _tiff_tag(data: bytes, position: int, order: str, big: bool) -> tuple[int, tuple[int, ...]]:
    """Read one tag and its whole numbers; a tag of another type is empty."""
    tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, position)
    letter = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
    if letter is None:
        return tag, ()
    values = f"{order}{count}{letter}"
    where = position + (12 if big else 8)
    if struct.calcsize(values) > (8 if big else 4):
        (where,) = struct.unpack_from(order + ("Q" if big else "I"), data, where)
    _expect_bytes(data, where + struct.calcsize(values))
    return tag, struct.unpack_from(values, data, where)


def _webp(data: bytes) -> Header:
    """Read a WebP file; the lossless coding of 64 zero bytes in a row is damage, see `check_jpeg_zeros`.

    Pillow has to decode the picture, too: OpenCV passes over missing parts of an extended file.
    """
    _expect_bytes(data, int.from_bytes(data[4:8], "little") + 8)
    size, pages, position, end = (0, 0), 0, 12, int.from_bytes(data[4:8], "little") + 8
    while position + 8 <= end:
        kind, length = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        body = data[position + 8 : position + 8 + min(length, 16)]
        if kind == b"VP8X":
            size = (1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little"))
        elif kind == b"VP8L" and size == (0, 0):
            packed = int.from_bytes(body[1:5], "little")
            size = (1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
        elif kind == b"VP8 " and size == (0, 0):
            size = (struct.unpack_from("<H", body, 6)[0] & 0x3FFF, struct.unpack_from("<H", body, 8)[0] & 0x3FFF)
        if kind == b"VP8L" and data.find(2 * ZERO_RUN, position, position + 8 + length) >= 0:
            raise TornPictureError("a part of the coded picture was overwritten with zeros")
        pages += kind == b"ANMF"
        position += 8 + length + length % 2
    return Header("WebP", *size, pages=max(1, pages), strict=False)


_PNM = re.compile(rb"P[1-6]" + rb"(?:(?:\s|#[^\n]*\n)+(\d{1,9}))" * 2 + rb"(?:(?:\s|#[^\n]*\n)+(\d{1,9}))?")
_PAM = re.compile(rb"P7\n((?:[^\n]*\n)*?)ENDHDR\n")


def _pnm(data: bytes) -> Header:
    if data[1:2] == b"7":
        return _pam(data)
    found, kind = _PNM.match(data), data[1:2]
    if found is None or (kind not in b"14" and found[3] is None):
        raise TornPictureError
    width, height = int(found[1]), int(found[2])
    if kind == b"4":
        _expect_bytes(data, found.end(2) + 1 + (width + 7) // 8 * height)
    elif kind in b"56":
        _expect_bytes(data, found.end() + 1 + width * height * (3 if kind == b"6" else 1) * (1 + (int(found[3]) > 255)))
    return Header("PNM", width, height)


def _pam(data: bytes) -> Header:
    found = _PAM.match(data)
    if found is None:
        raise TornPictureError
    values = dict(line.split(maxsplit=1) for line in found[1].splitlines() if len(line.split()) > 1)
    width, height, depth, most = (int(values.get(key, b"")) for key in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
    _expect_bytes(data, found.end() + width * height * depth * (1 + (most > 255)))
    return Header("PAM", width, height)


def _gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position, pages = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0), 0
    while data[position] != 0x3B:
        if data[position] == 0x2C:
            pages += 1
            flags = data[position + 9]
            position += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        elif data[position] == 0x21:
            position += 2
        else:
            raise TornPictureError("a block of the GIF file is damaged")
        while data[position]:
            position += 1 + data[position]
        position += 1
    return Header("GIF", width, height, pages)


def _jpeg2000(data: bytes) -> Header:
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or data.rfind(b"\xff\xd9") < start:
        raise TornPictureError
    right, bottom, left, top = struct.unpack_from(">IIII", data, start + 8)
    return Header("JPEG 2000", right - left, bottom - top)


def _avif(data: bytes) -> Header:
    position = 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if length == 0:  # the last box, up to the end
            break
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, position + 8)
        if length < 8:
            raise TornPictureError("a box of the AVIF file is damaged")
        position += length
        _expect_bytes(data, position)
    found = data.find(b"ispe")
    width, height = struct.unpack_from(">II", data, found + 8) if found >= 0 else (0, 0)
    return Header("AVIF", width, height, 2 if data[8:12] == b"avis" else 1)


_READERS = [
    (re.compile(rb"\xff\xd8"), read_jpeg_header),
    (re.compile(rb"\x89PNG"), _png),
    (re.compile(rb"BM"), _bmp),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), _tiff),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
    (re.compile(rb"P[1-7]\s"), _pnm),
    (re.compile(rb"GIF8"), _gif),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), _jpeg2000),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), _avif),
]
