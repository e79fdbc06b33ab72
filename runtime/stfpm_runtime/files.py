"""Files: the one atomic write, an early check that a file can be written, modes and checksums."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from .errors import OutputError
from .imaging.picture_header import looks_like_picture

FILE_MODE = 0o640
"""Mode of journals, cursors, pictures and JSON lines: the owner may write, the group may read."""


def private_opener(path: str, flags: int) -> int:
    """Open a file as `os.open` does; one that is created has mode 0640, less the umask. For `open(opener=...)`."""
    return os.open(path, flags, FILE_MODE)


def check_writable(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Raise OutputError unless a file can be written at `path`, before the work that it is for.

    A file there may be replaced, unless it is a picture or one of the `inputs`: that name is most likely a mistake.
    """
    try:
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; expected the name of a file to write")
        if path.is_file() and (_is_picture(path) or any(other.exists() and path.samefile(other) for other in inputs)):
            raise OutputError(f"{path}: is a picture or another input, which would be overwritten; choose another name")
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = _unfinished_path(path)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from None


@contextlib.contextmanager
def atomic_path(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """Yield a path to write to: it becomes `path` when the block ends well, and is deleted when it does not.

    A reader sees the old file or the whole new one, also after a power cut. A file that is replaced keeps its mode, and
    its owner and group as far as this process may give it to them; a new one has `mode`, less the umask. Several
    threads may write the same file: the last one's remains. Raises OutputError where writing fails.
    """
    unfinished = _unfinished_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.stat() if path.exists() else None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        os.close(os.open(unfinished, flags, 0o600 if before else mode))  # others read it when it is whole
        access = before or unfinished.stat()
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        keep_access(unfinished, access)  # some writers make their files readable by their owner alone
        unfinished.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); free space or choose another place") from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def keep_access(path: Path, before: os.stat_result) -> None:
    """Give a file the owner, group and mode of the one that it replaces. Raises OSError.

    Where this process may not give it to that group, another group may do no more with it than everybody.
    """
    mode = stat.S_IMODE(before.st_mode)
    try:
        os.chown(path, before.st_uid, before.st_gid)
    except AttributeError:  # Windows has no owners
        pass
    except OSError:
        try:
            os.chown(path, -1, before.st_gid)
        except OSError:
            mode = mode & ~0o070 | (mode & 0o007) << 3
    path.chmod(mode)


def file_identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the file at `path`, by which a replaced file is known; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def file_below(folder: Path, name: str) -> Path | None:
    """Return the file of that name below a folder; None where there is none, or where the name leads out of it."""
    try:
        path = (folder / name).resolve()
        return path if name and path.is_relative_to(folder.resolve()) and path.is_file() else None
    except (OSError, ValueError):  # no name of a file
        return None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's contents, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def user_cache_folder() -> Path:
    """Return the folder where this user's programs keep what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stfpm-edge"


def _is_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return looks_like_picture(file.read(32))
    except OSError:
        return False


def _unfinished_path(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.unfinished{path.suffix}")
