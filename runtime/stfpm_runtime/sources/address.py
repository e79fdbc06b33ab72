"""Addresses of sources: how they are parsed, and shown without the credentials in them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from stfpm_runtime.errors import OptionError

Kind = Literal["v4l2", "stream", "gstreamer", "aravis", "watched", "files"]

STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt")
HIDDEN = "***"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_KNOWN_HARMLESS = {"channel", "subtype", "stream", "streamtype", "camera", "profile", "codec", "videocodec", "unicast",
                   "resolution", "width", "height", "fps", "framerate", "action", "transport", "proto"}  # fmt: skip
"""Parameters of a query whose values may be shown, as they only name a stream of the device. All others are hidden."""
_SECRETIVE = re.compile(r"pass|pwd|user|login|auth|token|secret|key|sign|session|(^|[^a-z])(pw|id|pin)([^a-z]|$)", re.I)
_PROPERTY = re.compile(r"""([\w:-]+)\s*=\s*("(?:[^"\\]|\\.)*"?|'[^']*'?|\S+)""")


@dataclass(frozen=True)
class Address:
    """An address as `open_source` takes it, in its parts."""

    kind: Kind
    target: str = field(repr=False)
    """What to open; it may hold credentials, and is used in the call that opens it only."""
    name: str
    """The address without credentials: this may be shown."""


def parse_address(text: str) -> Address:
    """Return the address in its parts; docs/sources.md has the kinds. Raises OptionError for a text that is none."""
    address = text.strip()
    prefix, _, rest = address.partition(":")
    if " ! " not in address and (url := _URL.fullmatch(address)):
        if url[1].lower() not in STREAM_SCHEMES:
            raise OptionError(f"got an address of kind {url[1]}://; expected one of {', '.join(STREAM_SCHEMES)}")
        return Address("stream", f"{url[1].lower()}://{url[2]}", redact_url(address))
    if " ! " in address and prefix != "gstreamer":
        return Address("gstreamer", address, redact_pipeline(address))
    if address.isascii() and address.isdecimal():
        return Address("v4l2", f"/dev/video{int(address)}", f"/dev/video{int(address)}")
    if address.startswith("/dev/"):
        return Address("v4l2", address, address)
    if prefix == "gstreamer":
        return Address("gstreamer", _filled(text, rest), f"gstreamer:{redact_pipeline(rest.strip())}")
    if prefix == "aravis":
        return Address("aravis", rest.strip(), address)
    if prefix == "watch":
        return Address("watched", _filled(text, rest), address)
    return Address("files", _filled(text, text), text)


def redact_url(url: str) -> str:
    """Return the URL without user, password, fragment and the values of a query that are not known to be harmless.

    All text before the last `@` is taken for credentials, escaped correctly or not; a part of the path that looks like
    `password=...` is hidden. A token alone in the path cannot be recognised: set a name.
    """
    match = _URL.fullmatch(url.strip())
    if match is None:
        return HIDDEN
    scheme, rest = match[1].lower(), match[2].rpartition("@")[2].partition("#")[0]
    path, mark, query = rest.partition("?")
    host, *parts = path.split("/")
    shown = [HIDDEN if "=" in part and _SECRETIVE.search(part) else part for part in parts]
    return f"{scheme}://" + "/".join([host, *shown]) + mark + "&".join(map(_redact_parameter, query.split("&")))


def redact_pipeline(pipeline: str) -> str:
    """Return a GStreamer pipeline without the credentials in its URLs and properties."""
    return _PROPERTY.sub(_redact_property, pipeline)


def _redact_property(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    if _SECRETIVE.search(name):
        return f"{name}={HIDDEN}"
    bare = value.strip("\"'")
    return f"{name}={redact_url(bare)}" if "://" in bare else match[0]


def _redact_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if not equals:
        return HIDDEN if name else ""  # a parameter without a value may be a token
    return f"{name}={value if name.lower() in _KNOWN_HARMLESS else HIDDEN}"


def _filled(text: str, rest: str) -> str:
    if not rest.strip():
        raise OptionError(f"got {text!r} for a source; expected a camera, a URL, a file, a folder or a pattern")
    return rest.strip() if rest is not text else rest
