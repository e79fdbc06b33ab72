"""One body for all engines: the same answers, and the same refusals in the same words."""

from __future__ import annotations

import numpy as np
import pytest

from stfpm_runtime.engines import open_engine
from stfpm_runtime.engines.fake import FakeEngine, failing, not_a_number
from stfpm_runtime.errors import ArtifactError, EngineError, OptionError

EXPECTED = r"; expected uint8 \[N, 8, 16, 3\] with N of at least 1; use stfpm_runtime.preprocess"


@pytest.fixture
def engine(make_engine):
    return make_engine()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_map_is_the_first_channel_and_score_its_maximum(engine, count):
    images = np.random.default_rng(count).integers(0, 200, (count, 8, 16, 3), dtype=np.uint8)
    maps, scores = engine.infer(images)
    assert (maps.dtype, scores.dtype) == (np.float32, np.float32)
    assert (maps.shape, scores.shape) == ((count, 8, 16), (count,))
    np.testing.assert_allclose(maps, images[..., 0] / 255, rtol=1e-6)
    np.testing.assert_array_equal(scores, maps.max(axis=(1, 2)))


def test_one_perturbed_pixel_is_the_peak(engine):
    images = np.zeros((2, 8, 16, 3), np.uint8)
    images[1, 5, 11, 0] = 255
    maps, scores = engine.infer(images)
    assert scores.tolist() == [0, 1]
    assert not maps[0].any()
    assert np.unravel_index(maps[1].argmax(), maps[1].shape) == (5, 11)


def test_engine_has_spec_and_provider(make_engine, make_spec):
    engine = make_engine(name="screw", threshold=0.25)
    assert engine.spec == make_spec(name="screw", threshold=0.25)
    assert engine.provider in ("fake", "CPUExecutionProvider")


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (np.zeros((1, 8, 16, 3), np.float32), r"got float32 \[1, 8, 16, 3\]"),
        (np.zeros((1, 16, 8, 3), np.uint8), r"got uint8 \[1, 16, 8, 3\]"),
        (np.zeros((8, 16, 3), np.uint8), r"got uint8 \[8, 16, 3\]"),
        (np.zeros((1, 3, 8, 16), np.uint8), r"got uint8 \[1, 3, 8, 16\]"),
        (np.zeros((1, 8, 16, 1), np.uint8), r"got uint8 \[1, 8, 16, 1\]"),
        (np.zeros((0, 8, 16, 3), np.uint8), r"got uint8 \[0, 8, 16, 3\]"),
        ([[1]], "got list"),
    ],
)
def test_bad_input_is_refused_with_the_same_sentence(engine, images, got):
    with pytest.raises(EngineError, match=got + EXPECTED):
        engine.infer(images)


def test_closed_engine_refuses_and_closes_again(engine):
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="the engine was closed; open it again"):
        engine.infer(np.zeros((1, 8, 16, 3), np.uint8))


def test_fake_engine_lists_its_batches_and_returns_given_results(make_spec):
    images = np.zeros((3, 8, 16, 3), np.uint8)
    engine = FakeEngine(make_spec())
    engine.infer(images)
    engine.infer(images[:1])
    assert engine.batch_sizes == [3, 1]
    maps, scores = FakeEngine(make_spec(), answer=not_a_number).infer(images)
    assert (maps.shape, scores.shape) == ((3, 8, 16), (3,))
    assert np.isnan(maps).all()
    assert np.isnan(scores).all()
    with pytest.raises(EngineError, match="the fake engine was told to fail; got 3 images"):
        FakeEngine(make_spec(), answer=failing).infer(images)


def test_onnx_runtime_failing_is_an_engine_error_and_no_more(make_model, capfd):
    engine = open_engine(make_model(kind="failing"), threads=1)
    with pytest.raises(EngineError, match=r"ONNX Runtime failed: .*Gather[^\n]*$"):
        engine.infer(np.full((1, 8, 16, 3), 201, np.uint8))
    assert capfd.readouterr().err == ""  # ONNX Runtime's own log would say it again, in colour


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"none.onnx: no such file; expected a model.onnx that stfpm-export wrote"):
        open_engine(tmp_path / "none.onnx")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "model"])
def test_wrong_suffix_is_refused(tmp_path, name):
    with pytest.raises(ArtifactError, match=rf"{name}: got a file ending in '.*'; expected a .onnx file"):
        open_engine(tmp_path / name)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
def test_truncated_file_is_refused(model, share):
    data = model.read_bytes()
    model.write_bytes(data[: int(share * len(data))])
    with pytest.raises(
        ArtifactError,
        match=r"model.onnx: (damaged, or no ONNX file|an ONNX file that stfpm-export did not write|its meta)",
    ):
        open_engine(model)


def test_file_that_is_no_model_is_refused_in_one_line(tmp_path):
    (tmp_path / "model.onnx").write_text("hello\nworld\n")
    with pytest.raises(ArtifactError, match=r"damaged, or no ONNX file; export it again") as caught:
        open_engine(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_onnx_file_without_our_metadata_is_refused(make_model):
    with pytest.raises(
        ArtifactError, match=r"an ONNX file that stfpm-export did not write; expected one that stfpm-export wrote"
    ):
        open_engine(make_model(metadata=False))


@pytest.mark.parametrize(("options", "message"), [({"device": "tpu"}, "'tpu'"), ({"threads": 0}, "got 0 threads")])
def test_options_that_make_no_sense_are_refused(model, options, message):
    with pytest.raises(OptionError, match=message):
        open_engine(model, **options)


def test_path_may_be_a_text(model):
    assert open_engine(str(model), device="cpu", threads=1).spec.name == "bottle"
