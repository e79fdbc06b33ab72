"""Frames of files: pictures and videos on disk. What cannot be read is a Frame too, with the reason in it."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from ..errors import DataError, ImageError
from ..images import is_image, read_image
from ..preprocessing import Image
from .base import Frame

VIDEO_SUFFIXES = (".avi", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")


@dataclass(frozen=True)
class Files:
    """What a user's `--source` comes to."""

    paths: tuple[Path, ...]
    """Pictures and videos to inspect, each once, in the order named and sorted within a folder or pattern."""
    root: Path
    """The innermost folder that holds all that was named, absolute; results mirror the tree below it."""


def find_files(sources: Sequence[str]) -> Files:
    """Pictures and videos that the sources name: files, folders (with all below them) and glob patterns.

    A file named outright is taken whatever its suffix. Raises DataError for a source that does not exist, a pattern
    that matches nothing, and where all sources together hold neither picture nor video.
    """
    try:
        named = [path for source in sources for path in _expand(source)]
        files = [file for path in named for file in (_below(path) if path.is_dir() else [path])]
        folders = [path if path.is_dir() else path.parent for path in map(absolute, named)]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions") from None
    if not files:
        raise DataError(f"{', '.join(sources)}: neither picture nor video in it; expected at least one to inspect")
    once = {absolute(file): file for file in reversed(files)}
    return Files(tuple(reversed(once.values())), Path(os.path.commonpath(folders)))


def read_frames(paths: Iterable[Path]) -> Iterator[Frame]:
    """The frames of all pictures and videos, one after the other, read when asked for. Never raises for a bad file."""
    for path in paths:
        if _is_video(path):
            yield from _read_video(path)
        else:
            yield _read_picture(path)


def absolute(path: str | Path) -> Path:
    """The path from the root, without `..`; a link keeps its own name, unlike with `Path.resolve`."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _expand(source: str) -> list[Path]:
    """The file or folder of this name or, where there is none, what the pattern matches."""
    if Path(source).exists():  # first: a file may be called part[1].png
        return [Path(source)]
    if not glob.has_magic(source):
        raise DataError(f"{source}: no such file or folder; expected a picture, a video, a folder or a quoted pattern")
    matches = [Path(match) for match in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207 (Path.glob wants them relative)
    wanted = [path for path in matches if path.is_dir() or _is_frames(path)]
    if not wanted:
        raise DataError(f"{source}: the pattern matches no picture, video or folder; check it, and quote it")
    return wanted


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if _is_frames(path) and path.is_file())


def _is_frames(path: Path) -> bool:
    return is_image(path) or _is_video(path)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def _read_picture(path: Path) -> Frame:
    try:
        return Frame(str(path), image=read_image(path))
    except ImageError as error:
        return Frame(str(path), error=str(error))


def _read_video(path: Path) -> Iterator[Frame]:
    """All frames of a video and, where its header announces more than can be decoded, one with the error."""
    capture = cv2.VideoCapture(str(path))
    count = 0
    try:
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # as with pictures: a phone's flag would turn only some
        announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))  # 0 or less where the header does not say
        while (image := _next_image(capture)) is not None:
            yield Frame(str(path), count, image)
            count += 1
    finally:
        capture.release()
    if count == 0:
        yield Frame(str(path), 0, error=f"{path}: no frame can be decoded; expected a whole video, copy it again")
    elif count < announced:
        reason = f"{path}: breaks off after {count} of {announced} frames; copy it again"
        yield Frame(str(path), count, error=reason)


def _next_image(capture: cv2.VideoCapture) -> Image | None:
    try:
        read, image = capture.read()
    except cv2.error:
        return None
    return image if read else None  # type: ignore[return-value]
