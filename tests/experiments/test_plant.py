"""What dashboard and outputs cost: the benchmark reaches all of them, and its figures are there."""

from __future__ import annotations

import json
import shutil

import pytest

from benchmarks.experiments.line.plant import main


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mosquitto") is None, reason="no broker: apt install mosquitto")
def test_all_measurements_are_printed(make_model, tmp_path, capsys):
    path = tmp_path / "plant.json"
    assert main([str(make_model()), "--verdicts", "60", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert json.loads(capsys.readouterr().out) == result
    for kind in ("alone", "dashboard_and_outputs"):
        assert 0 < result[kind]["p50_ms"] <= result[kind]["p99_ms"]
    assert result["p99_ratio"]["value"] > 0
