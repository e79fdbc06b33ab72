"""The report that a user attaches to a bug report, on what this machine has and on the stand-ins."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stfpm_export import selftest_cli
from stfpm_export.sample import sample_checkpoint
from stfpm_export.selftest import SelftestOptions, run_selftest

QUICK = {"runs": 3, "idle_s": (0.01,)}


def test_it_reports_what_is_here_and_what_is_not(full, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert selftest_cli.main([str(full), "--quick", "--runs", "3", "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    (trial,) = [trial for trial in found["trials"] if trial["engine"] == "ONNX Runtime, CPU"]
    assert trial["provider"] == "CPUExecutionProvider"
    assert trial["parity"]["map_max_error"] < 1e-5
    assert 0 < trial["p50_ms"] <= trial["p99_ms"] <= trial["max_ms"]
    assert found["machine"]["packages"]["numpy"] == np.__version__
    assert "map within" in capsys.readouterr().err


def test_all_trials_run_on_the_stand_in(install, full, half, tmp_path):
    install()
    results = run_selftest(SelftestOptions((full, half), tmp_path, **QUICK), print)
    tried = {(trial["model"], trial["engine"]) for trial in results["trials"] if "error" not in trial}
    assert ("tiny.onnx", "TensorRT plan") in tried
    assert ("tiny.onnx", "TensorRT plan, without graphs") in tried
    assert "TensorRT plan" not in results["absent"]


def test_an_engine_that_fails_is_a_line_and_not_the_end(install, half, tmp_path):
    install(builds="FP32")
    lines: list[str] = []
    results = run_selftest(SelftestOptions((half,), tmp_path, **QUICK), lines.append)
    errors = {trial["engine"]: trial["error"] for trial in results["trials"] if "error" in trial}
    assert "fp16 was asked for" in errors["TensorRT plan"]
    assert "no such file" in errors["TensorRT plan, without graphs"]
    assert any("error" not in trial for trial in results["trials"])


def test_wrong_results_are_an_error(install, full, tmp_path):
    world = install()
    world.build(full, tmp_path / "tiny.engine")
    world.world.wrong_by = 0.15
    results = run_selftest(SelftestOptions((full,), tmp_path, **QUICK), print)
    (error,) = [trial["error"] for trial in results["trials"] if trial["engine"] == "TensorRT plan"]
    assert "0.15 away from PyTorch" in error


def test_a_failure_is_the_exit_code(install, full, tmp_path, capsys):
    install(memory_error=True)
    assert selftest_cli.main([str(full), "--quick", "--runs", "2"]) == 1
    captured = capsys.readouterr()
    assert "2 of 3 trials failed, the first: " in captured.err
    assert json.loads(captured.out)["trials"]


@pytest.mark.parametrize("argv", [["--runs", "0"], ["none.onnx"]])
def test_bad_input(argv, capsys):
    assert selftest_cli.main(argv) == 1
    assert "expected" in capsys.readouterr().err


def test_the_sample_is_the_same_each_time_and_its_scores_are_of_use():
    one, two = sample_checkpoint(64), sample_checkpoint(64)
    assert one.spec == two.spec
    assert 0.01 < one.spec.threshold < 1
