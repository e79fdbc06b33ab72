"""`stfpm`: all commands under one name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stfpm_runtime import command


def test_every_installed_command_is_a_verb():
    setup = (Path(__file__).parents[2] / "setup.py").read_text(encoding="utf-8")
    installed = re.search(r"VERBS = \((.*?)\)", setup, re.DOTALL)
    assert sorted(re.findall(r'"(\w+)"', installed[1])) == sorted(command.verbs())


def test_a_program_runs_the_verb_of_its_name(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["/usr/bin/stfpm-inspect", str(tmp_path / "none.onnx"), str(tmp_path)])
    assert command.script() == 1
    assert capsys.readouterr().err.startswith("stfpm-inspect: error: ")


def test_an_interruption_of_the_imports_is_one_line(monkeypatch, capsys):
    def interrupted(module: str):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "import_module", interrupted)
    assert command.main(["train"]) == 130
    assert capsys.readouterr().err == "stfpm-train: interrupted\n"


@pytest.mark.parametrize("verb", command.verbs())
def test_a_verb_runs_the_command_of_its_name(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main([verb, "--help"])
    assert stop.value.code == 0
    assert f"usage: stfpm-{verb}" in capsys.readouterr().out


def test_a_verb_gives_the_exit_code_and_the_message_of_its_command(tmp_path, capsys):
    assert command.main(["inspect", str(tmp_path / "none.onnx"), str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("stfpm-inspect: error: ")


def test_help_version_and_completion(capsys):
    assert command.main([]) == command.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"stfpm {verb} " in shown for verb in command.verbs() if verb != "selftest")
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("stfpm-edge 0.")
    for shell in command.COMPLETIONS:
        assert command.main(["--completion", shell]) == 0
        assert " ".join(command.verbs()) in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["nope"], ["--completion"], ["--completion", "dos"]])
def test_bad_usage_is_one_line_and_exit_code_2(argv, capsys):
    assert command.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected" in line


def test_a_missing_package_is_named(monkeypatch, capsys):
    def broken(module: str):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(command, "import_module", broken)
    assert command.main(["train"]) == 1
    assert "stfpm-train: error: needs the package torch, which is not installed" in capsys.readouterr().err
