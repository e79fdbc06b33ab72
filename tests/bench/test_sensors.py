"""Sensors from files whose contents are known, from a stand-in for NVIDIA's library, and from this machine."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import psutil
import pytest

from stfpm_bench import sensors
from stfpm_runtime.machine import describe_machine


@pytest.fixture
def put(tmp_path):
    def put(path: str, text: str) -> None:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n")

    return put


@pytest.fixture
def gpu(monkeypatch):
    """Replace NVIDIA's library by one that answers these questions, and fails for all others."""

    def gpu(**answers: object) -> None:
        class NVMLError(Exception):
            pass

        def fail(*arguments: object) -> None:
            raise NVMLError

        names = ("Temperature", "ClockInfo", "PowerUsage", "MemoryInfo", "HandleByIndex", "Name")
        found = {f"nvmlDeviceGet{name}": fail for name in names} | {"nvmlInit": fail, "NVMLError": NVMLError}
        found |= {"NVML_TEMPERATURE_GPU": 0, "NVML_CLOCK_SM": 1, "nvmlSystemGetDriverVersion": lambda: "550.1"}
        found |= {name: lambda *arguments, value=value: value for name, value in answers.items()}
        module = ModuleType("pynvml")
        vars(module).update(found)
        monkeypatch.setitem(sys.modules, "pynvml", module)

    return gpu


def test_sensors_that_are_missing_are_none_or_empty(tmp_path, monkeypatch, gpu):
    gpu()
    monkeypatch.setattr(psutil, "sensors_temperatures", dict)
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)
    assert sensors.read_sensors(tmp_path) == sensors.Reading()
    assert sensors.read_energy(tmp_path) is None
    assert sensors.read_power(tmp_path) is None


def test_temperature_clock_and_throttling(put, tmp_path, monkeypatch, gpu):
    gpu()
    found = {
        "k10temp": [SimpleNamespace(label="Tctl", current=51.25)],
        "acpitz": [SimpleNamespace(label="", current=40)],
    }
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: found)
    monkeypatch.setattr(psutil, "cpu_freq", lambda: SimpleNamespace(current=2500.0))
    for core in range(2):
        put(f"devices/system/cpu/cpu{core}/thermal_throttle/package_throttle_count", "7")
    reading = sensors.read_sensors(tmp_path)
    assert reading.temperatures_c == {"k10temp Tctl": 51.25, "acpitz": 40}
    assert (reading.clock_mhz, reading.throttle_events) == (2500, 7)


def test_energy_is_the_sum_of_the_packages_without_their_parts(put, tmp_path):
    put("class/powercap/intel-rapl:0/energy_uj", "1500000")
    put("class/powercap/intel-rapl:1/energy_uj", "500000")
    put("class/powercap/intel-rapl:0:0/energy_uj", "900000")
    assert sensors.read_energy(tmp_path) == 2.0


def test_power_of_a_jetson_is_that_of_the_whole_board(put, tmp_path, gpu):
    gpu()
    chip = "class/hwmon/hwmon3"
    put(f"{chip}/name", "ina3221")
    for number, label, millivolt, milliampere in ((1, "VDD_IN", 5000, 1200), (2, "VDD_CPU_GPU_CV", 5000, 400)):
        put(f"{chip}/in{number}_label", label)
        put(f"{chip}/in{number}_input", str(millivolt))
        put(f"{chip}/curr{number}_input", str(milliampere))
    assert sensors.read_power(tmp_path) == 6.0
    assert sensors.read_sensors(tmp_path).power_w == {"VDD_IN": 6.0, "VDD_CPU_GPU_CV": 2.0}


def test_power_of_channels_without_a_whole_board_is_their_sum(put, tmp_path):
    put("class/hwmon/hwmon0/name", "acme")
    put("class/hwmon/hwmon0/power1_input", "2500000")
    put("class/hwmon/hwmon0/power2_input", "500000")
    put("class/hwmon/hwmon0/power3_input", "not a number")
    assert sensors.read_power(tmp_path) == 3.0


def test_busy_time_has_no_idle_time_in_it(monkeypatch):
    times = SimpleNamespace(user=1.0, nice=0.2, system=0.3, idle=99.0, iowait=88.0, irq=0.04, softirq=0.05, steal=0.06,
                            guest=0.5, guest_nice=0.1)  # fmt: skip
    monkeypatch.setattr(psutil, "cpu_times", lambda: times)
    assert sensors.busy_seconds() == pytest.approx(1.65)


def test_time_of_a_process_that_has_ended_is_zero():
    assert sensors.process_seconds(os.getpid()) > 0
    assert sensors.process_seconds(2**22 + 1) == 0


def test_gpu_sensors_that_fail_are_left_out(gpu, tmp_path):
    gpu(nvmlInit=None, nvmlDeviceGetHandleByIndex=1, nvmlDeviceGetTemperature=61, nvmlDeviceGetClockInfo=1980,
        nvmlDeviceGetMemoryInfo=SimpleNamespace(used=512 << 20))  # fmt: skip
    found = sensors.read_sensors(tmp_path)
    assert found.temperatures_c["GPU"] == 61
    assert found.power_w == {}
    assert (found.gpu_clock_mhz, found.gpu_memory_bytes) == (1980, 512 << 20)


def test_machine_names_the_gpu_and_its_driver(gpu):
    gpu(nvmlInit=None, nvmlDeviceGetHandleByIndex=1, nvmlDeviceGetName="NVIDIA L4")
    assert describe_machine().gpu == "NVIDIA L4, driver 550.1"
    gpu()
    assert describe_machine().gpu == ""


def test_machine_without_the_optional_packages_has_a_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "cpuinfo", None)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    machine = describe_machine()
    assert machine.cpu
    assert machine.gpu == ""


def test_this_machine_has_a_processor():
    machine = describe_machine()
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.packages["numpy"]
    assert machine.cpu in machine.title
    assert sensors.busy_seconds() > 0
