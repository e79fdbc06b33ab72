from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stfpm_edge.checkpoint import load_checkpoint, load_tensors, save_checkpoint
from stfpm_edge.torch_engine import TorchEngine
from stfpm_runtime.errors import ArtifactError, EngineError


def test_what_is_saved_is_loaded(tiny, tiny_checkpoint):
    loaded = load_checkpoint(tiny_checkpoint)
    assert loaded.spec == tiny.spec
    assert all(map(np.array_equal, loaded.held_out_images, tiny.held_out_images))
    image = torch.from_numpy(np.stack(tiny.train_images))
    assert torch.equal(loaded.model()(image)[0], tiny.model()(image)[0])


def test_nothing_is_left_of_a_write_that_fails(tiny, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"the old model")
    monkeypatch.setattr("stfpm_edge.checkpoint.save_file", _full_disk)
    with pytest.raises(Exception, match="No space left"):
        save_checkpoint(tiny, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    assert path.read_bytes() == b"the old model"


def _full_disk(tensors, path, metadata):
    path.write_bytes(b"half")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_is_cut_off(tiny_checkpoint, tmp_path, share):
    data = tiny_checkpoint.read_bytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ArtifactError, match="damaged or cut off"):
        load_checkpoint(path)


def test_files_that_are_not_ours(tmp_path):
    with pytest.raises(ArtifactError, match="no such file"):
        load_checkpoint(tmp_path / "model.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ArtifactError, match="file that stfpm-train did not write"):
        load_checkpoint(tmp_path / "other.safetensors")


def test_a_teacher_that_was_changed_after_training(tiny, tmp_path):
    changed = dataclasses.replace(tiny, spec=dataclasses.replace(tiny.spec, teacher_sha256="0" * 64))
    save_checkpoint(changed, tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError, match="its metadata names 000000000000"):
        load_checkpoint(tmp_path / "model.safetensors")


def test_a_newer_schema_is_refused_by_name(tiny_checkpoint, tmp_path):
    tensors, metadata = load_tensors(tiny_checkpoint)
    newer = {"stfpm": json.dumps({**json.loads(metadata["stfpm"]), "schema": 99})}
    save_file(tensors, tmp_path / "model.safetensors", newer)
    with pytest.raises(ArtifactError, match="schema 99"):
        load_checkpoint(tmp_path / "model.safetensors")


def test_the_torch_engine_is_an_engine(tiny, tiny_checkpoint):
    engine = TorchEngine(tiny_checkpoint)
    maps, scores = engine.infer(np.stack(tiny.held_out_images))
    assert (maps.dtype, maps.shape, scores.shape) == (np.float32, (2, 64, 64), (2,))
    assert scores.tolist() == pytest.approx(tiny.spec.held_out_scores, rel=1e-5)
    with pytest.raises(EngineError, match=r"got float32 \[1, 64, 64, 3\]"):
        engine.infer(np.zeros((1, 64, 64, 3), np.float32))
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(np.stack(tiny.held_out_images))
