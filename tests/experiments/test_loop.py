"""The loop's benchmark runs, and its figures are there."""

from __future__ import annotations

import contextlib
import json

import numpy as np

from benchmarks.experiments.line.loop import main
from stfpm_runtime.artifact.golden import Golden, golden_path, save_golden
from stfpm_runtime.engines import open_engine
from stfpm_runtime.files import sha256


def test_all_measurements_are_printed(make_model, tmp_path, capsys):
    path = tmp_path / "loop.json"
    model = make_model(factor=0.01, threshold=0.5, parity={"map_max_error": 1e-7, "failures": []})
    with contextlib.closing(open_engine(model)) as engine:
        images = np.random.default_rng(0).integers(0, 256, (2, *engine.spec.input_shape), np.uint8)
        save_golden(Golden(images, *engine.infer(images), sha256(model)), golden_path(model))
    assert main([str(model), "--verdicts", "50", "--soak", "1000", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert 0 < result["cold_start"]["median_s"] <= result["cold_start"]["worst_s"]
    assert 0 < result["bare_inference_ms"] < result["preprocess_and_inference_ms"]
    for load in ("unloaded", "overloaded"):
        assert 0 < result[load]["p50_ms"] <= result[load]["p99_ms"]
    assert result["soak"]["frames"] == 1000
    assert set(result["soak"]["written"]) == {"line.jsonl", "line.sqlite", "line.sqlite.lock"}
