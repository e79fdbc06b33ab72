"""Frames of files: pictures and videos on disk. A file that cannot be read gives a frame with the reason."""

from __future__ import annotations

import dataclasses
import glob
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stfpm_runtime.errors import DataError, ImageError, OptionError, name_some
from stfpm_runtime.files import check_writable
from stfpm_runtime.imaging.images import is_image, read_image, survey_folder, why_left_out
from stfpm_runtime.options import MAX_MEGAPIXELS

from .address import parse_address
from .base import Event, Frame, OnEvent, SourceOptions
from .video_file import UNCHECKED_VIDEOS, checks_videos, is_video, read_video_file

MASKS = "ground_truth"
"""A folder of that name holds masks, in MVTec AD's layout; below a folder that is to be inspected it is left out."""


@dataclass(frozen=True)
class Files:
    """The files that a user's `--source` names."""

    paths: tuple[Path, ...]
    """Pictures and videos to inspect, each once, in the order named and sorted within a folder or pattern."""
    root: Path
    """The innermost folder that holds all that was named, absolute; results mirror the tree of files in it."""
    left_out: Mapping[Path, str] = field(default_factory=dict)
    """What lies in the folders, or matches a pattern, and is not inspected, each with the reason."""


class FileSource:
    """The frames of pictures, videos, folders and patterns, in the order of `find_files`; none is ever dropped.

    Raises DataError where `find_files` does. `arrived_ns` is when a frame was read. An event names the files that are
    left out. There is no thread: `next` reads.
    """

    live = False

    def __init__(
        self, sources: Sequence[str], options: SourceOptions | None = None, on_event: OnEvent | None = None
    ) -> None:
        options = options or SourceOptions()
        self._name = ", ".join(sources)
        self._ended = False
        files = find_files(sources)
        self._frames = read_frames(files.paths, options.bits, options.max_megapixels)
        if on_event is not None and files.left_out:
            on_event(Event(options.name or self._name, "skipped", summarise(files.left_out)))
        if on_event is not None and any(map(is_video, files.paths)) and not checks_videos():
            on_event(Event(options.name or self._name, "unchecked", UNCHECKED_VIDEOS))

    @property
    def name(self) -> str:
        """Return the sources, as the user named them."""
        return self._name

    @property
    def ended(self) -> bool:
        """Return whether `next` has found the end."""
        return self._ended

    def next(self, timeout_s: float) -> Frame | None:
        """Read and return the next frame; None once there is no more."""
        for frame in self._frames:
            return dataclasses.replace(frame, arrived_ns=time.monotonic_ns())
        self._ended = True
        return None

    def close(self) -> None:
        """Read no more."""
        self._frames = iter(())


def find_files(sources: Sequence[str]) -> Files:
    """Return the pictures and videos that the sources name: files, folders (searched to any depth), glob patterns.

    A file named outright is taken whatever its suffix. Raises DataError for a source that does not exist, a pattern
    that matches nothing, and where all sources together hold neither picture nor video.
    """
    left_out: dict[Path, str] = {}
    try:
        named = [path for source in sources for path in _expand(source, left_out)]
        files = [file for path in named for file in (_search(path, left_out) if path.is_dir() else [path])]
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


def check_save(folder: Path, sources: Iterable[Path]) -> None:
    """Raise OutputError or OptionError unless pictures can be written into a folder that holds no source."""
    check_writable(folder / "overlay")
    for path in sources:
        if absolute(path).is_relative_to(absolute(folder)) or path.resolve().is_relative_to(folder.resolve()):
            raise OptionError(
                f"--save {folder}: {path}, which is to be judged, lies in it; choose a folder that holds no source"
            )


def summarise(left_out: Mapping[Path, str]) -> str:
    """Return one line that counts the files that are left out, by their reason, and names some of each."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for path, reason in left_out.items():
        by_reason[reason].append(str(path))
    parts = []
    for reason, names in by_reason.items():
        parts.append(f"{reason}: {name_some(names)}")
    return f"{len(left_out)} not inspected; {'; '.join(parts)}"


def read_frames(
    paths: Iterable[Path], bits: int | None = None, max_megapixels: float = MAX_MEGAPIXELS
) -> Iterator[Frame]:
    """Yield the frames of all pictures and videos, one after the other, read when asked for; see `decode_image`.

    Never raises for a bad file: its frame has the error.
    """
    for path in paths:
        if is_video(path):
            yield from read_video_file(path, max_megapixels)
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
    wanted = [path for path in matches if path.is_dir() or _holds_frames(path)]
    if not wanted:
        raise DataError(f"{source}: the pattern matches no picture, video or folder; check it, and quote it")
    left_out.update({path: why_left_out(path) for path in matches if path not in wanted})
    return wanted


def _search(folder: Path, left_out: dict[Path, str]) -> list[Path]:
    found = survey_folder(folder, _holds_frames)
    left_out.update(found.left_out)
    masks = [path for path in found.files if MASKS in path.relative_to(folder).parts]
    left_out.update(dict.fromkeys(masks, f"folders named {MASKS} hold masks"))
    return [path for path in found.files if path not in left_out]


def _holds_frames(path: Path) -> bool:
    return is_image(path) or is_video(path)
