"""The GPU script, run on the CPU."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.experiments import gpu, gpu_contenders
from stfpm_runtime.engines.tensorrt.sidecar import Plan, PlanPlatform, save_sidecar
from stfpm_runtime.files import sha256


def test_a_plan_of_another_model_or_for_other_batches_is_built_again(tmp_path, tiny):
    plan, model = tmp_path / "fp32.engine", tmp_path / "fp32.onnx"
    plan.write_bytes(b"a plan")
    model.write_bytes(b"a model")
    made = Plan(
        tiny.spec, PlanPlatform("10.3.0", "12.6", "Orin", "8.7"), sha256(plan), sha256(model), batches=(1, 1, 2)
    )
    assert not gpu_contenders._is_plan_of(plan, model, (1, 1, 2)), "it has no sidecar"
    save_sidecar(made, plan)
    assert gpu_contenders._is_plan_of(plan, model, (1, 1, 2))
    assert not gpu_contenders._is_plan_of(plan, model, (1, 1, 8))
    model.write_bytes(b"another model")
    assert not gpu_contenders._is_plan_of(plan, model, (1, 1, 2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it is no rehearsal: python -m benchmarks.experiments.gpu")
def test_a_rehearsal(tmp_path):
    output = tmp_path / "gpu.json"
    argv = ["--json", str(output), "--batches", "1", "2", "--seconds", "0.05", "--side", "64", "--no-compile"]
    assert gpu.main(argv) == 0
    results = json.loads(output.read_text())
    assert results["is_rehearsal"]
    assert results["failed"] == {}
    rows = {(row["contender"], row["frames"]): row for row in results["rows"]}
    assert rows["PyTorch eager fp32", 2]["times_faster_than_eager"] == 1
    assert rows["PyTorch eager fp32", 2]["map_max_error"] < 1e-5
    assert rows["ONNX Runtime CPU fp32", 1]["map_max_error"] < 1e-4
    assert len(results["rows"]) == 10
