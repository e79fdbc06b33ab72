"""What a source's address means, and how it is named without the secrets in it."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

Kind = Literal["v4l2", "url", "gstreamer", "aravis", "files"]
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
SECRET_KEY = re.compile(r"(?i)(pass|pwd|secret|token|key|auth|user|sign|cred)")
SECRET_PROPERTY = re.compile(r"(?i)\b([\w-]*(?:user|pw|pass|token|secret)[\w-]*)\s*=\s*(\"[^\"]*\"|\S+)")


def kind_of(address: str) -> Kind:
    """`0` and `/dev/video0` are V4L2, `rtsp://...` a URL, `aravis:NAME` a GigE or USB3 camera, `a ! b` a pipeline.

    All else names files.
    """
    if address.isdecimal() or address.startswith("/dev/"):
        return "v4l2"
    if address.startswith("aravis:"):
        return "aravis"
    if " ! " in address:
        return "gstreamer"
    return "url" if URL.match(address) else "files"


def shown(address: str) -> str:
    """The address for people: user, password and query values that look like secrets are left out."""
    if " ! " in address:
        pipeline = re.sub(r"://[^/\s\"@]*@", "://", address)
        return SECRET_PROPERTY.sub(r"\1=***", pipeline)
    if not URL.match(address):
        return address
    try:
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return URL.match(address)[0] + "***"  # type: ignore[index]
    pairs = [pair.partition("=") for pair in parts.query.split("&")]
    query = "&".join(
        f"{key}=***" if SECRET_KEY.search(key) else f"{key}{equals}{value}" for key, equals, value in pairs
    )
    return urlunsplit((parts.scheme, host, parts.path, query, ""))
