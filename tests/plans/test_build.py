"""Builds on the stand-in: what is asked of TensorRT, and every way in which it has been seen to go wrong."""

from __future__ import annotations

import json

import onnx
import pytest

from plans.stand_in_cuda import StandInCuda
from stfpm_runtime.batch.cli import main as inspect
from stfpm_runtime.engines.tensorrt.cuda import CudaPython
from stfpm_runtime.engines.tensorrt.sidecar import PlanOptions
from stfpm_runtime.errors import ArtifactError, EngineError, OptionError, ParityError


def test_a_plan_built_in_another_precision_is_a_failed_build(install, half, copy):
    """rf-detr's pull request 1454: float16 asked for, float32 built, without a word."""
    world = install(builds="FP32")
    model = copy(half)
    with pytest.raises(EngineError, match="fp16 was asked for, but of 20 convolutions it runs 20 in fp32"):
        world.build(model)
    assert not list(model.parent.glob("*.engine*"))


def test_a_plan_that_computes_wrongly_is_not_kept(install, full, copy):
    """TensorRT's issue 4813: a float32 engine of 11.1, silently wrong by 0.15."""
    world = install(version="11.1.0", wrong_by=0.15)
    model = copy(full)
    with pytest.raises(ParityError, match=r"its anomaly map is 0\.15 away from PyTorch's.*the plan is not kept"):
        world.build(model)
    assert not list(model.parent.glob("*.engine*"))


def test_not_a_number_is_not_kept(install, half, copy):
    world = install(wrong_by=float("nan"))
    with pytest.raises(ParityError, match="its results are not finite; the plan is not kept"):
        world.build(copy(half))


@pytest.mark.parametrize("version", ["10.3.0", "10.11.0"])
def test_where_strong_typing_is_not_complete_flags_are_tried(install, half, copy, version):
    """NVIDIA/TensorRT's issue 4494."""
    world = install(version=version, refuses_strong=True)
    plan = world.build(copy(half))
    flags = {flag.name for flag in world.world.configs[-1].flags}
    assert plan.typing == "weak"
    assert {"FP16", "OBEY_PRECISION_CONSTRAINTS"} <= flags
    assert any("trying with flags" in line for line in world.reports)


def test_where_it_is_complete_a_refusal_is_final(install, half, copy):
    world = install(version="10.12.0", refuses_strong=True)
    with pytest.raises(EngineError, match=r"cannot build it: strongly typed: no implementation for node conv1; export"):
        world.build(copy(half))


def test_tf32_is_off_and_the_options_arrive(install, full, copy, tmp_path):
    world = install()
    plan = world.build(
        copy(full), batches=(1, 4, 16), workspace_mb=512, optimization_level=5, hardware_compatible=True
    )  # fmt: skip
    config = world.world.configs[-1]
    assert "TF32" not in {flag.name for flag in config.flags}
    assert config.pools == {"workspace": 512 << 20}
    assert config.builder_optimization_level == 5
    assert config.hardware_compatibility_level == "ampere"
    assert config.profiles[0].batches == [1, 4, 16] == list(plan.batches)


def test_the_timing_cache_is_used_again_on_the_same_kind_of_device(install, full, copy, tmp_path):
    world = install()
    model = copy(full)
    world.build(model)
    (cache,) = (tmp_path / "cache" / "stfpm-edge" / "timings").iterdir()
    assert cache.name == "stand-in-8.7-tensorrt-10.3.0.cache"
    world.build(model)
    assert world.world.configs[-1].cache.data == b"timed"
    install(StandInCuda(gpu="Other")).build(model)
    assert len(list(cache.parent.iterdir())) == 2


def test_a_file_of_a_fixed_batch_has_its_own(install, tiny_checkpoint, tmp_path):
    from stfpm_export.export import ExportOptions, export_checkpoint

    model = tmp_path / "two.onnx"
    export_checkpoint(ExportOptions(tiny_checkpoint, model, target="tensorrt", batch=2), print)
    assert install().build(model).batches == (2, 2, 2)


def test_out_of_memory_says_what_was_asked_for_and_what_to_try(install, full, copy):
    world = install(memory_error=True)
    with pytest.raises(EngineError, match=r"out of memory. The workspace was 4096 MB: stop .*smaller --workspace"):
        world.build(copy(full), workspace_mb=4096)


def test_what_the_parser_cannot_read_is_named(install, full, copy):
    model = copy(full)
    graph = onnx.load(model)
    graph.graph.node.append(onnx.helper.make_node("Gelu", ["score"], ["x"], name="head/surprise"))
    onnx.save(graph, model)
    golden_belongs_again(model)
    with pytest.raises(ArtifactError, match=r"TensorRT 10.3.0 cannot read it: head/surprise \(Gelu\): no importer"):
        install().build(model)


def test_a_dla_that_is_not_there_or_cannot_do_it(install, full, half, copy):
    world = install()
    with pytest.raises(OptionError, match=r"got --dla 2; TensorRT 10\.3\.0 on Stand-in .* has 2 such cores"):
        world.build(copy(half), dla=2)
    world.build(copy(half), dla=1)
    config = world.world.configs[-1]
    assert (config.DLA_core, config.default_device_type) == (1, "dla")
    assert "GPU_FALLBACK" in {flag.name for flag in config.flags}
    with pytest.raises(OptionError, match="a DLA computes in fp16 or int8"):
        world.build(copy(full), dla=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": (2, 1, 8)}, "three rising numbers"),
        ({"optimization_level": 6}, "expected 0 to 5"),
        ({"workspace_mb": 0}, "expected 1 or more"),
        ({"dla": -1}, "expected 0 or more"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(OptionError, match=message):
        PlanOptions(**options)


def test_the_golden_file_must_be_the_models_own(install, full, half, copy, tmp_path):
    model = copy(full)
    model.with_suffix(".golden.npz").write_bytes(half.with_suffix(".golden.npz").read_bytes())
    with pytest.raises(ArtifactError, match="belongs to another file"):
        install().build(model)
    model.with_suffix(".golden.npz").unlink()
    with pytest.raises(ArtifactError, match="no such file; stfpm-export writes it next to the model"):
        install().build(model)


def test_rebuilding_remembers_the_options(install, full, copy):
    world = install()
    model = copy(full)
    world.build(model, batches=(1, 2, 4), optimization_level=1)
    plan = model.with_suffix(".engine")
    newer = install(version="11.4.0")
    again = newer.rebuild(plan, model, print)
    assert again.built_on.tensorrt == "11.4.0"
    assert (again.batches, again.options["optimization_level"]) == ((1, 2, 4), 1)


def test_inspect_rebuilds_on_request(install, full, copy, good_images, capsys):
    world = install()
    model = copy(full)
    world.build(model)
    install(version="11.4.0")
    argv = [str(model.with_suffix(".engine")), "--source", str(good_images), "--threshold", "7.9"]
    assert inspect(argv) == 1
    assert "built with TensorRT 10.3.0 on Stand-in (compute capability 8.7), this is TensorRT 11.4.0" in (
        capsys.readouterr().err
    )
    assert inspect([*argv, "--rebuild"]) == 0
    captured = capsys.readouterr()
    assert {json.loads(line)["decision"] for line in captured.out.splitlines()} == {"pass"}
    assert "TensorRT 11.4.0" in captured.err


@pytest.mark.parametrize(
    ("damage", "message"), [("another's", "belongs to another model than"), ("missing", "no such file"), ("", "")]
)
def test_a_plan_is_inspected_with_its_own_golden_results_alone(
    install, full, half, copy, good_images, capsys, damage, message
):
    model = copy(full)
    install().build(model)
    golden = model.with_suffix(".golden.npz")
    if damage == "missing":
        golden.unlink()
    elif damage:
        golden.write_bytes(half.with_suffix(".golden.npz").read_bytes())
    assert inspect([str(model.with_suffix(".engine")), "--source", str(good_images)]) == (1 if damage else 0)
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_no_driver_is_one_line():
    with pytest.raises(EngineError, match=r"cudaSetDevice: words for .* \(error 35\); is an NVIDIA driver installed"):
        CudaPython(StandInCuda(driver=False))


def golden_belongs_again(model):
    from dataclasses import replace

    from stfpm_runtime.artifact.golden import golden_path, load_golden, save_golden
    from stfpm_runtime.files import sha256

    save_golden(replace(load_golden(golden_path(model)), sha256=sha256(model)), golden_path(model))
