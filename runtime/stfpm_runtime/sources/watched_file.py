"""One file in a watched folder: whether it is whole, has changed, or was overwritten."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

TAIL = 64
"""Bytes at the end of a file by which two pictures are distinguished."""
_ENDS = ((b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG", b"IEND\xaeB`\x82"))
"""First and last bytes of the formats whose end shows that the file is whole."""

Stamp = tuple[int, int, int, int]
"""Time of the last change of contents in ns, size in bytes, inode, time of the last change of anything in ns."""


@dataclass
class WatchedFile:
    """What is known of one file."""

    stamp: Stamp
    since_ns: int
    """When this stamp was first seen."""
    arrived_ns: int
    """When the picture began to come: one that was being written before a trigger shows nothing that came after."""
    seen_s: float
    """When the file was last there."""
    given: bool = False
    """Whether it was given, is being decoded, or lay there before the start."""
    tried: bool = False
    """Whether decoding failed since it changed."""
    tail: bytes = b""
    """Its last bytes, where they show that it is complete, so that nothing needs to be waited for."""
    checksum: int | None = None
    """CRC-32 of the contents that were given; None where they were not read."""
    read_s: float = 0.0
    """When it was read: what a scan saw before then is out of date."""

    def is_unchanged(self, path: str, stamp: Stamp) -> bool:
        """Return whether at most the file's rights, times, links or inode changed: that is no new picture."""
        if stamp == self.stamp:
            return True
        if self.checksum is not None and stamp[:2] == self.stamp[:2]:
            return self._has_contents_of(path)
        return not self.given and self.tail != b"" and (self.stamp[1], self.tail) == (stamp[1], tail_of_file(path))

    def is_renamed(self, path: str, stamp: Stamp) -> bool:
        """Return whether the file of this path and stamp, which has the same inode, is the same picture.

        A file system gives the inode of a file that was removed to the next one: the contents are compared. One that
        was still being written may have grown since it was seen.
        """
        if stamp[:2] != self.stamp[:2]:
            return not self.given and not self.tail and stamp[1] > self.stamp[1]
        return self._has_contents_of(path) if self.given else self.tail == tail_of_file(path)

    def _has_contents_of(self, path: str) -> bool:
        try:
            return zlib.crc32(Path(path).read_bytes()) == self.checksum
        except OSError:
            return False

    def is_lost(self, stamp: Stamp, tail: bytes) -> bool:
        """Return whether a picture that was not given was overwritten when the file got the new stamp and tail.

        A file that grows was no picture yet; one that only got another time or other rights is still there.
        """
        if self.given or self.stamp[1] == 0:
            return False
        if self.tail:
            return (self.stamp[1], self.tail) != (stamp[1], tail)
        return self.stamp[2] != stamp[2]


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp of a file of this status."""
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns


def tail_of_file(path: str) -> bytes:
    """Return the last bytes of a file, if they show that it is complete; nothing otherwise."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (text, as in scandir)
            first = file.read(8)
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            return tail_of_whole(first, file.read(TAIL))
    except OSError:
        return b""


def tail_of_whole(first: bytes, tail: bytes) -> bytes:
    """Return the tail, if first and last bytes show that the file is complete; nothing otherwise."""
    return tail if any(first.startswith(start) and tail.endswith(end) for start, end in _ENDS) else b""
