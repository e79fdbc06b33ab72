"""The GPU's script, rehearsed on the CPU, and the network that it compares with two branches."""

from __future__ import annotations

import json

import pytest
import torch

from stfpm_bench import gpu, gpu_contenders
from stfpm_bench.side_by_side import SideBySide
from stfpm_runtime.files import sha256
from stfpm_runtime.plans import Machine, Plan, save_sidecar
from tiny_model import make_checkpoint, make_images


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_side_by_side_computes_the_same(backbone):
    model = make_checkpoint(backbone).model()
    images = torch.from_numpy(make_images(2))
    with torch.inference_mode():
        expected, found = model(images), SideBySide(model)(images)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_plan_of_another_model_or_for_other_batches_is_built_again(tmp_path, tiny):
    plan, model = tmp_path / "fp32.engine", tmp_path / "fp32.onnx"
    plan.write_bytes(b"a plan")
    model.write_bytes(b"a model")
    made = Plan(tiny.spec, Machine("10.3.0", "12.6", "Orin", "8.7"), sha256(plan), sha256(model), batches=(1, 1, 2))
    assert not gpu_contenders._is_plan_of(plan, model, (1, 1, 2)), "it has no sidecar"
    save_sidecar(made, plan)
    assert gpu_contenders._is_plan_of(plan, model, (1, 1, 2))
    assert not gpu_contenders._is_plan_of(plan, model, (1, 1, 8))
    model.write_bytes(b"another model")
    assert not gpu_contenders._is_plan_of(plan, model, (1, 1, 2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it is no rehearsal: python -m stfpm_bench.gpu")
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
    assert len(results["rows"]) == 12
