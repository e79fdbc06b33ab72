"""The tables of a line's TOML file for what is kept and looked at again: the journal, pictures, and reviews."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from stfpm_runtime.options import SaveOnly

from .checks import Table, at_least, number, refuse_if

Synchronous = Literal["full", "normal"]


@dataclass(frozen=True)
class JournalOptions(Table):
    """`[journal]`: where verdicts are kept."""

    path: Path
    """An SQLite file."""
    synchronous: Synchronous = "full"
    """full: a verdict that was sent survives a power cut; normal: a killed process, but not always a power cut."""
    keep_days: Annotated[float | None, number(1e-6)] = None
    """Older verdicts are deleted; None: verdicts are kept for ever."""
    max_mb: Annotated[float | None, number(1)] = None
    """The oldest verdicts beyond this size are deleted."""
    json_lines: Path | None = None
    """A file with the same verdicts as lines of JSON."""
    json_lines_mb: Annotated[float, number(0.001)] = 100.0
    """A larger file is renamed to FILE.1, and replaces the one of that name."""
    signing_key: Path | None = None
    """A private Ed25519 key that signs the heads of the chain; None: they are not signed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_if(self.json_lines == self.path, "json_lines", "is the journal itself; expected another file")


@dataclass(frozen=True)
class PictureOptions(Table):
    """`[pictures]`: which pictures are kept."""

    folder: Path
    """A folder for pictures alone: the oldest in it are deleted when space is needed."""
    save: SaveOnly = "reject"
    original: bool = True
    """Whether the part is kept as the camera gave it."""
    overlay: bool = True
    """Whether the part is kept with the anomaly map drawn over it."""
    format: Literal["png", "jpeg"] = "png"
    """The format of the original; an overlay is a JPEG."""
    quota_mb: Annotated[float, number(0.001)] = 10_000.0
    """The largest size of all pictures together; the oldest are deleted first."""
    free_mb: Annotated[float, number(0)] = 1000.0
    """The space on the disk that pictures leave free."""
    queue: Annotated[int, at_least(1)] = 16
    """Verdicts whose pictures may wait to be written; further ones have none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        expected = "expected one of them, or no table [pictures]"
        refuse_if(not (self.original or self.overlay), "overlay", f"neither original nor overlay; {expected}")


@dataclass(frozen=True)
class ReviewOptions(Table):
    """`[review]`: what people look at again, and what another model must show before it judges parts."""

    sample: Annotated[float, number(0)] = 0.0
    """The share of passed parts whose pictures are kept for a review, 0 to 1."""
    replay: Annotated[int, at_least(0)] = 200
    """The number of the newest kept originals that another model judges before it may replace the one in use."""
    shadow_parts: Annotated[int, at_least(0)] = 0
    """The number of parts that a model must have judged as the shadow before a person may approve it; 0: a model needs
    no approval."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_if(self.sample > 1, "sample", f"got {self.sample}; expected a share from 0 to 1, say 0.01")
