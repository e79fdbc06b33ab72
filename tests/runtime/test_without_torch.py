"""The runtime is the device's: it must work, and install, where PyTorch and its kin are absent."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import stfpm_runtime

REPOSITORY = Path(__file__).parents[2]
RUNTIME = Path(stfpm_runtime.__file__).parent
ABSENT = {"torch", "torchvision", "onnx", "rich", "psutil", "safetensors", "stfpm_edge", "stfpm_export", "stfpm_bench"}
ALLOWED = {
    "PIL", "asyncua", "av", "cpuinfo", "cryptography", "cuda", "cv2", "fastapi", "gi", "gpiod", "numpy", "onnxruntime",
    "openvino", "tomlkit",
    "paho", "prometheus_client", "pycuda", "pydantic", "pymodbus", "pynvml", "simplejpeg", "starlette",
    "stfpm_runtime", "tensorrt", "tomli", "uvicorn",
}  # fmt: skip

BLOCK_AND_INSPECT = f"""
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(name + " is blocked")

sys.meta_path.insert(0, Block())
from stfpm_runtime.batch.cli import main
status = main()
assert not {ABSENT!r} & set(sys.modules)
sys.exit(status)
"""


def imported(module: Path) -> set[str]:
    """The top names of all that a module imports, within functions too; relative imports are ours."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
    return names


@pytest.mark.parametrize("module", sorted(RUNTIME.rglob("*.py")), ids=lambda path: path.relative_to(RUNTIME).as_posix())
def test_module_imports_nothing_but_the_standard_library_and_what_the_device_has(module):
    assert imported(module) <= ALLOWED | set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("package", "modules"),
    [
        ("onnxruntime", {"onnx_runtime.py", "onnx_runtime_gpu.py"}),
        ("openvino", {"openvino.py"}),
        ("cuda", {"cuda.py"}),
        ("pycuda", {"cuda.py"}),
        ("tensorrt", {"build.py", "engine.py"}),
    ],
)
def test_packages_of_engines_are_imported_where_they_are_used_alone(package, modules):
    assert {path.name for path in RUNTIME.rglob("*.py") if package in imported(path)} == modules


def test_inspects_where_pytorch_is_absent(model, tmp_path, write, paint):
    write(tmp_path / "part.png", paint(255))
    argv = [sys.executable, "-c", BLOCK_AND_INSPECT, model, "--source", tmp_path / "part.png", "--save", tmp_path / "o"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["decision"] == "reject"


def test_missing_engine_is_reported_as_the_command_that_mends_it(model, tmp_path, write, paint):
    write(tmp_path / "part.png", paint())
    code = BLOCK_AND_INSPECT.replace("{'", "{'onnxruntime', '")
    argv = [sys.executable, "-c", code, model, "--source", tmp_path / "part.png"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "stfpm-inspect: error: onnxruntime is not installed; install it with: pip install 'stfpm-edge[cpu]'\n"
    )


@pytest.mark.slow
def test_installs_and_inspects_in_a_fresh_environment_without_pytorch(model, tmp_path, write, paint):
    copy = tmp_path / "repository"
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "build", "__pycache__", "shared")
    shutil.copytree(REPOSITORY, copy, ignore=ignored)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python, inspect = (tmp_path / "venv" / "bin" / name for name in ("python", "stfpm-inspect"))
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{copy}[cpu]"], check=True, timeout=1800)
    for name in ("torch", "torchvision", "onnx", "rich"):
        assert subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False).returncode == 1
    where = [python, "-c", "import stfpm_runtime; print(stfpm_runtime.__file__)"]
    installed = subprocess.run(where, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert Path(installed).is_relative_to(tmp_path / "venv")
    write(tmp_path / "part.png", paint(255))
    argv = [inspect, model, "--source", tmp_path / "part.png"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["decision"] == "reject"
