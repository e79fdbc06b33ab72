"""Description of the machine that this process runs on: where something was measured, and which runs are comparable."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGES = (
    "stfpm-edge", "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt",
    "tensorrt-lean", "cuda-python", "cuda-bindings", "pycuda", "torch",
)  # fmt: skip
"""Packages whose versions decide how fast a model runs."""
BOARD = Path("/proc/device-tree/model")
"""The name of a Jetson or of another ARM board."""
CPUINFO = Path("/proc/cpuinfo")
"""What Linux says of the processor."""
EXTENSIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimddp",
              "i8mm")  # fmt: skip
"""Instruction sets that decide how fast a network runs."""
INT8_EXTENSIONS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


@dataclass(frozen=True)
class Machine:
    """Hardware, system and packages of one machine."""

    cpu: str
    architecture: str
    cores: int
    """Number of cores that this process may use."""
    extensions: tuple[str, ...]
    memory_gb: float | None
    gpu: str
    """Name and driver of the first NVIDIA GPU, empty for none."""
    system: str
    python: str
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of the packages that run models."""

    @property
    def hardware(self) -> tuple[object, ...]:
        """Return what must be equal in two runs for their latencies to be comparable."""
        return self.cpu, self.architecture, self.cores, self.extensions, self.gpu

    @property
    def title(self) -> str:
        """Return the hardware and the system in one line."""
        parts = [f"{self.cores} cores of {self.cpu}" if self.cores > 1 else f"1 core of {self.cpu}"]
        parts.append(", ".join(name for name in self.extensions if name in INT8_EXTENSIONS))
        return "; ".join(filter(None, [*parts, self.gpu, self.system]))


def describe_machine() -> Machine:
    """Return what is known of this machine.

    py-cpuinfo tells the processor's name and instruction sets, nvidia-ml-py the GPU; without these packages the
    processor is named by its architecture alone, without instruction sets, and the GPU is empty.
    """
    cpu, extensions = _processor()
    return Machine(
        cpu=cpu,
        architecture=platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        extensions=extensions,
        memory_gb=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
        if hasattr(os, "sysconf")
        else None,
        gpu=_gpu(),
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        packages=_versions(),
    )


@cache
def may_saturate_int8() -> bool:
    """Return whether the fastest int8 products of this processor clip sums of pairs to 16 bits: x86 without VNNI.

    True as well for an x86 processor whose instruction sets are not known: no /proc/cpuinfo, and no py-cpuinfo.
    """
    return is_x86() and not {"avx512_vnni", "avx_vnni"} & _flags()


@cache
def computes_bfloat16() -> bool:
    """Return whether this is an x86 processor with instructions for products of bfloat16."""
    return is_x86() and bool({"avx512_bf16", "amx_bf16"} & _flags())


def is_x86() -> bool:
    """Return whether the processor is a 64-bit x86 one."""
    return platform.machine().lower() in ("x86_64", "amd64")


def _flags() -> set[str]:
    return set(CPUINFO.read_text(encoding="utf-8").split() if CPUINFO.is_file() else _processor()[1])


def _processor() -> tuple[str, tuple[str, ...]]:
    name, flags = platform.processor() or platform.machine(), []
    try:
        from cpuinfo import get_cpu_info
    except ImportError:
        pass
    else:
        found = get_cpu_info()
        name, flags = found.get("brand_raw") or name, found.get("flags", [])
    if BOARD.is_file():
        name = BOARD.read_text(encoding="utf-8").strip("\0\n ")
    return name, tuple(extension for extension in EXTENSIONS if extension in flags)


def _gpu() -> str:
    try:
        import pynvml
    except ImportError:
        return ""
    try:
        pynvml.nvmlInit()
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
        return f"{name}, driver {pynvml.nvmlSystemGetDriverVersion()}"
    except pynvml.NVMLError:
        return ""


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
