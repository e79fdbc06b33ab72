"""Sources of frames: files, folders that fill, cameras. `open_source` picks one by its address."""

from __future__ import annotations

import dataclasses
from functools import partial
from importlib.util import find_spec

from .address import Address, parse_address
from .base import Event, Frame, OnEvent, Source, SourceOptions
from .camera import OpenCamera
from .files import Files, FileSource, absolute, find_files, read_frames

__all__ = [
    "Event", "FileSource", "Files", "Frame", "OnEvent", "Source", "SourceOptions", "absolute", "find_files",
    "open_source", "read_frames",
]  # fmt: skip


def open_source(address: str, *, on_event: OnEvent, options: SourceOptions | None = None) -> Source:
    """Return the source of this address, with its threads started; docs/sources.md has the kinds. Close it when done.

    A camera need not be there: it is opened as soon as it answers, and events report it. Raises OptionError for an
    address or an option that makes no sense here or needs what is not installed, DataError for files that do not exist.
    """
    options = options or SourceOptions()
    parsed = parse_address(address)
    name = options.name or parsed.name
    if parsed.kind == "files" and not options.watch:
        return FileSource([parsed.target], options, on_event)
    if parsed.kind in ("watched", "files"):
        from .watched import WatchedFolder

        folder = WatchedFolder(parsed.target, name, on_event, options)
        folder.start()
        return folder
    from .live import LiveSource

    if parsed.kind == "aravis":  # its pixel format says how many bits there are, and all come at full scale
        options = dataclasses.replace(options, bits=16)
    camera = LiveSource(name, _opener(parsed, options), on_event, options)
    camera.start()
    return camera


def _opener(address: Address, options: SourceOptions) -> OpenCamera:
    """Return the function that opens the camera; a compressed stream with PyAV where it is installed, else OpenCV."""
    if address.kind == "aravis":
        from .aravis import aravis_opener

        return aravis_opener(address, options)
    if address.kind == "stream" and find_spec("av") is not None:
        from .video import VideoCamera

        open_camera: OpenCamera = partial(VideoCamera, address, options)
    else:
        from .opencv import opencv_opener

        open_camera = opencv_opener(address, options)
    if address.kind != "stream" or not address.target.startswith("http"):
        return open_camera
    from .http import http_opener

    return http_opener(address, options, open_camera)
