"""Checkpoint to fused ONNX graph, and the proof that the two agree.

The names are imported when they are first used: `stfpm-selftest` runs on devices without PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .anomalib import read_anomalib
    from .export import AnomalibOptions, ExportOptions, export_checkpoint
    from .parity import ParityReport

__all__ = ["AnomalibOptions", "ExportOptions", "ParityReport", "export_checkpoint", "read_anomalib"]


def __getattr__(name: str) -> object:
    """Import a public name from its module. Raise AttributeError for any other name."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = {"ParityReport": ".parity", "read_anomalib": ".anomalib"}.get(name, ".export")
    return getattr(import_module(module, __name__), name)
