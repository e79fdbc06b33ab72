"""A plan is loaded only where its sidecar, its bytes and the machine agree."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from plans.stand_in_cuda import StandInCuda
from stfpm_runtime.artifact.onnx_metadata import read_spec
from stfpm_runtime.engines.tensorrt.sidecar import (
    Plan,
    PlanPlatform,
    audit,
    check_machine,
    convolution_types,
    load_sidecar,
    save_sidecar,
    sidecar_path,
)
from stfpm_runtime.errors import ArtifactError

ORIN = PlanPlatform("10.3.0", "12.6", "Orin", "8.7")


@pytest.fixture
def plan(tmp_path, full):
    from stfpm_runtime.files import sha256

    path = tmp_path / "m.engine"
    path.write_bytes(b"a plan")
    made = Plan(read_spec(full), ORIN, sha256(path), "0" * 64, layers={"fp16": 20}, options={"dla": None})
    save_sidecar(made, path)
    return path, made


def test_a_sidecar_survives_the_disk(plan):
    path, made = plan
    assert load_sidecar(path) == made
    assert sidecar_path(path).name == "m.engine.json"


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b""])
def test_a_plan_of_other_bytes_is_not_loaded(plan, spoil):
    path, _ = plan
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ArtifactError, match=r"cut off, or another plan.*stfpm-export .*m\.onnx --engine"):
        load_sidecar(path)


def test_a_plan_without_a_sidecar_is_not_loaded(plan):
    path, _ = plan
    sidecar_path(path).unlink()
    with pytest.raises(ArtifactError, match="a plan is code, and is loaded only with the sidecar"):
        load_sidecar(path)
    path.unlink()
    with pytest.raises(ArtifactError, match="no such file; build it on this device with: stfpm-export"):
        load_sidecar(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ({"schema": 2}, "has schema 2, this stfpm-edge reads up to 1"),
        ({"spec": {}}, "damaged|no schema"),
        ({"built_on": {"tensorrt": "10"}}, "damaged"),
        ({"surprise": 1}, "damaged"),
        ({"batches": 3}, "damaged"),
    ],
)
def test_a_damaged_sidecar(plan, change, message):
    path, _ = plan
    sidecar = sidecar_path(path)
    data = json.loads(sidecar.read_text())
    sidecar.write_text(change if isinstance(change, str) else json.dumps(data | change))
    with pytest.raises(ArtifactError, match=message):
        load_sidecar(path)


@pytest.mark.parametrize(
    ("here", "changes", "fits"),
    [
        (ORIN, {}, True),
        (replace(ORIN, tensorrt="10.3.0.26"), {}, True),
        (replace(ORIN, cuda="12.9"), {}, True),
        (replace(ORIN, tensorrt="10.16.1"), {}, False),
        (replace(ORIN, tensorrt="10.16.1"), {"version_compatible": True}, True),
        (replace(ORIN, tensorrt="10.2.0"), {"version_compatible": True}, False),
        (replace(ORIN, tensorrt="11.4.0"), {"version_compatible": True}, False),
        (replace(ORIN, gpu="Orin Nano"), {}, False),
        (replace(ORIN, compute_capability="9.0"), {}, False),
        (replace(ORIN, gpu="H200", compute_capability="9.0"), {"hardware_compatible": True}, True),
        (replace(ORIN, gpu="T4", compute_capability="7.5"), {"hardware_compatible": True}, False),
    ],
)
def test_where_a_plan_runs(plan, here, changes, fits):
    """Issues 2176 and 564 of TensorRT: engines that were copied between devices."""
    path, made = plan
    made = replace(made, **changes)
    if fits:
        check_machine(made, here, path)
        return
    with pytest.raises(ArtifactError, match=rf"built with .* on Orin .*, this is .*{here.gpu}.*build it again here"):
        check_machine(made, here, path)


def test_another_gpu_is_refused_before_tensorrt_sees_the_plan(install, full, copy):
    world = install()
    model = copy(full)
    world.build(model)
    elsewhere = install(StandInCuda(gpu="Thor"))
    with pytest.raises(ArtifactError, match=r"this is TensorRT 10\.3\.0 on Thor"):
        elsewhere.Engine(model.with_suffix(".engine"))
    assert elsewhere.cuda.alive == {"buffers": 0, "streams": 0, "graphs": 0}


def test_the_metadata_is_read_without_an_onnx_library(full, tmp_path):
    import onnx

    assert read_spec(full).to_json() == onnx.load(full).metadata_props[0].value
    whole = full.read_bytes()
    for name, data, message in [
        ("cut.onnx", whole[:-40], "damaged, or no ONNX file"),
        (
            "text.onnx",
            b"no protocol buffer at all",
            "damaged, or no ONNX file|an ONNX file that stfpm-export did not write",
        ),
        ("empty.onnx", b"", "an ONNX file that stfpm-export did not write"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ArtifactError, match=message):
            read_spec(tmp_path / name)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_spec(tmp_path)
    with pytest.raises(ArtifactError, match="no such file"):
        read_spec(tmp_path / "none.onnx")


def layer(kind: str, text: str, key: str = "Format/Datatype") -> dict:
    return {"LayerType": kind, "Inputs": [{"Name": "x", key: text}], "Outputs": []}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Row major linear FP32", "fp32"),
        ("Row major linear FP16 format", "fp16"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("Half", "fp16"),
        ("Float", "fp32"),
        ("BF16", "bf16"),
    ],
)
def test_the_inspectors_words_for_types(text, name):
    for key in ("Format/Datatype", "Datatype"):
        assert convolution_types(json.dumps({"Layers": [layer("CaskConvolution", text, key)]})) == {name: 1}


def test_only_convolutions_count_and_silence_is_no_verdict():
    layers = [layer("CaskConvolution", "FP16"), layer("Reformat", "FP32"), layer("NoOp", "FP32"), "a name alone"]
    assert convolution_types(json.dumps({"Layers": layers})) == {"fp16": 1}
    assert convolution_types("no JSON") == convolution_types("{}") == {}
    assert audit({}, "fp16") == ""


@pytest.mark.parametrize(
    ("types", "precision", "is_right"),
    [
        ({"fp16": 40}, "fp16", True),
        ({"fp16": 38, "fp32": 2}, "fp16", True),
        ({"fp16": 30, "fp32": 10}, "fp16", False),
        ({"fp32": 40}, "fp32", True),
        ({"fp16": 1, "fp32": 39}, "fp32", False),
        ({"int8": 36, "fp32": 1, "fp16": 3}, "int8", True),
        ({"fp16": 40}, "int8", False),
    ],
)
def test_the_audit(types, precision, is_right):
    assert (audit(types, precision) == "") is is_right
