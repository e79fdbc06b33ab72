"""A training's processes: they end when they are told to, and with the line, however that ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stfpm_runtime.line.models import training as training_module
from stfpm_runtime.line.models.training import Training, TrainingTask

from .conftest import wait_until

STUBBORN = """import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleep = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(99)"
child = subprocess.Popen([sys.executable, "-c", sleep])
pathlib.Path(sys.argv[1]).write_text(f"{os.getpid()} {child.pid}")
print("epoch 3/9: loss 1.0", flush=True)
print("half a line", end="", flush=True)
time.sleep(99)
"""
SLEEPER = """import os, pathlib, sys, time
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(99)
"""
LINE = """import sys
from stfpm_runtime.line.models.training import Training
Training(lambda *_: None)._call(["sleeper", sys.argv[1]])
"""


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that has ended and that nobody waits for does not."""
    with contextlib.suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Let processes import modules from a folder, and return the folder."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    return tmp_path


def test_a_process_that_does_not_end_is_killed_with_all_that_it_started(modules, monkeypatch):
    monkeypatch.setattr(training_module, "KILLED_S", 0.5)
    (modules / "stubborn.py").write_text(STUBBORN)
    training, codes = Training(lambda *_: None), []
    thread = threading.Thread(target=lambda: codes.append(training._call(["stubborn", str(modules / "pids")])))
    thread.start()
    wait_until(lambda: training.epoch == 3)
    pids = [int(pid) for pid in (modules / "pids").read_text().split()]
    assert list(training.lines) == ["epoch 3/9: loss 1.0"]
    began = time.monotonic()
    training.wake()
    thread.join(30)
    assert codes == [-signal.SIGKILL]
    assert 0.5 <= time.monotonic() - began < 10
    wait_until(lambda: not any(map(is_running, pids)))


@pytest.mark.parametrize("code", [SLEEPER, STUBBORN])
def test_a_training_does_not_outlive_a_line_that_is_killed(modules, code):
    (modules / "sleeper.py").write_text(code)
    with subprocess.Popen([sys.executable, "-c", LINE, str(modules / "pid")]) as line:
        wait_until(lambda: (modules / "pid").exists() and (modules / "pid").read_text())
        pids = [int(pid) for pid in (modules / "pid").read_text().split()]
        assert all(map(is_running, pids))
        line.kill()
    wait_until(lambda: not any(map(is_running, pids)))


def test_the_checkpoint_belongs_to_the_pictures(tmp_path):
    good = tmp_path / "set" / "train" / "good"
    good.mkdir(parents=True)
    task = TrainingTask(tmp_path / "set", tmp_path / "new.onnx", "cap", (64, 64), "imagenet", None, "Ada")
    (good / "1.png").write_bytes(b"one")
    first = task.checkpoint
    assert first == task.checkpoint
    assert first.parent == tmp_path
    assert first.name.startswith("new-")
    (good / ".2.png.unfinished.png").write_bytes(b"half")
    assert task.checkpoint == first
    (good / "2.png").write_bytes(b"two")
    assert task.checkpoint != first
    rest = first.with_suffix(".unfinished.safetensors")
    foreign = tmp_path / "new-20261127.unfinished.safetensors"
    for path in (rest, foreign, task.checkpoint.with_suffix(".unfinished.safetensors")):
        path.touch()
    assert task.unfinished_others() == [rest]


TRAIN = """import pathlib, sys
path = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
if pathlib.Path(sys.argv[1], "never").exists():
    path.with_suffix(".unfinished.safetensors").touch()
    sys.exit("interrupted")
path.touch()
print("trained")
"""
EXPORT = """import pathlib, sys, time
print("exporting", flush=True)
while not (pathlib.Path(sys.argv[3]).parent / "go").exists():
    time.sleep(0.05)
pathlib.Path(sys.argv[3]).touch()
"""


def test_a_training_goes_on_with_its_export_and_with_other_pictures_a_new_one_begins(modules, monkeypatch):
    monkeypatch.chdir(modules)  # its modules come first
    for package, text in (("stfpm_edge", TRAIN), ("stfpm_export", EXPORT)):
        (modules / package).mkdir()
        (modules / package / "__init__.py").touch()
        (modules / package / "cli.py").write_text(text)
    good = modules / "set" / "train" / "good"
    good.mkdir(parents=True)
    (good / "1.png").write_bytes(b"one")
    (modules / "set" / "never").touch()
    task = TrainingTask(modules / "set", modules / "new.onnx", "cap", (64, 64), "imagenet", None, "Ada")
    with Training(lambda *_: None) as training:
        training.begin(task)
        wait_until(lambda: training.state == "failed")
        (modules / "set" / "never").unlink()
        (good / "2.png").write_bytes(b"two")
        training.begin(task)
        wait_until(lambda: "exporting" in training.lines)
        assert "new one begins" in training.lines[0]
        assert not list(modules.glob("*.unfinished.safetensors"))
        assert training.makes(task.model)
        training.cancel()
        wait_until(lambda: training.state == "cancelled")
        (modules / "go").touch()
        training.begin(task)
        wait_until(lambda: training.state == "done")
        assert list(training.lines) == ["exporting"]
    assert task.model.exists()
