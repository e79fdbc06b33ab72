"""The loop's benchmark runs, and its figures are there."""

from __future__ import annotations

import json

from stfpm_bench.loop import main


def test_all_figures_are_there(make_model, tmp_path, capsys):
    path = tmp_path / "loop.json"
    assert main([str(make_model()), "--verdicts", "50", "--soak", "1000", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert 0 < result["cold_start"]["median_s"] <= result["cold_start"]["worst_s"]
    assert 0 < result["bare_inference_ms"] < result["preprocess_and_inference_ms"]
    for load in ("unloaded", "overloaded"):
        assert 0 < result[load]["p50_ms"] <= result[load]["p99_ms"]
    assert result["soak"]["frames"] == 1000
    assert set(result["soak"]["written"]) == {"line.jsonl", "line.sqlite", "line.sqlite.lock"}
