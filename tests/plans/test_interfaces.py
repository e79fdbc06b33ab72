"""Every file that touches TensorRT, type-checked against its real interface: 10.3, 10.16 and 11.4."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
INTERFACES = Path(os.environ.get("STFPM_TENSORRT_API", REPOSITORY.parent / "shared" / "tensorrt-api"))


def files_that_use_tensorrt() -> list[Path]:
    packages = ("runtime", "export", "benchmarks", "stfpm_edge")
    files = [path for package in packages for path in (REPOSITORY / package).rglob("*.py")]
    return [path for path in files if "import tensorrt" in path.read_text(encoding="utf-8")]


def test_there_are_such_files():
    names = {path.name for path in files_that_use_tensorrt()}
    assert {"build.py", "engine.py"} <= names


@pytest.mark.skipif(not (INTERFACES / "check").is_file(), reason="TensorRT's type stubs are not here")
def test_every_name_and_argument_exists_in_all_three_versions():
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/")}
    command = [INTERFACES / "check", *files_that_use_tensorrt()]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(": ok") == 3
