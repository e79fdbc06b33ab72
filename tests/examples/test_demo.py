"""`make demo`: its steps are the commands that a user types, and they work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples.gears import demo as demo_module
from examples.gears.demo import DemoOptions, Step, demo, main, plan

TINY = ["--train-images", "12", "--test-images", "4", "--epochs", "1", "--size", "64"]


def test_each_step_is_named_and_uses_only_what_an_earlier_one_made(tmp_path: Path):
    programs = [step.program for step in plan(DemoOptions(tmp_path))]
    assert programs == [
        "examples.gears.parts",
        "stfpm-train",
        "stfpm-export",
        "stfpm-eval",
        "stfpm-inspect",
    ]


def test_make_demo_runs_this_module():
    makefile = Path(__file__).parents[2] / "Makefile"
    assert f"-m {demo_module.__name__} --output demo" in makefile.read_text(encoding="utf-8")


def test_demo_does_not_import_torch():
    code = "import examples.gears.demo, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_failing_step_ends_it_with_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    bad = Step("use it badly", "examples.gears.parts", ("--no-such-option",))
    good = Step("never come here", "examples.gears.parts", (str(tmp_path / "never"),))
    monkeypatch.setattr(demo_module, "plan", lambda options: [bad, good])
    assert demo(DemoOptions(tmp_path)) == 2
    assert not (tmp_path / "never").exists()
    assert "step 1 of 2 failed with exit code 2" in capfd.readouterr().err


def test_a_command_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(demo_module.shutil, "which", lambda *_, **__: None)
    assert main(["--output", str(tmp_path)]) == 1
    assert "stfpm-train is not next to" in capsys.readouterr().err


def test_only_what_a_demo_made_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "gear" / "train").mkdir(parents=True)
    for name in ("gear.onnx", "verdicts.jsonl", "mine.txt"):
        (tmp_path / name).write_text("")
    broken = Step("stop at once", "examples.gears.parts", ("--no-such-option",))
    monkeypatch.setattr(demo_module, "plan", lambda options: [broken])
    demo(DemoOptions(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_a_small_demo_runs_from_end_to_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert shutil.which("stfpm-inspect", path=str(Path(sys.executable).parent)), "pip install -e '.[dev]' first"
    assert main(["--output", str(tmp_path), *TINY]) == 0
    printed = capfd.readouterr().out
    figures = json.loads((tmp_path / "accuracy.json").read_text())["categories"][0]
    assert f"image AUROC {figures['image_auroc']:.3f}" in printed
    verdicts = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert len(verdicts) == 4 + 3 * 2
    assert {verdict["decision"] for verdict in verdicts} <= {"pass", "reject"}
    assert len(list((tmp_path / "overlays").rglob("*.png"))) == len(verdicts)
