from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from stfpm_edge.calibration.threshold import score_images
from stfpm_edge.checkpoint import load_checkpoint, save_checkpoint
from stfpm_export.auto import calibrate
from stfpm_export.cli import main
from stfpm_export.export import ExportOptions, export_checkpoint
from stfpm_export.graph.backbones import build_graph
from stfpm_export.reference import make_reference
from stfpm_runtime import Spec, open_engine
from stfpm_runtime.artifact.min_area import area_scores
from stfpm_runtime.engines.fake import FakeEngine
from stfpm_runtime.errors import OptionError, ParityError
from stfpm_runtime.files import sha256
from tiny_model import make_checkpoint, make_images

# Of onnx-tensorrt's docs/operators.md for TensorRT 10.3: without restrictions that our attributes would meet.
TENSORRT_OPERATORS = {
    "Add", "AveragePool", "Cast", "Conv", "Div", "MatMul", "Max", "MaxPool", "Mul", "Pad", "ReduceMax", "ReduceMean",
    "ReduceSumSquare", "Relu", "Reshape", "Split", "Sqrt", "Sub", "TopK", "Transpose",
}  # fmt: skip


def run(checkpoint, images):
    session = ort.InferenceSession(build_graph(checkpoint).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["anomaly_map", "score"], {"image": images})


@pytest.mark.parametrize(
    ("backbone", "blocks", "height", "width"),
    [
        ("resnet18", (2, 3, 4), 64, 64),
        ("resnet18", (2, 3, 4, 5), 64, 96),
        ("resnet18", (4,), 100, 75),  # sides that no block divides
        ("resnet18", (2, 5), 33, 64),
        ("resnet34", (2, 3), 64, 64),
        ("resnet50", (3, 4), 64, 64),
        ("wide_resnet50_2", (2,), 64, 64),
        ("resnet18_half", (2, 3, 4), 64, 64),
        ("resnet18_half_shared", (3, 4, 5), 64, 64),
        ("resnet18_narrow", (2, 3, 4, 5), 64, 96),
        ("resnet18_shared", (3, 4), 100, 75),
        ("resnet18_shared_narrow", (4,), 64, 64),
    ],
)
def test_the_graph_computes_what_pytorch_computes(backbone, blocks, height, width):
    checkpoint = make_checkpoint(backbone, blocks, height, width)
    images = make_images(3, height, width, seed=7)
    maps, scores = run(checkpoint, images)
    expected_maps, expected_scores = (result.numpy() for result in checkpoint.model()(torch.from_numpy(images)))
    assert (maps.dtype, maps.shape, scores.dtype) == (np.float32, (3, height, width), np.float32)
    assert expected_maps.max() > 1e-3  # else the next lines would say nothing
    np.testing.assert_allclose(maps, expected_maps, atol=2e-6)
    np.testing.assert_allclose(scores, expected_scores, atol=2e-6)
    np.testing.assert_array_equal(scores, maps.max(axis=(1, 2)))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (70, 33)])
@pytest.mark.parametrize("blocks", [(2, 3), (3,)])
def test_the_graph_has_the_head_of_the_checkpoint(height, width, blocks):
    place = torch.rand(height, width, generator=torch.Generator().manual_seed(0)) + 0.5
    checkpoint = dataclasses.replace(
        make_checkpoint("resnet18", blocks, height, width, top_share=0.05, score_scale=1.7, blur=0.05),
        place_scale=place,
    )
    images = make_images(3, height, width, seed=7)
    maps, scores = run(checkpoint, images)
    expected_maps, expected_scores = (result.numpy() for result in checkpoint.model()(torch.from_numpy(images)))
    plain, _ = run(dataclasses.replace(checkpoint, place_scale=None), images)
    np.testing.assert_allclose(maps, plain / place.numpy(), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(maps, expected_maps, atol=2e-6)
    np.testing.assert_allclose(scores, expected_scores, atol=2e-6)
    sharp, _ = run(dataclasses.replace(checkpoint, spec=dataclasses.replace(checkpoint.spec, blur=0.0)), images)
    assert np.abs(sharp - maps).max() > 0.01
    assert not np.allclose(scores, maps.max(axis=(1, 2)), rtol=0.01)  # else the score would be the maximum all the same


def test_a_resized_export_keeps_its_head(tmp_path):
    checkpoint = make_checkpoint(top_share=0.05, score_scale=1.7, false_alarm_rate=0.3, held_out_scores=(0.1, 0.2))
    save_checkpoint(dataclasses.replace(checkpoint, place_scale=torch.full((64, 64), 2.0)), tmp_path / "m.safetensors")
    export_checkpoint(ExportOptions(tmp_path / "m.safetensors", tmp_path / "m.onnx", size=(96, 48)), print)
    spec = open_engine(tmp_path / "m.onnx").spec
    assert (spec.input_shape, spec.top_share, spec.score_scale) == ((96, 48, 3), 0.05, 1.7)


def test_scores_by_folds_follow_the_exported_files_own_scale(tmp_path):
    """No image was held out, so the scores of other students stay, but for the rounding of the precision."""
    checkpoint = make_checkpoint(false_alarm_rate=0.2, held_out_scores=(0.1, 0.2, 0.3, 0.4), threshold=0.4, folds=4)
    save_checkpoint(dataclasses.replace(checkpoint, held_out_images=[]), tmp_path / "m.safetensors")
    export_checkpoint(ExportOptions(tmp_path / "m.safetensors", tmp_path / "m.onnx"), print)
    spec = open_engine(tmp_path / "m.onnx").spec
    assert spec.held_out_scores == pytest.approx((0.1, 0.2, 0.3, 0.4), rel=1e-4)
    assert spec.threshold == max(spec.held_out_scores)
    said = []
    export_checkpoint(ExportOptions(tmp_path / "m.safetensors", tmp_path / "o.onnx", size=(32, 64)), said.append)
    assert any("no image was held out, so at 64x32 it has no threshold" in line for line in said)


def test_scores_of_0_say_nothing_about_the_scale():
    checkpoint = make_checkpoint(false_alarm_rate=0.2, held_out_scores=(0.1, 0.2, 0.3, 0.4), threshold=0.4, folds=4)
    reference = make_reference(checkpoint, checkpoint.train_images)
    answer = (np.full((1, 64, 64), 0.3, np.float32), np.full(1, 0.3, np.float32))
    engine = FakeEngine(checkpoint.spec, lambda images: answer)
    silent = dataclasses.replace(reference, scores=np.zeros_like(reference.scores))
    assert calibrate(engine, [], silent) == checkpoint.spec
    one = dataclasses.replace(reference, scores=np.array([0.1, 0.0, 0.1, 0.1], np.float32))
    assert calibrate(engine, [], one).threshold == pytest.approx(1.2, rel=1e-6)


def test_a_smallest_area_keeps_its_part_of_a_resized_map(tmp_path):
    save_checkpoint(make_checkpoint(min_area=40), tmp_path / "m.safetensors")
    said = []
    export_checkpoint(ExportOptions(tmp_path / "m.safetensors", tmp_path / "m.onnx", size=(32, 64)), said.append)
    assert open_engine(tmp_path / "m.onnx").spec.min_area == 20
    assert any("the smallest area of a defect becomes 20 pixels of the 64x32 map" in line for line in said)


def test_a_smallest_area_holds_in_every_engine_and_in_pytorch(tmp_path):
    checkpoint = make_checkpoint(min_area=40, false_alarm_rate=0.4)
    own = tuple(score_images(checkpoint.model(), np.stack(checkpoint.held_out_images)))
    spec = dataclasses.replace(checkpoint.spec, held_out_scores=own, threshold=max(own))
    checkpoint = dataclasses.replace(checkpoint, spec=spec)
    save_checkpoint(checkpoint, tmp_path / "m.safetensors")
    spec, parity = export_checkpoint(ExportOptions(tmp_path / "m.safetensors", tmp_path / "m.onnx"), print)
    assert parity.holds
    images = make_images(3, seed=7)
    maps, scores = open_engine(tmp_path / "m.onnx").infer(images)
    np.testing.assert_array_equal(scores, area_scores(maps, 40))
    np.testing.assert_allclose(scores, checkpoint.model()(torch.from_numpy(images))[1].numpy(), atol=2e-6)
    assert (scores < maps.max(axis=(1, 2))).all()
    assert spec.threshold == max(spec.held_out_scores)


def test_the_map_is_exactly_zero_where_the_student_is_the_teacher(tiny):
    maps, scores = run(dataclasses.replace(tiny, student=tiny.teacher), make_images(2))
    assert np.count_nonzero(maps) == np.count_nonzero(scores) == 0


def test_an_rgb_model_takes_rgb_frames(tiny):
    rgb = dataclasses.replace(tiny, spec=dataclasses.replace(tiny.spec, channel_order="RGB"))
    images = make_images(2)
    np.testing.assert_allclose(run(rgb, images[..., ::-1].copy())[0], run(tiny, images)[0], atol=1e-6)


def test_an_image_is_judged_alike_alone_and_in_a_batch(tiny):
    images = make_images(3)
    together = run(tiny, images)[1]
    np.testing.assert_allclose(together, [run(tiny, image[np.newaxis])[1][0] for image in images], atol=1e-6)


def test_the_graph_is_what_tensorrt_10_3_parses(tiny):
    model = build_graph(tiny, target="tensorrt")
    assert {node.op_type for node in model.graph.node} <= TENSORRT_OPERATORS
    assert model.opset_import[0].version == 17
    assert model.ir_version <= 10
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
    image, maps = model.graph.input[0], model.graph.output[0]
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["N", 64, 64, 3]
    assert [d.dim_param or d.dim_value for d in maps.type.tensor_type.shape.dim] == ["N", 64, 64]


def test_the_file_is_complete_in_itself(tiny, tiny_onnx):
    assert sorted(file.suffix for file in tiny_onnx.parent.iterdir()) == [".npz", ".onnx", ".safetensors"]
    model = onnx.load(tiny_onnx)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    spec = Spec.from_json(metadata["stfpm"], "tiny")
    (checkpoint,) = tiny_onnx.parent.glob("*.safetensors")
    assert spec.training == {"checkpoint_sha256": sha256(checkpoint)}
    same = {
        "training": {},
        "parity": {},
        "threshold": tiny.spec.threshold,
        "held_out_scores": tiny.spec.held_out_scores,
    }
    assert dataclasses.replace(spec, **same) == tiny.spec
    assert spec.parity["images"] == 4
    assert 0 <= spec.parity["map_max_error"] < 1e-5
    assert spec.parity["verdict_flips"] == 0


def test_the_threshold_is_of_the_files_own_scores(tiny, tiny_onnx):
    """Else the rounding of the last digit would reject the held-out image that the threshold is the score of."""
    engine = open_engine(tiny_onnx)
    scores = [float(engine.infer(image[np.newaxis])[1][0]) for image in tiny.held_out_images]
    assert list(engine.spec.held_out_scores) == scores
    assert engine.spec.threshold == max(scores)
    assert engine.spec.parity["pytorch_threshold"] == tiny.spec.threshold


def test_a_model_without_all_its_held_out_images_keeps_its_threshold(tiny, tmp_path):
    fewer = dataclasses.replace(tiny, held_out_images=tiny.held_out_images[:1])
    save_checkpoint(fewer, tmp_path / "m.safetensors")
    spec, _ = export_checkpoint(ExportOptions(tmp_path / "m.safetensors", tmp_path / "m.onnx"), print)
    assert spec.threshold == tiny.spec.threshold


def test_the_engine_gives_the_scores_of_training(tiny, tiny_onnx):
    engine = open_engine(tiny_onnx)
    assert engine.infer(np.stack(tiny.held_out_images))[1].tolist() == pytest.approx(
        tiny.spec.held_out_scores, abs=1e-6
    )


def test_a_file_that_disagrees_is_not_kept(tiny_checkpoint, tmp_path, monkeypatch):
    def wrong(*arguments):
        model = build_graph(*arguments)
        scale = next(tensor for tensor in model.graph.initializer if tensor.name == "student/conv2_1/1/weight")
        scale.CopyFrom(onnx.numpy_helper.from_array(1.01 * onnx.numpy_helper.to_array(scale), scale.name))
        return model

    monkeypatch.setattr("stfpm_export.auto.build_graph", wrong)
    output = tmp_path / "model.onnx"
    output.write_bytes(b"the old model")
    with pytest.raises(ParityError, match=r"away from PyTorch's on 8 images, expected at most 1.0e-04"):
        export_checkpoint(ExportOptions(tiny_checkpoint, output), print)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert output.read_bytes() == b"the old model"


def test_the_command_writes_next_to_the_checkpoint(tiny, tmp_path, capsys):
    save_checkpoint(tiny, tmp_path / "cap.safetensors")
    assert main([str(tmp_path / "cap.safetensors")]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "parity with PyTorch, fp32 in CPUExecutionProvider: holds" in err
    assert (tmp_path / "cap.onnx").stat().st_mode & 0o044  # others may read it: the line runs as another user


def test_parity_on_given_images(tiny_checkpoint, good_images, tmp_path):
    spec, parity = export_checkpoint(ExportOptions(tiny_checkpoint, tmp_path / "m.onnx", images=good_images), print)
    assert parity.images == spec.parity["images"] == 10
    _, parity = export_checkpoint(
        ExportOptions(tiny_checkpoint, tmp_path / "m.onnx", images=good_images / "000.png"), print
    )
    assert parity.images == 1


def test_bad_input_is_one_line_and_exit_code_1(tiny_checkpoint, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(tiny_checkpoint.read_bytes()[:-100])
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "b.png").touch()
    cases = [
        ([str(tmp_path / "no.safetensors")], "no such file"),
        ([str(cut)], "damaged or cut off"),
        ([str(tmp_path / "a.png"), "-o", str(tmp_path / "m.onnx")], "damaged or cut off"),
        ([str(tiny_checkpoint), "-o", str(tmp_path / "m.engine")], "expected a file ending in .onnx"),
        ([str(tiny_checkpoint), "-o", str(cut / "m.onnx")], "cannot be written"),
        ([str(tiny_checkpoint), "-o", str(tmp_path / "m.onnx"), "--images", str(tmp_path / "empty")], "no pictures"),
        ([str(tiny_checkpoint), "-o", str(tmp_path / "m.onnx"), "--images", str(tmp_path / "nowhere")], "no such"),
        (
            [str(tiny_checkpoint), "-o", str(tmp_path / "m.onnx"), "--images", str(tmp_path / "broken")],
            "1 of 1 pictures",
        ),
    ]
    for arguments, message in cases:
        assert main(arguments) == 1
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last.startswith("stfpm-export: error: ")
        assert message in last
    assert not (tmp_path / "m.onnx").exists()


def test_options_name_an_onnx_file(tmp_path):
    with pytest.raises(OptionError, match=r"m\.safetensors: expected a file ending in \.onnx"):
        ExportOptions(tmp_path / "m.safetensors", tmp_path / "m.safetensors")


def test_a_checkpoint_without_images_asks_for_some(tiny, tmp_path, capsys):
    bare = dataclasses.replace(tiny, train_images=[], held_out_images=[])
    save_checkpoint(bare, tmp_path / "bare.safetensors")
    assert load_checkpoint(tmp_path / "bare.safetensors").train_images == []
    assert main([str(tmp_path / "bare.safetensors")]) == 1
    assert "give some with --images" in capsys.readouterr().err
