"""Where frames come from: files, folders that fill, cameras."""

from __future__ import annotations

from .base import Event, Frame, Source
from .files import Files, absolute, find_files, read_frames

__all__ = ["Event", "Files", "Frame", "Source", "absolute", "find_files", "read_frames"]
