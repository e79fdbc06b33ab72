"""Cameras that give JPEG pictures over HTTP: Motion-JPEG streams, and snapshots, one picture for each request.

The bytes of each picture are taken as they came and checked before they are decoded: a video library would fill the
missing part of a picture with pixels of an earlier one.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request

from .address import Address
from .base import SourceOptions
from .camera import NEVER_S, NOT_WHOLE, Camera, CameraLostError, OpenCamera, RawFrame, damaged_frame, jpeg_frame

MAX_PICTURE_BYTES = 64 << 20
"""The largest picture, in bytes."""
MAX_HEADERS = 100
CHUNK = 1 << 16
"""Bytes of the longest line, and of one read."""


class NoPicturesError(Exception):
    """The address answers with something other than JPEG pictures, such as a video."""


def http_opener(address: Address, options: SourceOptions, open_video: OpenCamera) -> OpenCamera:
    """Return what opens the address: for JPEG pictures or, where it gives something else, with `open_video`."""

    def open_camera() -> Camera:
        try:
            return HttpCamera(address, options)
        except NoPicturesError:
            return open_video()

    return open_camera


class HttpCamera:
    """An open Motion-JPEG stream, or a snapshot address.

    Raises CameraLostError where it does not answer, NoPicturesError where it answers with another kind of content.
    """

    unchecked = ""

    def __init__(self, address: Address, options: SourceOptions) -> None:
        self._options = options
        self._limit_s = options.silent_after_s or NEVER_S
        self._client = _Client(address.target)
        self._requested_s = time.monotonic()
        self._answer = self._client.request(options.open_timeout_s)
        self._first: RawFrame | None = None
        kind = self._answer.headers.get_content_type()
        self.on_demand = kind in ("image/jpeg", "image/jpg", "image/pjpeg")
        if self.on_demand:
            self._first = self._snapshot(options.open_timeout_s)
        elif kind in ("multipart/x-mixed-replace", "multipart/mixed"):
            boundary = str(self._answer.headers.get_param("boundary", ""))
            self._parts = _MultipartReader(self._answer, boundary, self._limit_s)
            # opening and reading have limits of their own
            self._answer.fp.raw._sock.settimeout(self._limit_s)  # type: ignore[attr-defined]
        else:
            self._answer.close()
            raise NoPicturesError

    def read(self) -> RawFrame | None:
        """Return the next picture. A snapshot is dated when it was asked for: it may have been taken at that time."""
        if not self.on_demand:
            return self._read_part()
        if (first := self._first) is not None:
            self._first = None
            return first
        time.sleep(max(0.0, self._requested_s + self._options.poll_s - time.monotonic()))
        self._requested_s = time.monotonic()
        self._answer = self._client.request(self._limit_s)
        return self._snapshot(self._limit_s)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._answer.close()

    def _read_part(self) -> RawFrame | None:
        try:
            kind, data = self._parts.next()
        except TimeoutError:
            raise CameraLostError(f"no frame for {self._limit_s:.1f} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CameraLostError(_explain(error)) from None
        if not kind.startswith("image/"):
            return None
        if self._parts.holds_boundary(data):  # its length was wrong: the rest did not come
            return damaged_frame(f"the frame is not whole: the next one begins within it; {NOT_WHOLE}")
        return jpeg_frame(data, self._options.max_megapixels)

    def _snapshot(self, timeout_s: float) -> RawFrame:
        """Return the picture in the answer, or the part of it that came before the connection ended."""
        until_s = time.monotonic() + timeout_s
        data = bytearray()
        try:
            with self._answer:
                while chunk := self._answer.read1(CHUNK):
                    data += chunk
                    if len(data) > MAX_PICTURE_BYTES or time.monotonic() > until_s:
                        raise CameraLostError(
                            f"a picture takes more than {MAX_PICTURE_BYTES >> 20} MiB or {timeout_s:g} s"
                        )
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CameraLostError(_explain(error)) from None
        return jpeg_frame(bytes(data), self._options.max_megapixels, round(self._requested_s * 1e9))


class _Client:
    """Sends GET requests, with the credentials of the address where the camera asks for them (Basic or Digest)."""

    def __init__(self, target: str) -> None:
        scheme, _, rest = target.partition("://")
        host, slash, path = rest.partition("/")
        user_info, _, host = host.rpartition("@")
        self._url = f"{scheme}://{host}{slash}{path.partition('#')[0]}"
        user, _, password = (urllib.parse.unquote(part) for part in user_info.partition(":"))
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if user_info:
            passwords.add_password(None, self._url, user, password)
        self._digest = urllib.request.HTTPDigestAuthHandler(passwords)
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(passwords), self._digest
        )

    def request(self, timeout_s: float) -> http.client.HTTPResponse:
        """Return the open answer. Raises CameraLostError, without credentials, where there is none with status 200."""
        self._digest.retried = 5  # type: ignore[attr-defined]  # a refused password is sent once, not six times: cameras lock the account
        try:
            answer: http.client.HTTPResponse = self._opener.open(self._url, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            error.close()
            remedy = "check user and password" if error.code in (401, 403) else "check the address"
            raise CameraLostError(f"the camera answers with HTTP status {error.code}; {remedy}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CameraLostError(f"cannot be opened: {_explain(error)}") from None
        return answer


class _MultipartReader:
    """Reads the parts of a multipart stream (Motion-JPEG over HTTP), as their bytes came.

    Raises CameraLostError where the stream ends, and OSError where reading fails. Cameras differ in the number of
    dashes before the boundary, and some state no length of a part, or a wrong one: what follows a part is skipped until
    the next boundary.
    """

    def __init__(self, answer: http.client.HTTPResponse, boundary: str, limit_s: float) -> None:
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
            if len(headers) > MAX_HEADERS:
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
        if size > MAX_PICTURE_BYTES:
            raise CameraLostError(
                f"got a part of {size >> 20} MiB; expected pictures of at most {MAX_PICTURE_BYTES >> 20} MiB"
            )


def _explain(error: Exception) -> str:
    """Return what failed, without the text of the library: that may hold the address with its credentials."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "the camera does not answer in time; check that the peer runs"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "its certificate is not trusted; add it to the system's, or name its file in SSL_CERT_FILE"
    if isinstance(cause, OSError) and cause.strerror:
        return f"{cause.strerror}; check address, network and that the peer runs"
    return f"the answer is not understood ({type(cause).__name__}); check the address"
