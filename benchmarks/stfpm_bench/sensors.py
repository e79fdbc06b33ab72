"""What the machine tells of itself: temperature, clock, power, and how busy others keep it.

From Linux' files below /sys and /proc, and from `nvidia-smi`; what is not there is None or empty, never a guess. `root`
is another place for those files, for tests.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

ROOT = Path("/")
RAPL = "sys/class/powercap/intel-rapl:[0-9]"
HWMON = "sys/class/hwmon/hwmon*"
ZONES = "sys/class/thermal/thermal_zone*"
CLOCKS = "sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq"
THROTTLES = "sys/devices/system/cpu/cpu*/thermal_throttle/package_throttle_count"
WHOLE_BOARD = "VDD_IN"
"""Jetson's name of the channel that everything else hangs on."""
GPU_QUERY = ("temperature.gpu", "clocks.sm", "power.draw", "memory.used")


@dataclass(frozen=True)
class Reading:
    """One look at the sensors."""

    temperatures_c: dict[str, float] = field(default_factory=dict)
    clock_mhz: float | None = None
    """The mean over the processor's cores."""
    power_w: dict[str, float] = field(default_factory=dict)
    """By channel, from hwmon (Jetson's INA3221 and its like) and from the GPU."""
    throttle_events: int | None = None
    """The processor's own count since it started."""
    gpu_clock_mhz: float | None = None
    gpu_memory_bytes: int | None = None
    """Used by all processes together."""


def read_sensors(root: Path = ROOT) -> Reading:
    """Look at all sensors there are."""
    temperatures = dict(_temperatures(root))
    power = dict(_channels(root))
    gpu = _gpu()
    if (celsius := gpu.get("temperature.gpu")) is not None:
        temperatures["GPU"] = celsius
    if (watts := gpu.get("power.draw")) is not None:
        power["GPU"] = watts
    memory = gpu.get("memory.used")
    throttles = list(_numbers(root.glob(THROTTLES)))
    return Reading(
        temperatures_c=temperatures,
        clock_mhz=_clock(root),
        power_w=power,
        throttle_events=int(max(throttles)) if throttles else None,
        gpu_clock_mhz=gpu.get("clocks.sm"),
        gpu_memory_bytes=None if memory is None else int(memory * (1 << 20)),
    )


def read_energy(root: Path = ROOT) -> float | None:
    """Joules that the processor packages have used since some time (RAPL); None where they do not tell.

    The counter overflows within minutes to hours: a difference below zero is no measurement.
    """
    counters = list(_numbers(folder / "energy_uj" for folder in sorted(root.glob(RAPL))))
    return sum(counters) / 1e6 if counters else None


def read_power(root: Path = ROOT) -> float | None:
    """Watts right now by hwmon: of the whole board where it has such a channel, else of all channels together."""
    channels = dict(_channels(root))
    if not channels:
        return None
    return channels.get(WHOLE_BOARD, sum(channels.values()))


def busy_seconds(root: Path = ROOT) -> float | None:
    """Processor time that all programs, and other guests of a virtual machine's host, have used since the start."""
    try:
        fields = (root / "proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def process_seconds(process: int, root: Path = ROOT) -> float:
    """Processor time that a process has used; 0 for one that is gone."""
    try:
        text = (root / f"proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _temperatures(root: Path) -> Iterator[tuple[str, float]]:
    for folder in sorted(root.glob(ZONES)):
        for value in _numbers([folder / "temp"]):
            yield _text(folder / "type") or folder.name, value / 1e3
    for folder in sorted(root.glob(HWMON)):
        for path in sorted(folder.glob("temp*_input")):
            for value in _numbers([path]):
                label = _text(path.with_name(path.name.replace("_input", "_label"))) or path.name.removesuffix("_input")
                yield f"{_text(folder / 'name') or folder.name} {label}", value / 1e3


def _channels(root: Path) -> Iterator[tuple[str, float]]:
    """Watts by channel: a power sensor's own, or current times voltage."""
    for folder in sorted(root.glob(HWMON)):
        chip = _text(folder / "name") or folder.name
        for path in sorted(folder.glob("power*_input")):
            for value in _numbers([path]):
                yield f"{chip} {path.name.removesuffix('_input')}", value / 1e6
        for path in sorted(folder.glob("curr*_input")):
            number = re.sub(r"\D", "", path.name)
            label = _text(folder / f"in{number}_label") or f"{chip} {number}"
            both = list(_numbers([path, folder / f"in{number}_input"]))
            if len(both) == 2:
                yield label, both[0] * both[1] / 1e6


def _clock(root: Path) -> float | None:
    found = list(_numbers(root.glob(CLOCKS)))
    if found:
        return fmean(found) / 1e3
    lines = re.findall(r"^cpu MHz\s*: ([\d.]+)", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return fmean(map(float, lines)) if lines else None


def _gpu() -> dict[str, float]:
    """The first NVIDIA GPU's figures by `nvidia-smi`'s names; empty where there is none, without what it cannot say."""
    command = ["nvidia-smi", f"--query-gpu={','.join(GPU_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    figures = {}
    for name, text in zip(GPU_QUERY, done.stdout.strip().partition("\n")[0].split(","), strict=False):
        try:
            figures[name] = float(text)
        except ValueError:
            continue  # "[N/A]"
    return figures


def _numbers(paths: Iterable[Path]) -> Iterator[float]:
    for path in paths:
        try:
            yield float(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
