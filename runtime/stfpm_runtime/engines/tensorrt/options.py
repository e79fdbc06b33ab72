"""How a plan is to be built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stfpm_runtime.errors import OptionError


@dataclass(frozen=True)
class PlanOptions:
    """How to build a plan. Raises OptionError for what makes no sense."""

    batches: tuple[int, int, int] = (1, 1, 8)
    """Frames at a time: the fewest, those to be fastest for, the most. A file of a fixed batch has its own."""
    workspace_mb: int | None = None
    """Memory that a layer may use while it works; None: all there is."""
    optimization_level: int = 3
    """0 (builds fast) to 5 (runs fast, tries everything)."""
    timing_cache: Path | None = None
    """A file, or a folder with one for each kind of device; None: in the user's cache folder."""
    version_compatible: bool = False
    """Runs on newer versions of the same major too, and on the lean runtime."""
    hardware_compatible: bool = False
    """Runs on every GPU from Ampere on."""
    dla: int | None = None
    """Orin's deep-learning accelerator to use; what it cannot do, the GPU does."""

    def __post_init__(self) -> None:
        least, best, most = self.batches
        if not 1 <= least <= best <= most:
            raise OptionError(f"got batches of {self.batches}; expected three rising numbers, the first at least 1")
        if not 0 <= self.optimization_level <= 5:
            raise OptionError(f"got optimization level {self.optimization_level}; expected 0 to 5")
        if self.workspace_mb is not None and self.workspace_mb < 1:
            raise OptionError(f"got a workspace of {self.workspace_mb} MB; expected 1 or more")
        if self.dla is not None and self.dla < 0:
            raise OptionError(f"got DLA core {self.dla}; expected 0 or more")
