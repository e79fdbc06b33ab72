"""NVIDIA's own packages without a GPU: the messages without a driver. The test makes an environment for them."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from stfpm_runtime.artifact.onnx_metadata import read_spec
from stfpm_runtime.engines import has_nvidia_gpu
from stfpm_runtime.engines.tensorrt.sidecar import Plan, PlanPlatform, save_sidecar
from stfpm_runtime.files import sha256

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        platform.system() != "Linux" or platform.machine() != "x86_64" or has_nvidia_gpu(),
        reason="NVIDIA's wheels for x86-64 Linux, on a machine without a GPU",
    ),
]
REPOSITORY = Path(__file__).parents[2]
INSPECT = "import sys; from stfpm_runtime.batch.cli import main; sys.exit(main())"
PACKAGES = ("onnxruntime-gpu", "tensorrt-lean-cu13-bindings", "tensorrt-lean-cu13-libs", "cuda-bindings", "numpy",
            "opencv-python-headless", "pillow", "simplejpeg")  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a module of ours in an environment with NVIDIA's packages and without PyTorch."""
    folder = tmp_path_factory.mktemp("nvidia")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True, timeout=1800)
    path = ":".join(str(REPOSITORY / folder) for folder in ("runtime", "export", "."))

    def run(*argv: object) -> subprocess.CompletedProcess[str]:
        environment = {"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "HOME": str(folder)}
        command = [str(part) for part in (python, *argv)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)

    return run


@pytest.fixture
def plan(full, tmp_path):
    """A plan as such, whose bytes are none."""
    path = tmp_path / "m.engine"
    path.write_bytes(b"not a plan at all")
    machine = PlanPlatform("11.4.0", "13.0", "H200", "9.0")
    save_sidecar(Plan(read_spec(full), machine, sha256(path), "0" * 64, version_compatible=True), path)
    return path


@pytest.mark.parametrize(("device", "provider"), [("cuda", "CUDA"), ("tensorrt", "Tensorrt")])
def test_a_gpu_that_was_asked_for_and_is_not_there_is_one_clear_error(run, full, good_images, device, provider):
    done = run("-c", INSPECT, full, "--source", good_images, "--device", device)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"stfpm-inspect: error: {provider}ExecutionProvider was asked for")
    assert "--device cpu does without" in line


def test_auto_falls_back_and_says_so(run, full, good_images):
    done = run("-c", INSPECT, full, "--source", good_images, "--limit", 2)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert "runs on the CPU: CUDAExecutionProvider was asked for" in done.stderr
    assert "CPUExecutionProvider), threshold" in done.stderr


def test_a_plan_without_a_driver_is_one_line(run, plan, good_images):
    done = run("-c", INSPECT, plan, "--source", good_images)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "CUDA driver version is insufficient" in line
    assert "is an NVIDIA driver installed" in line


def test_a_corrupt_plan_is_refused_before_any_driver_is_asked(run, plan, good_images):
    plan.write_bytes(b"cut")
    done = run("-c", INSPECT, plan, "--source", good_images)
    assert done.returncode == 1
    assert "cut off, or another plan. It is not loaded; build it again with: stfpm-export" in done.stderr


def test_tensorrt_without_a_driver_is_an_error_and_no_crash(run):
    """Its Runtime is then an object around nothing: to touch it, or to let go of it, ends the process."""
    start = "t.start(t.trt.Runtime, t.Log())"
    done = run(
        "-c", f"import stfpm_runtime.engines.tensorrt.engine as t\ntry:\n {start}\nexcept Exception as e:\n print(e)"
    )
    assert done.returncode == 0
    assert done.stdout.startswith("TensorRT 11.")
    assert "cannot start" in done.stdout


def test_the_lean_runtime_builds_nothing_and_says_so(run, full):
    done = run("-m", "stfpm_export.cli", full, "--engine")
    assert done.returncode == 1
    assert "the lean runtime runs plans and builds none" in done.stderr
