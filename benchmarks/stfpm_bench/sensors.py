"""Temperature, clock, power and processor time of the machine; what is not known is None or empty."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SYS = Path("/sys")
"""Where Linux keeps what psutil does not read: energy (RAPL), power (hwmon) and throttling."""
WHOLE_BOARD = "VDD_IN"
"""Jetson's name of the power channel that supplies all others."""


@dataclass(frozen=True)
class Reading:
    """One reading of all sensors."""

    temperatures_c: dict[str, float] = field(default_factory=dict)
    clock_mhz: float | None = None
    """Mean over the processor's cores."""
    power_w: dict[str, float] = field(default_factory=dict)
    """Power by channel, from hwmon (Jetson's INA3221 and its like) and from the GPU."""
    throttle_events: int | None = None
    """Count of the processor since it started."""
    gpu_clock_mhz: float | None = None
    gpu_memory_bytes: int | None = None
    """Memory of the GPU that all processes together use."""


def read_sensors(root: Path = SYS) -> Reading:
    """Return one reading of all sensors; `root` is the folder of hwmon and throttling."""
    temperatures = {
        f"{chip} {one.label}".strip(): one.current
        for chip, found in getattr(psutil, "sensors_temperatures", dict)().items()
        for one in found
    }
    power = dict(_channels(root))
    gpu = _read_gpu()
    if "celsius" in gpu:
        temperatures["GPU"] = gpu["celsius"]
    if "watts" in gpu:
        power["GPU"] = gpu["watts"]
    clock = psutil.cpu_freq()
    throttles = list(_numbers(root.glob("devices/system/cpu/cpu*/thermal_throttle/package_throttle_count")))
    return Reading(
        temperatures_c=temperatures,
        clock_mhz=clock.current if clock else None,
        power_w=power,
        throttle_events=int(max(throttles)) if throttles else None,
        gpu_clock_mhz=gpu.get("mhz"),
        gpu_memory_bytes=int(gpu["bytes"]) if "bytes" in gpu else None,
    )


def read_energy(root: Path = SYS) -> float | None:
    """Return the joules that the processor packages have used since some time (RAPL), None where they do not say.

    The counter overflows within minutes to hours: a difference below zero is no measurement.
    """
    counters = list(_numbers(sorted(root.glob("class/powercap/intel-rapl:[0-9]/energy_uj"))))
    return sum(counters) / 1e6 if counters else None


def read_power(root: Path = SYS) -> float | None:
    """Return the present watts by hwmon: of the whole board where it has such a channel, else the sum of all."""
    channels = dict(_channels(root))
    return channels.get(WHOLE_BOARD, sum(channels.values())) if channels else None


def busy_seconds() -> float:
    """Return the processor seconds of all programs and of a virtual machine's other guests since the start."""
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")))


def process_seconds(process: int) -> float:
    """Return the processor seconds that a process has used, 0 for a process that has ended."""
    try:
        times = psutil.Process(process).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def _channels(root: Path) -> Iterator[tuple[str, float]]:
    """Yield watts by channel: a power sensor's value, or current times voltage."""
    for folder in sorted(root.glob("class/hwmon/hwmon*")):
        chip = _text(folder / "name") or folder.name
        for path in sorted(folder.glob("power*_input")):
            for value in _numbers([path]):
                yield f"{chip} {path.name.removesuffix('_input')}", value / 1e6
        for path in sorted(folder.glob("curr*_input")):
            number = re.sub(r"\D", "", path.name)
            both = list(_numbers([path, folder / f"in{number}_input"]))
            if len(both) == 2:
                yield _text(folder / f"in{number}_label") or f"{chip} {number}", both[0] * both[1] / 1e6


def _read_gpu() -> dict[str, float]:
    """Return what the first NVIDIA GPU tells of celsius, mhz, watts and bytes; empty where there is none."""
    try:
        import pynvml
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    except pynvml.NVMLError:  # there is no driver or no GPU
        return {}
    questions: dict[str, Callable[[], float]] = {
        "celsius": lambda: float(pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)),
        "mhz": lambda: float(pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM)),
        "watts": lambda: pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
        "bytes": lambda: float(pynvml.nvmlDeviceGetMemoryInfo(gpu).used),
    }
    found = {}
    for name, ask in questions.items():
        with contextlib.suppress(pynvml.NVMLError):
            found[name] = ask()
    return found


def _numbers(paths: Iterable[Path]) -> Iterator[float]:
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            yield float(path.read_text(encoding="ascii"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
