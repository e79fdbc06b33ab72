"""TensorRT plans: what they say of themselves, how they are built, and the proof that they are what was asked for."""

from __future__ import annotations

from .options import PlanOptions
from .sidecar import Machine, Plan, check_machine, load_sidecar, onnx_path, rebuild_command, save_sidecar, sidecar_path

__all__ = [
    "Machine",
    "Plan",
    "PlanOptions",
    "check_machine",
    "load_sidecar",
    "onnx_path",
    "rebuild_command",
    "save_sidecar",
    "sidecar_path",
]
