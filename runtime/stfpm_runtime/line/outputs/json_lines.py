"""JSON lines: each verdict of the journal as a line of a file, once. The last whole line says how far the file has got.

After a crash the file is completed from the journal: no line is lost, and none is there twice.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from stfpm_runtime.errors import UnavailableError
from stfpm_runtime.files import file_identity, keep_access, private_opener
from stfpm_runtime.line.journal.cursor import Position
from stfpm_runtime.line.journal.rows import Record

from .base import OutputDriver

TAIL_BYTES = 1 << 20
"""The last whole line is looked for in so many bytes at the end of the file."""
BEGINNING = b'{"journal": "'
"""What each line begins with: half a line is recognised by it."""


class JsonLinesOutput(OutputDriver):
    """Appends verdicts to a file, which becomes FILE.1 when it is `max_bytes` long."""

    name = "json_lines"
    batch = 500
    has_cursor = False

    def __init__(self, path: Path, max_bytes: float) -> None:
        """Store the file's path, and its largest size in bytes."""
        self._path = path
        self._previous = path.with_name(path.name + ".1")
        self._max_bytes = max_bytes
        self._file: FileIO | None = None

    def open(self) -> Position:
        """Open the file, cut off half a line at its end, and return the position of its last line.

        Raises UnavailableError for a file that cannot be opened, or whose end is no verdict.
        """
        try:
            self._file = self._open_file()
            last, end = _last_line(self._file)
            self._file.truncate(end)
            if not last:
                with contextlib.suppress(FileNotFoundError), FileIO(self._previous) as previous:
                    last, _ = _last_line(previous)
        except (OSError, ValueError) as error:
            raise UnavailableError(f"cannot follow the journal: {error}") from None
        return Position(str(last.get("journal", "")), int(last.get("seq", 0)), str(last.get("time", "")))

    def is_open(self) -> bool:
        """Return whether the file is still where it was opened."""
        assert self._file is not None, "opened"
        status = os.fstat(self._file.fileno())
        return file_identity(self._path) == (status.st_dev, status.st_ino)

    def send_verdicts(self, records: Sequence[Record]) -> list[str]:
        """Append the verdicts, and rename a file that has become too long.

        Raises UnavailableError where the disk is full; whole lines are left as far as there was room.
        """
        assert self._file is not None, "opened"
        lines = ({key: value for key, value in record.items() if key != "age_ms"} for record in records)
        left = memoryview("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines).encode())
        try:
            while left:  # a disk that fills up takes a part first, and raises then
                left = left[self._file.write(left) :]
            if self._file.seek(0, os.SEEK_END) >= self._max_bytes:
                self._file.close()
                self._path.replace(self._previous)
                self._file = self._open_file()
                keep_access(self._path, self._previous.stat())
        except OSError as error:
            raise UnavailableError(f"cannot follow the journal: {error}") from None
        return [""] * len(records)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open_file(self) -> FileIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return FileIO(self._path, "a+", opener=private_opener)


def _last_line(file: FileIO) -> tuple[dict[str, Any], int]:
    """Return the last line that is whole, empty if there is none, and where it ends.

    Raises ValueError for a file whose end is no line of verdicts.
    """
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - TAIL_BYTES))
    tail = file.read(size - start)
    end = len(tail)
    while (newline := tail.rfind(b"\n", 0, end)) >= 0:
        begin = tail.rfind(b"\n", 0, newline) + 1
        with contextlib.suppress(ValueError):
            record = json.loads(tail[begin:newline])
            if isinstance(record, dict) and isinstance(record.get("seq"), int):
                return record, start + newline + 1
        end = newline
    if start > 0 or b"\n" in tail or not BEGINNING.startswith(tail[: len(BEGINNING)]):
        raise ValueError("the file is not a verdict file of stfpm-inspect; move it away, or choose another name")
    return {}, 0
