from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import onnx
import pytest

from stfpm_export.export import ExportOptions, export_checkpoint
from stfpm_runtime import open_engine
from stfpm_runtime.artifact.onnx_metadata import read_spec, replace_spec
from stfpm_runtime.batch.cli import main
from stfpm_runtime.errors import ArtifactError, EngineError
from tiny_model import make_images

pytest.importorskip("openvino")
from stfpm_runtime.engines import base
from stfpm_runtime.engines.onnx_runtime import OnnxRuntimeEngine
from stfpm_runtime.engines.openvino import OpenVinoEngine


@pytest.fixture(scope="module")
def written_for_it(tmp_path_factory, tiny_checkpoint):
    path = tmp_path_factory.mktemp("openvino") / "m.onnx"
    export_checkpoint(ExportOptions(tiny_checkpoint, path, target="openvino"), print)
    return path


def test_it_agrees_with_onnx_runtime_and_does_not_drop_to_bfloat16(written_for_it):
    """In bfloat16, its own choice where the CPU can, maps are off by a hundredth and more."""
    images = make_images(3)
    own, other = (open_engine(written_for_it, device=name).infer(images) for name in ("openvino", "onnxruntime"))
    np.testing.assert_allclose(own[0], other[0], atol=2e-6)
    np.testing.assert_allclose(own[1], other[1], atol=2e-6)


def test_it_is_chosen_for_files_that_were_written_for_it(written_for_it, tiny_onnx):
    assert open_engine(written_for_it).provider == "OpenVINO CPU"
    assert open_engine(written_for_it, device="onnxruntime").provider == "CPUExecutionProvider"
    assert open_engine(tiny_onnx).provider == "CPUExecutionProvider"


def test_results_stay_when_the_next_frame_comes(written_for_it):
    engine = open_engine(written_for_it)
    first = engine.infer(make_images(1))[0]
    kept = first.copy()
    engine.infer(255 - make_images(1))
    np.testing.assert_array_equal(first, kept)


def test_it_refuses_what_onnx_runtime_refuses(tmp_path, written_for_it):
    with pytest.raises(ArtifactError, match="no such file"):
        OpenVinoEngine(tmp_path / "no.onnx")
    (tmp_path / "cut.onnx").write_bytes(written_for_it.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match="damaged, or no ONNX file; export it again"):
        OpenVinoEngine(tmp_path / "cut.onnx")
    model = onnx.load(written_for_it)
    model.graph.node[-1].op_type = "Unknown"
    onnx.save(model, tmp_path / "unknown.onnx")
    for engine, name in ((OpenVinoEngine, "OpenVINO"), (OnnxRuntimeEngine, "ONNX Runtime")):
        with pytest.raises(ArtifactError, match=rf"unknown.onnx: {name} cannot load it \(.*\); export it again"):
            engine(tmp_path / "unknown.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ArtifactError, match="an ONNX file that stfpm-export did not write"):
        OpenVinoEngine(tmp_path / "foreign.onnx")
    engine = OpenVinoEngine(written_for_it, threads=1)
    with pytest.raises(EngineError, match=r"expected uint8 \[N, 64, 64, 3\]"):
        engine.infer(make_images(1).astype(np.float32))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(make_images(1))


def test_a_user_may_choose_the_engine(written_for_it, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), make_images(1)[0])
    for device, provider in (("auto", "OpenVINO CPU"), ("onnxruntime", "CPUExecutionProvider")):
        assert main([str(written_for_it), "--source", str(tmp_path / "a.png"), "--device", device]) == 0
        assert provider in capsys.readouterr().err


def test_int8_that_it_would_clip_runs_in_onnx_runtime(tiny_checkpoint, tmp_path, monkeypatch):
    path, older = tmp_path / "int8.onnx", tmp_path / "older.onnx"
    export_checkpoint(
        ExportOptions(tiny_checkpoint, path, precision="int8", target="openvino", allow_parity_loss=True), print
    )
    older.write_bytes(replace_spec(path, dataclasses.replace(read_spec(path), pairs_fit_int16=False)))
    monkeypatch.setattr(base, "may_saturate_int8", lambda: True)
    assert open_engine(path).provider == "OpenVINO CPU"
    assert open_engine(older).provider == "CPUExecutionProvider"
    with pytest.raises(EngineError, match="clips int8 sums on this processor"):
        open_engine(older, device="openvino")
    monkeypatch.setattr(base, "may_saturate_int8", lambda: False)
    assert open_engine(older).provider == "OpenVINO CPU"
