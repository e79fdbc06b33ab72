"""Parity against golden results and against PyTorch itself."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from stfpm_bench.parity import GOLDEN, PYTORCH, measure_parity, read_golden, run_pytorch
from stfpm_edge.checkpoint import load_checkpoint, save_checkpoint
from stfpm_runtime.artifact.golden import Golden, golden_path, save_golden
from stfpm_runtime.artifact.spec import Spec
from stfpm_runtime.engines import open_engine
from stfpm_runtime.engines.fake import FakeEngine, not_a_number
from stfpm_runtime.errors import ArtifactError
from stfpm_runtime.files import sha256

SPEC = Spec("bottle", 8, 8, "resnet18", (2,), "none", "0", threshold=0.5)


def golden_of(levels, **changes):
    """What an engine whose map is the first channel / 255 should say of even images; `changes` falsify it."""
    images = np.stack([np.full((8, 8, 3), level, np.uint8) for level in levels])
    maps = images[..., 0] / np.float32(255)
    return Golden(**({"images": images, "maps": maps, "scores": maps.max(axis=(1, 2)), "sha256": "0"} | changes))


def test_equal_results_are_parity():
    found = measure_parity(FakeEngine(SPEC), golden_of([0, 255]), GOLDEN)
    assert (found.map_max_error, found.score_max_error, found.verdict_flips) == (0, 0, 0)
    assert (found.against, found.images, found.holds) == (GOLDEN, 2, True)
    assert found.scores == found.reference_scores == (0, 1)


def test_error_and_flips_are_the_largest_and_their_number():
    golden = golden_of([0, 102, 255])  # scores 0, 0.4, 1
    golden = dataclasses.replace(golden, maps=golden.maps + np.float32(0.2), scores=golden.scores + np.float32(0.2))
    found = measure_parity(FakeEngine(SPEC), golden, GOLDEN)
    assert found.map_max_error == pytest.approx(0.2, abs=1e-6)
    assert found.verdict_flips == 1  # 0.4 passes, PyTorch's 0.6 does not
    assert not found.holds


def test_what_is_not_a_number_is_never_parity():
    found = measure_parity(FakeEngine(SPEC, not_a_number), golden_of([10]), GOLDEN)
    assert not found.holds
    assert json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))["map_max_error"] > 1e30


def test_golden_results_of_another_model_are_refused(make_model):
    model, other = make_model("a.onnx"), make_model("b.onnx", factor=2.0)
    golden = dataclasses.replace(golden_of([1]), sha256=sha256(other))
    save_golden(golden, golden_path(model))
    with pytest.raises(ArtifactError, match=r"a\.golden\.npz: belongs to a model of SHA-256 .*copy the one"):
        read_golden(model)
    save_golden(dataclasses.replace(golden, sha256=sha256(model)), golden_path(model))
    assert read_golden(model).sha256 == sha256(model)


def test_golden_results_that_are_not_there_are_named(make_model):
    with pytest.raises(ArtifactError, match=r"bottle\.golden\.npz: no such file"):
        read_golden(make_model())


def test_plan_has_the_golden_results_of_the_onnx_file_that_it_was_built_from(make_model, tmp_path):
    source = make_model("bottle.onnx")
    plan = tmp_path / "bottle.engine"
    plan.write_bytes(b"a plan")
    save_golden(dataclasses.replace(golden_of([1]), sha256=sha256(source)), golden_path(plan))
    with pytest.raises(ArtifactError, match="belongs to a model"):
        read_golden(plan)
    (tmp_path / "bottle.engine.json").write_text(json.dumps({"built_from": {"onnx_sha256": sha256(source)}}))
    assert read_golden(plan).sha256 == sha256(source)


def test_exported_file_agrees_with_its_checkpoint(tiny_checkpoint, tiny_onnx):
    engine = open_engine(tiny_onnx, "onnxruntime")
    found = measure_parity(engine, run_pytorch(tiny_checkpoint, engine.spec), PYTORCH)
    assert found.holds
    assert found.images == 8  # four stored ones, each a second time with a patch
    assert found.verdict_flips == 0
    assert found.scores == pytest.approx(found.reference_scores, rel=1e-4)


def test_checkpoint_of_another_model_is_refused(tiny_checkpoint, tiny_onnx, tmp_path):
    spec = open_engine(tiny_onnx, "onnxruntime").spec
    loaded = load_checkpoint(tiny_checkpoint)
    path = tmp_path / "other.safetensors"
    save_checkpoint(dataclasses.replace(loaded, spec=dataclasses.replace(loaded.spec, name="screw")), path)
    with pytest.raises(ArtifactError, match="its name is screw, the exported file's is tiny; give the checkpoint"):
        run_pytorch(path, spec)


def test_checkpoint_without_images_says_what_to_do(tiny_checkpoint, tiny_onnx, tmp_path):
    loaded = dataclasses.replace(load_checkpoint(tiny_checkpoint), train_images=[], held_out_images=[])
    path = tmp_path / "bare.safetensors"
    save_checkpoint(loaded, path)
    with pytest.raises(ArtifactError, match="holds no images to compare on"):
        run_pytorch(path, open_engine(tiny_onnx, "onnxruntime").spec)
