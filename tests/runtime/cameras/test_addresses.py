"""What addresses mean, and that no credential is in their names."""

from __future__ import annotations

import pytest

from stfpm_runtime.errors import OptionError
from stfpm_runtime.sources.address import parse_address
from stfpm_runtime.sources.base import SourceOptions


@pytest.mark.parametrize(
    ("address", "kind", "target"),
    [
        ("0", "v4l2", "/dev/video0"),
        ("/dev/v4l/by-id/usb-Cam", "v4l2", "/dev/v4l/by-id/usb-Cam"),
        ("RTSP://host/line", "stream", "rtsp://host/line"),
        ("http://u:p@host/", "stream", "http://u:p@host/"),
        ("gstreamer: videotestsrc ! appsink", "gstreamer", "videotestsrc ! appsink"),
        ("aravis:", "aravis", ""),
        ("aravis:192.168.7.2", "aravis", "192.168.7.2"),
        ("watch:/srv/in", "watched", "/srv/in"),
        ("parts/*.png", "files", "parts/*.png"),
        ("part:1.png", "files", "part:1.png"),
    ],
)
def test_kind_and_target(address, kind, target):
    found = parse_address(address)
    assert (found.kind, found.target) == (kind, target)


@pytest.mark.parametrize("address", ["", "  ", "watch:", "gstreamer:", "ftp://host/film"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(OptionError, match="expected"):
        parse_address(address)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("rtsp://user:secret@host:554/line", "rtsp://host:554/line"),
        ("rtsp://user:sec@ret@host/line", "rtsp://host/line"),
        ("rtsp://user:sec/ret@host/line", "rtsp://host/line"),
        ("rtsp://user:sec?ret#secret@host/line", "rtsp://host/line"),
        ("rtsp://secret@host/line#secret", "rtsp://host/line"),
        ("http://host/video?channel=1&password=secret", "http://host/video?channel=1&password=***"),
        ("http://host/video?usr=admin&pw=secret&subtype=0", "http://host/video?usr=***&pw=***&subtype=0"),
        ("http://host/video?secret", "http://host/video?***"),
        ("rtsp://host/user=admin_password=secret_channel=1.sdp", "rtsp://host/***"),
        ("gstreamer:rtspsrc location=rtsp://u:secret@host/a user-pw=secret ! appsink",
         "gstreamer:rtspsrc location=rtsp://host/a user-pw=*** ! appsink"),
        ('gstreamer:rtspsrc location="rtsp://u:secret@host/a" user-pw="se secret" ! appsink',
         "gstreamer:rtspsrc location=rtsp://host/a user-pw=*** ! appsink"),
    ],
)  # fmt: skip
def test_names_have_no_credentials(address, name):
    found = parse_address(address)
    assert found.name == name
    assert found.target == address.removeprefix("gstreamer:")
    assert repr(found) == f"Address(kind={found.kind!r}, name={name!r})"
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    "options",
    [{"retry_first_s": 0.0}, {"silent_after_s": -1.0}, {"open_timeout_s": float("nan")},
     {"frozen_after_s": float("inf")}, {"jitter": 1.5}, {"fourcc": "MJPEG"}, {"decoder_threads": 0}],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(OptionError, match=f"got {next(iter(options))}"):
        SourceOptions(**options)
