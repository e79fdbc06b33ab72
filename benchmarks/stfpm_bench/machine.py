"""A machine's fingerprint: figures of two runs are comparable where it is the same."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "torch")
CPUINFO = Path("/proc/cpuinfo")
BOARD = Path("/proc/device-tree/model")
"""What a Jetson or another ARM board is called."""
EXTENSIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""Of the instruction set, those that decide how fast a network is."""


@dataclass(frozen=True)
class Machine:
    """Where something was measured."""

    cpu: str
    architecture: str
    cores: int
    """That this process may use."""
    extensions: tuple[str, ...]
    memory_gb: float | None
    gpu: str
    """Empty for none."""
    system: str
    python: str
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of what runs models."""

    @property
    def hardware(self) -> tuple[object, ...]:
        """What has to be the same for latencies to be comparable."""
        return self.cpu, self.architecture, self.cores, self.extensions, self.gpu

    @property
    def title(self) -> str:
        """In a line, for a person."""
        parts = [f"{self.cores} cores of {self.cpu}" if self.cores > 1 else f"1 core of {self.cpu}"]
        if found := [name for name in self.extensions if "vnni" in name or name in ("amx_int8", "i8mm", "asimddp")]:
            parts.append(", ".join(found))
        return "; ".join([*parts, *([self.gpu] if self.gpu else []), self.system])


def read_machine() -> Machine:
    """What can be read of the machine that this runs on."""
    text = CPUINFO.read_text(encoding="utf-8") if CPUINFO.is_file() else ""
    flags = set(re.findall(r"\w+", "".join(re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)[:1])))
    return Machine(
        cpu=_cpu(text),
        architecture=platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        extensions=tuple(name for name in EXTENSIONS if name in flags),
        memory_gb=_memory_gb(),
        gpu=_gpu(),
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        packages=_versions(),
    )


def _cpu(cpuinfo: str) -> str:
    if BOARD.is_file():
        return BOARD.read_text(encoding="utf-8").strip("\0\n ")
    found = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _gpu() -> str:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    name, _, driver = done.stdout.strip().partition("\n")[0].partition(",")
    return f"{name.strip()}, driver {driver.strip()}" if name else ""


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
