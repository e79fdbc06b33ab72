"""The systemd unit: hardened, and a real systemd reads it without complaint."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from stfpm_runtime.lifecycle import STOP_S

UNIT = Path(__file__).parents[3] / "runtime" / "stfpm-inspect@.service"
ANALYZE = shutil.which("systemd-analyze")
MAX_EXPOSURE = 4.0


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze: apt install systemd")
def test_exposure_is_low():
    argv = [str(ANALYZE), "security", "--offline=true", "--no-pager", str(UNIT)]
    run = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", run.stdout)
    assert found, run.stdout + run.stderr
    assert float(found[1]) <= MAX_EXPOSURE


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze: apt install systemd")
def test_all_its_lines_are_understood(tmp_path):
    unit = tmp_path / UNIT.name
    program = shutil.which("true")
    unit.write_text(UNIT.read_text().replace("/opt/stfpm/bin/stfpm-inspect", str(program)))
    run = subprocess.run([str(ANALYZE), "verify", str(unit)], capture_output=True, text=True, timeout=120)
    assert unit.name.replace("@", "@i") not in run.stderr
    assert str(unit) not in run.stderr


def test_cameras_and_gpus_are_not_hidden():
    lines = UNIT.read_text().splitlines()
    allowed = {line.partition("=")[2].split()[0] for line in lines if line.startswith("DeviceAllow=")}
    assert {"char-video4linux", "char-usb_device", "char-gpiochip", "char-drm", "char-nvidia*"} <= allowed
    assert "PrivateDevices=true" not in lines


def test_stop_of_a_line_is_shorter_than_systemd_allows():
    found = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert found
    assert int(found[1]) > STOP_S + 5  # the rest is for engine and journal
