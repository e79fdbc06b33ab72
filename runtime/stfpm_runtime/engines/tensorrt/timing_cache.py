"""TensorRT's timing cache, kept for each kind of device: what was measured once need not be measured again."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from stfpm_runtime.errors import OutputError
from stfpm_runtime.files import atomic_path

from .sidecar import Machine


class TimingCache:
    """A file of timings; one that cannot be read or written costs time, not the build."""

    def __init__(self, place: Path | None, machine: Machine) -> None:
        """`place` is a file, a folder, or None for the user's cache folder."""
        folder = place or user_cache_folder() / "timings"
        is_file = place is not None and place.suffix and not place.is_dir()
        name = f"{machine.gpu}-{machine.compute_capability}-tensorrt-{machine.tensorrt}"
        self.path = folder if is_file else folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name).lower()}.cache"

    def read(self) -> bytes:
        """What was kept; nothing where there is none. TensorRT drops by itself what does not fit it."""
        try:
            return self.path.read_bytes()
        except OSError:
            return b""

    def write(self, timings: bytes) -> None:
        """Keep it."""
        with contextlib.suppress(OutputError), atomic_path(self.path) as unfinished:
            unfinished.write_bytes(timings)


def user_cache_folder() -> Path:
    """Where this user's programs keep what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stfpm-edge"
