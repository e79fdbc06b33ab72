"""TensorRT's progress for whoever waits: building takes minutes on a Jetson."""

from __future__ import annotations

import sys
from typing import SupportsInt

from .package import find_tensorrt

try:
    import tensorrt as trt
except (ImportError, OSError, RuntimeError):
    trt = find_tensorrt()


class Monitor(trt.IProgressMonitor):  # type: ignore[misc, unused-ignore]  # without TensorRT, mypy sees no class
    """TensorRT's progress as one line on a terminal that is written over; elsewhere nothing."""

    def __init__(self) -> None:
        trt.IProgressMonitor.__init__(self)
        self._phases: dict[str, tuple[int, int]] = {}
        self._shows = sys.stderr.isatty()

    def phase_start(self, phase_name: str, parent_phase: str, num_steps: SupportsInt) -> None:
        """Called by TensorRT, as are the next two."""
        self._phases[phase_name] = (0, int(num_steps))
        self._show()

    def phase_finish(self, phase_name: str) -> None:
        """A phase is over."""
        self._phases.pop(phase_name, None)
        self._show()

    def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
        """A step of a phase is done; true lets the build go on."""
        _, steps = self._phases.get(phase_name, (0, 0))
        self._phases[phase_name] = (int(step) + 1, steps)
        self._show()
        return True

    def end(self) -> None:
        """Wipe the line."""
        if self._shows:
            print("\033[2K", end="\r", file=sys.stderr, flush=True)

    def _show(self) -> None:
        if self._shows and self._phases:
            line = " > ".join(f"{name} {done}/{steps}" for name, (done, steps) in self._phases.items())
            print(f"\033[2K{line[:110]}", end="\r", file=sys.stderr, flush=True)
