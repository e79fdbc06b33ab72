"""The parts of a multipart stream (Motion-JPEG over HTTP), as their bytes came."""

from __future__ import annotations

import time
from http.client import HTTPResponse

from .camera import CameraLostError

MOST_BYTES = 64 << 20
"""The largest part, in bytes."""
MOST_HEADERS = 100
CHUNK = 1 << 16


class MultipartReader:
    """Reads one part after the other. Raises CameraLostError where the stream ends, and OSError where reading fails.

    Cameras differ in the number of dashes before the boundary, and some state no length of a part, or a wrong one:
    what follows a part is skipped until the next boundary.
    """

    def __init__(self, answer: HTTPResponse, boundary: str, limit_s: float) -> None:
        self._answer = answer
        self._boundary = boundary.strip('" ').strip("-").encode("latin-1", "replace")
        self._limit_s = limit_s
        self._until_s = 0.0
        self._at_boundary = False
        """Whether the boundary before the next part was read already."""

    def next(self) -> tuple[str, bytes]:
        """Return media type and data of the next part, which must be there within the limit of seconds."""
        self._until_s = time.monotonic() + self._limit_s
        while not self._at_boundary:
            self._at_boundary = self._is_boundary(self._line())
        headers: dict[bytes, bytes] = {}
        while line := self._line().strip():
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
            if len(headers) > MOST_HEADERS:
                raise CameraLostError("the stream is no Motion-JPEG; check the address")
        self._at_boundary = False
        length = headers.get(b"content-length", b"")
        data = self._exactly(int(length)) if length.isdigit() else self._up_to_boundary()
        return headers.get(b"content-type", b"image/jpeg").decode("latin-1").lower(), data

    def holds_boundary(self, data: bytes) -> bool:
        """Return whether the next part begins within the data, as where a stated length is too large."""
        lines = (b"\n--" + self._boundary + end for end in (b"\r\n", b"\n"))
        return bool(self._boundary) and any(line in data for line in lines)

    def _is_boundary(self, line: bytes) -> bool:
        word = line.strip().strip(b"-")
        return line.startswith(b"--") and (word == self._boundary if self._boundary else len(word) < 80)

    def _line(self) -> bytes:
        line = self._answer.readline(CHUNK)
        self._check(line, len(line))
        return line

    def _exactly(self, length: int) -> bytes:
        parts = []
        while length > 0:
            chunk = self._answer.read1(min(length, CHUNK))
            self._check(chunk, length)
            parts.append(chunk)
            length -= len(chunk)
        return b"".join(parts)

    def _up_to_boundary(self) -> bytes:
        parts, size = [], 0
        while not self._is_boundary(line := self._line()):
            size += len(line)
            self._check(line, size)
            parts.append(line)
        self._at_boundary = True
        return b"".join(parts).removesuffix(b"\n").removesuffix(b"\r")

    def _check(self, read: bytes, size: int) -> None:
        if not read:
            raise CameraLostError("the stream ended or broke off")
        if time.monotonic() > self._until_s:
            raise CameraLostError(f"no frame for {self._limit_s:.1f} s")
        if size > MOST_BYTES:
            raise CameraLostError(
                f"got a part of {size >> 20} MiB; expected pictures of at most {MOST_BYTES >> 20} MiB"
            )
