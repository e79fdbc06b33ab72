"""Our use of TensorRT and CUDA, on stand-ins: order, addresses, lifetimes. What they compute is ONNX Runtime's."""

from __future__ import annotations

import numpy as np
import pytest

from plans.stand_in_cuda import StandInCuda
from stfpm_runtime import open_engine
from stfpm_runtime.errors import ArtifactError, EngineError
from tiny_model import make_images


def test_a_plan_gives_the_results_of_its_onnx_file(install, exported, copy):
    world = install()
    model = copy(exported)
    plan = world.build(model)
    assert plan.typing == "strong"
    assert plan.parity["verdict_flips"] == 0
    engine = world.Engine(model.with_suffix(".engine"))
    images = make_images(21)
    expected = open_engine(model, device="onnxruntime").infer(images)
    for found, right in zip(engine.infer(images), expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)
    engine.close()


def test_open_engine_takes_a_plan(install, full, copy):
    world = install()
    model = copy(full)
    world.build(model)
    engine = open_engine(model.with_suffix(".engine"))
    assert engine.provider == "TensorRT 10.3.0"
    assert engine.spec.name == "tiny"
    with pytest.raises(EngineError, match="expected uint8"):
        engine.infer(np.zeros((1, 3, 64, 64), np.float32))


@pytest.mark.parametrize("frames", [1, 3, 8, 25])
@pytest.mark.parametrize("graphs", [True, False])
def test_any_number_of_frames_in_their_order(install, full, copy, frames, graphs):
    world = install()
    model = copy(full)
    world.build(model, batches=(2, 2, 3))
    engine = world.Engine(model.with_suffix(".engine"), graphs=graphs)
    world.cuda.launches = 0
    images = make_images(frames, seed=frames)
    expected = open_engine(model).infer(images)[1]
    for _ in range(3):  # the first is recorded, the others are replayed
        np.testing.assert_allclose(engine.infer(images)[1], expected, atol=1e-6)
    assert (world.cuda.launches > 0) is graphs


def test_a_graph_is_recorded_for_each_number_of_frames_and_replayed(install, full, copy):
    world = install()
    model = copy(full)
    world.build(model)
    engine = world.Engine(model.with_suffix(".engine"))
    world.cuda.launches = 0
    for number, expected in ((1, 0), (1, 1), (2, 1), (1, 2), (2, 3)):
        engine.infer(make_images(number))
        assert world.cuda.launches == expected
    assert world.cuda.alive["graphs"] == 2


def test_results_stay_when_the_next_frame_comes(install, full, copy):
    world = install()
    model = copy(full)
    world.build(model)
    engine = world.Engine(model.with_suffix(".engine"))
    images = make_images(2)
    first = engine.infer(images[:1])
    kept = [array.copy() for array in first]
    engine.infer(images[1:])
    for before, now in zip(kept, first, strict=True):
        np.testing.assert_array_equal(before, now)


def test_where_cuda_cannot_record_it_goes_on_without(install, full, copy):
    world = install(StandInCuda(records=False))
    model = copy(full)
    world.build(model)
    engine = world.Engine(model.with_suffix(".engine"))
    images = make_images(4)
    for _ in range(2):
        np.testing.assert_allclose(engine.infer(images)[1], open_engine(model).infer(images)[1], atol=1e-6)
    assert world.cuda.launches == 0


def test_closing_frees_all_memory_and_streams(install, full, copy):
    world = install()
    model = copy(full)
    world.build(model)
    assert world.cuda.alive == {"buffers": 0, "streams": 0, "graphs": 0}, "after the proof"
    engine = world.Engine(model.with_suffix(".engine"))
    engine.infer(make_images(9))
    assert world.cuda.alive["buffers"] == 12
    engine.close()
    engine.close()
    assert world.cuda.alive == {"buffers": 0, "streams": 0, "graphs": 0}
    with pytest.raises(EngineError, match="closed"):
        engine.infer(make_images(1))


def test_a_full_gpu_error_names_the_size_and_frees_all_memory(install, full, copy):
    world = install()
    model = copy(full)
    world.build(model)
    world.cuda.memory = 200_000
    with pytest.raises(EngineError, match=r"cudaMalloc.*0\.1 MB were asked for; close what else uses the GPU"):
        world.Engine(model.with_suffix(".engine"))
    assert world.cuda.alive == {"buffers": 0, "streams": 0, "graphs": 0}


def test_the_lean_runtime_takes_version_compatible_plans_alone(install, full, copy):
    world = install()
    model = copy(full)
    world.build(model)
    lean = install(lean=True)
    with pytest.raises(ArtifactError, match=r"version-compatible plans only.*--engine --version-compatible"):
        lean.Engine(model.with_suffix(".engine"))
    world = install()
    world.build(model, version_compatible=True)
    lean = install(lean=True, version="10.16.1")
    engine = lean.Engine(model.with_suffix(".engine"))
    assert engine.provider == "TensorRT 10.16.1 lean"
    np.testing.assert_allclose(engine.infer(make_images(1))[1], open_engine(model).infer(make_images(1))[1], atol=1e-6)
    with pytest.raises(EngineError, match="builds none; install the whole of TensorRT"):
        lean.build(model)
