"""The options of one run of `stfpm-bench`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stfpm_runtime.errors import OptionError

from .session import Plan


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, how long, and where the results go."""

    models: tuple[Path, ...]
    device: str = "auto"
    threads: int | None = None
    frame: tuple[int, int] = (1280, 720)
    """(width, height)."""
    plan: Plan = field(default_factory=Plan)
    parity: bool = False
    checkpoint: Path | None = None
    """The checkpoint for parity against PyTorch itself."""
    data: Path | None = None
    roofline: bool = False
    allow_noise: bool = False
    json: Path | None = None
    markdown: Path | None = None
    html: Path | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise OptionError(f"got {self.threads} threads; expected 1 or more")
        if self.plan.time_limit_s <= 0:
            raise OptionError(f"got a time limit of {self.plan.time_limit_s:g} s; expected more than 0")
        if any(batch < 1 for batch in self.plan.batches) or any(idle_s <= 0 for idle_s in self.plan.idle_s):
            raise OptionError("got a batch below 1 or an idle time of 0; expected positive ones, or '' for none")
        if len(set(self.models)) < len(self.models):
            raise OptionError("got the same model twice; expected different files")


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return names to report by: the files' stems where they differ, else the shortest end of each path that does."""
    names = [path.stem for path in paths]
    length = 0
    while len(set(names)) < len(names) and length < max(len(path.resolve().parts) for path in paths):
        length += 1
        names = [Path(*path.resolve().parts[-length:]).as_posix() for path in paths]
    return names
