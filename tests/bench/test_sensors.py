"""What Linux' files say, from a tree of such files whose contents are known."""

from __future__ import annotations

import os
import sys
from pathlib import Path

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
def gpu(tmp_path, monkeypatch):
    """Puts an `nvidia-smi` on the path that prints a line."""

    def gpu(line: str, status: int = 0) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        tool = folder / "nvidia-smi"
        tool.write_text(f"#!{sys.executable}\nprint({line!r})\nraise SystemExit({status})\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return gpu


def test_a_machine_that_tells_nothing_is_no_guess(tmp_path):
    assert sensors.read_sensors(tmp_path) == sensors.Reading()
    assert sensors.read_energy(tmp_path) is None
    assert sensors.read_power(tmp_path) is None
    assert sensors.busy_seconds(tmp_path) is None


def test_temperature_clock_and_throttling(put, tmp_path):
    put("sys/class/thermal/thermal_zone0/temp", "46500")
    put("sys/class/thermal/thermal_zone0/type", "CPU-therm")
    put("sys/class/hwmon/hwmon1/name", "k10temp")
    put("sys/class/hwmon/hwmon1/temp1_input", "51250")
    put("sys/class/hwmon/hwmon1/temp1_label", "Tctl")
    put("sys/class/hwmon/hwmon1/temp2_input", "not a number")
    for core, clock in enumerate((2_000_000, 3_000_000)):
        put(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", str(clock))
        put(f"sys/devices/system/cpu/cpu{core}/thermal_throttle/package_throttle_count", "7")
    found = sensors.read_sensors(tmp_path)
    assert found.temperatures_c == {"CPU-therm": 46.5, "k10temp Tctl": 51.25}
    assert (found.clock_mhz, found.throttle_events) == (2500, 7)


def test_clock_of_cpuinfo_where_there_is_no_other(put, tmp_path):
    put("proc/cpuinfo", "model name\t: x\ncpu MHz\t\t: 2400.5\n\ncpu MHz\t\t: 2600.5")
    assert sensors.read_sensors(tmp_path).clock_mhz == 2500.5


def test_energy_is_the_sum_of_the_packages_without_their_parts(put, tmp_path):
    put("sys/class/powercap/intel-rapl:0/energy_uj", "1500000")
    put("sys/class/powercap/intel-rapl:1/energy_uj", "500000")
    put("sys/class/powercap/intel-rapl:0:0/energy_uj", "900000")
    assert sensors.read_energy(tmp_path) == 2.0


def test_power_of_a_jetson_is_that_of_the_whole_board(put, tmp_path):
    chip = "sys/class/hwmon/hwmon3"
    put(f"{chip}/name", "ina3221")
    for number, label, millivolt, milliampere in ((1, "VDD_IN", 5000, 1200), (2, "VDD_CPU_GPU_CV", 5000, 400)):
        put(f"{chip}/in{number}_label", label)
        put(f"{chip}/in{number}_input", str(millivolt))
        put(f"{chip}/curr{number}_input", str(milliampere))
    assert sensors.read_power(tmp_path) == 6.0
    assert sensors.read_sensors(tmp_path).power_w == {"VDD_IN": 6.0, "VDD_CPU_GPU_CV": 2.0}


def test_power_of_several_sensors_without_a_whole_is_their_sum(put, tmp_path):
    put("sys/class/hwmon/hwmon0/name", "acme")
    put("sys/class/hwmon/hwmon0/power1_input", "2500000")
    put("sys/class/hwmon/hwmon0/power2_input", "500000")
    assert sensors.read_power(tmp_path) == 3.0


def test_busy_time_has_no_idling_in_it(put, tmp_path):
    put("proc/stat", "cpu  100 20 30 9999 8888 4 5 6 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0")
    assert sensors.busy_seconds(tmp_path) == pytest.approx(165 / os.sysconf("SC_CLK_TCK"))


def test_time_of_a_process_whose_name_has_spaces_and_brackets(put, tmp_path):
    put("proc/42/stat", "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 300 200 0 0")
    assert sensors.process_seconds(42, tmp_path) == pytest.approx(500 / os.sysconf("SC_CLK_TCK"))
    assert sensors.process_seconds(43, tmp_path) == 0


def test_gpu_tells_what_it_can(gpu, tmp_path):
    gpu("61, 1980, [N/A], 512")
    found = sensors.read_sensors(tmp_path)
    assert found.temperatures_c == {"GPU": 61}
    assert found.power_w == {}
    assert (found.gpu_clock_mhz, found.gpu_memory_bytes) == (1980, 512 << 20)


def test_driver_that_fails_is_no_gpu(gpu, tmp_path):
    gpu("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver", status=9)
    assert sensors.read_sensors(tmp_path) == sensors.Reading()


@pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="needs Linux")
def test_this_machine_has_a_processor():
    machine = describe_machine()
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.packages["numpy"]
    assert machine.cpu in machine.title
    before = sensors.busy_seconds()
    assert before is not None
    assert sensors.process_seconds(os.getpid()) > 0
