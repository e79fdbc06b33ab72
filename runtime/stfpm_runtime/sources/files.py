"""Frames of files: pictures and videos on disk. What cannot be read is a Frame too, with the reason in it."""

from __future__ import annotations

import functools
import glob
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import cv2

from stfpm_runtime.errors import DataError, ImageError
from stfpm_runtime.imaging.images import is_image, read_image, survey_folder, why_left_out
from stfpm_runtime.imaging.preprocessing import Image
from stfpm_runtime.options import MAX_MEGAPIXELS

from .address import parse_address
from .base import Frame
from .video_file import breaks_off

LOG = logging.getLogger(__name__)

VIDEO_SUFFIXES = (
    ".avi", ".mkv", ".mov", ".mp4", ".m4v", ".mpeg", ".mpg", ".mpe", ".ts", ".mts", ".m2ts", ".webm", ".wmv", ".flv",
    ".ogv", ".3gp", ".mjpg", ".mjpeg", ".h264", ".h265", ".hevc",
)  # fmt: skip
UNCHECKED_VIDEOS = (
    "damaged frames in the middle of a video cannot be told from whole ones; pip install 'stfpm-edge[video]'"
)
UNKNOWN_COUNT = 1 << 30
"""The number of frames that FFmpeg writes into an AVI file whose end it cannot know, because it goes into a pipe."""
NAMED = 5
"""Files of one kind that a summary of what was left out names."""


@dataclass(frozen=True)
class Files:
    """What a user's `--source` comes to."""

    paths: tuple[Path, ...]
    """Pictures and videos to inspect, each once, in the order named and sorted within a folder or pattern."""
    root: Path
    """The innermost folder that holds all that was named, absolute; results mirror the tree below it."""
    left_out: Mapping[Path, str] = field(default_factory=dict)
    """What lies in the folders, or matches a pattern, and is not inspected, each with the reason."""


def find_files(sources: Sequence[str]) -> Files:
    """Return the pictures and videos that the sources name: files, folders (with all below them) and glob patterns.

    A file named outright is taken whatever its suffix. Raises DataError for a source that does not exist, a pattern
    that matches nothing, and where all sources together hold neither picture nor video.
    """
    left_out: dict[Path, str] = {}
    try:
        named = [path for source in sources for path in _expand(source, left_out)]
        files = [file for path in named for file in (_below(path, left_out) if path.is_dir() else [path])]
        folders = [path if path.is_dir() else path.parent for path in map(absolute, named)]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions") from None
    if not files:
        also = f" ({summarise(left_out)})" if left_out else ""
        raise DataError(
            f"{', '.join(sources)}: neither picture nor video in it{also}; expected at least one to inspect"
        )
    once = {absolute(file): file for file in reversed(files)}
    left_out = {path: reason for path, reason in left_out.items() if absolute(path) not in once}
    return Files(tuple(reversed(once.values())), Path(os.path.commonpath(folders)), left_out)


def summarise(left_out: Mapping[Path, str]) -> str:
    """Return one line that counts the files that are left out, by their reason, and names some of each."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for path, reason in left_out.items():
        by_reason[reason].append(str(path))
    parts = []
    for reason, names in by_reason.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        parts.append(f"{reason}: {', '.join(names[:NAMED])}{more}")
    return f"{len(left_out)} not inspected; {'; '.join(parts)}"


def read_frames(
    paths: Iterable[Path], bits: int | None = None, max_megapixels: float = MAX_MEGAPIXELS
) -> Iterator[Frame]:
    """Yield the frames of all pictures and videos, one after the other, read when asked for; see `decode_image`.

    Never raises for a bad file: its frame has the error.
    """
    for path in paths:
        if is_video(path):
            yield from _read_video(path, max_megapixels)
        else:
            try:
                yield Frame(str(path), image=read_image(path, bits=bits, max_megapixels=max_megapixels))
            except ImageError as error:
                yield Frame(str(path), error=str(error))


def absolute(path: str | Path) -> Path:
    """Return the path from the root, without `..`; a link keeps its own name, unlike with `Path.resolve`."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _expand(source: str, left_out: dict[Path, str]) -> list[Path]:
    """Return the file or folder of this name or, where there is none, what the pattern matches."""
    if Path(source).exists():  # first: a file may be called part[1].png
        return [Path(source)]
    address = parse_address(source)
    if address.kind != "files":  # its text may hold a password
        raise DataError(f"{address.name}: is no file; a camera or a stream needs --journal FILE, or --config FILE")
    if not glob.has_magic(source):
        raise DataError(f"{source}: no such file or folder; expected a picture, a video, a folder or a quoted pattern")
    matches = [Path(match) for match in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207 (Path.glob wants them relative)
    wanted = [path for path in matches if path.is_dir() or _is_frames(path)]
    if not wanted:
        raise DataError(f"{source}: the pattern matches no picture, video or folder; check it, and quote it")
    left_out.update({path: why_left_out(path) for path in matches if path not in wanted})
    return wanted


def _below(folder: Path, left_out: dict[Path, str]) -> list[Path]:
    found = survey_folder(folder, _is_frames)
    left_out.update(found.left_out)
    return found.files


def _is_frames(path: Path) -> bool:
    return is_image(path) or is_video(path)


def is_video(path: Path) -> bool:
    """Return whether the file's name says that it is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def _read_video(path: Path, max_megapixels: float) -> Iterator[Frame]:
    """Yield all frames of a video, damaged ones as errors, and one with the error where its file is not whole."""
    capture = cv2.VideoCapture(str(path))
    try:
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        # An AVI file counts its frames. Elsewhere the number is an estimate, or includes frames that are not shown.
        announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if path.suffix.lower() == ".avi" else 0
        if width * height > max_megapixels * 1e6:
            reason = (
                f"{path}: has frames of {width:.0f}x{height:.0f} pixels; expected at most {max_megapixels:g} megapixels"
            )
            yield Frame(str(path), 0, error=f"{reason}, raise max_megapixels if they are meant to be so large")
            return
        count = 0
        for count, (image, error) in enumerate(_decode_video(path, capture, max_megapixels), 1):
            yield Frame(str(path), count - 1, image, f"{path}: {error}" if error else "")
    finally:
        capture.release()
    if count == 0:
        yield Frame(str(path), 0, error=f"{path}: no frame can be decoded; expected a whole video, copy it again")
    elif count < announced < UNKNOWN_COUNT:
        reason = f"{path}: breaks off after {count} of {announced} frames; copy it again"
        yield Frame(str(path), count, error=reason)
    elif breaks_off(path):
        yield Frame(str(path), count, error=f"{path}: breaks off after {count} frames; copy it again")


def _decode_video(path: Path, capture: cv2.VideoCapture, max_megapixels: float) -> Iterator[tuple[Image | None, str]]:
    """Yield pixels or error of each frame: with PyAV or, where that is not installed, with OpenCV."""
    if checks_videos():
        from .video import read_video

        yield from read_video(str(path), max_megapixels)
        return
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # as with pictures: a phone's flag would turn only some
    while (image := _next_image(capture)) is not None:
        yield image, ""


def checks_videos() -> bool:
    """Return whether damaged frames of videos are found, which needs PyAV; a warning is logged once if they are not."""
    found = find_spec("av") is not None
    if not found:
        _warn_unchecked()
    return found


@functools.cache
def _warn_unchecked() -> None:
    LOG.warning("%s", UNCHECKED_VIDEOS)


def _next_image(capture: cv2.VideoCapture) -> Image | None:
    try:
        read, image = capture.read()
    except cv2.error:
        return None
    return image if read else None  # type: ignore[return-value]
