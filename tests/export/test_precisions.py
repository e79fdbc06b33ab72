from __future__ import annotations

import contextlib
import dataclasses
from statistics import NormalDist

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from scipy.stats import spearmanr

from stfpm_edge.calibration.head import auroc
from stfpm_edge.checkpoint import save_checkpoint
from stfpm_edge.model import Head
from stfpm_edge.networks import SMALL_STUDENTS, default_blocks
from stfpm_export.cli import main
from stfpm_export.export import ExportOptions, _alternatives, export_checkpoint
from stfpm_export.graph.backbones import build_graph
from stfpm_export.graph.builder import BFLOAT16, FLOAT, UINT8, GraphBuilder, value_info
from stfpm_export.graph.equalisation import equalise_stem
from stfpm_export.graph.head import HeadWriter
from stfpm_export.graph.int8 import Int8
from stfpm_export.graph.precision import Float16
from stfpm_export.graph.ranges import measure_ranges
from stfpm_export.graph.rounding import largest_pair, quantise_weight
from stfpm_export.parity import AUROC_LOSS, Accuracy, _rank_correlation, loss_of_auroc, measure_export_parity
from stfpm_export.reference import Reference, make_reference
from stfpm_export.target import TARGETS
from stfpm_runtime import open_engine
from stfpm_runtime.artifact.golden import golden_path, load_golden
from stfpm_runtime.artifact.onnx_metadata import read_spec
from stfpm_runtime.artifact.parity import measure_parity
from stfpm_runtime.engines.fake import FakeEngine
from stfpm_runtime.engines.onnx_runtime import session_options
from stfpm_runtime.errors import OptionError, OutputError, ParityError
from tiny_model import make_checkpoint, make_images


def optimised(model, tmp_path):
    """Operators of the graph that ONNX Runtime really executes."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]


def saturated(left, right):
    """The sum of products as `vpmaddubsw` computes it on CPUs without VNNI: each pair of products fits 16 bits."""
    products = (left.astype(np.int64) * right).reshape(-1, 2)
    return int(products.sum(axis=1).clip(-(2**15), 2**15 - 1).sum())


def test_int8_sums_of_bright_pictures_are_exact_on_every_cpu(tiny):
    """Pairs of 255 x 127 do not fit 16 bits; the fastest products clip them on CPUs without VNNI."""
    rng = np.random.default_rng(0)
    image = rng.integers(200, 256, (1, 64, 1, 1), dtype=np.uint8)
    weight = rng.integers(90, 128, (8, 64, 1, 1), dtype=np.int8)
    exact = (weight[:, :, 0, 0].astype(np.int64) @ image[0, :, 0, 0].astype(np.int64)).tolist()
    assert all(saturated(image.ravel(), row.ravel()) < 0.8 * total for row, total in zip(weight, exact, strict=True))
    spec = dataclasses.replace(tiny.spec, precision="int8")
    result, step = sums_of_products(image, weight, exact, session_options(spec))
    np.testing.assert_allclose(result, np.asarray(exact), atol=0.501 * step)


def test_the_sums_of_int8_files_fit_16_bits_in_whatever_order_an_engine_adds(tiny):
    """The weights of a file are right also in the fastest products of a CPU without VNNI."""
    rng = np.random.default_rng(0)
    weight, *_ = quantise_weight(rng.uniform(0.5, 1, (8, 64, 1, 1)).astype(np.float32))
    image = np.full((1, 64, 1, 1), 255, np.uint8)
    exact = (weight[:, :, 0, 0].astype(np.int64).sum(axis=1) * 255).tolist()
    for row, total in zip(weight, exact, strict=True):
        assert saturated(image.ravel(), np.sort(row.ravel())) == saturated(image.ravel(), row.ravel()) == total
    spec = dataclasses.replace(tiny.spec, precision="int8", pairs_fit_int16=True)
    result, step = sums_of_products(image, weight, exact, session_options(spec))
    np.testing.assert_allclose(result, np.asarray(exact), atol=0.501 * step)


def sums_of_products(image, weight, exact, options):
    """ONNX Runtime's result of an int8 convolution of one pixel, and the step that its results are rounded to."""
    float_type, step = onnx.TensorProto.FLOAT, np.float32(max(exact) / 250)
    constants = {
        "one": np.float32(1), "zero": np.uint8(0), "weight": weight, "step": step,
        "ones": np.ones(8, np.float32), "zeros": np.zeros(8, np.int8),
    }  # fmt: skip
    node = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [
            node("DequantizeLinear", ["image", "one", "zero"], ["x"]),
            node("DequantizeLinear", ["weight", "ones", "zeros"], ["w"], axis=0),
            node("Conv", ["x", "w"], ["y"]),
            node("QuantizeLinear", ["y", "step", "zero"], ["q"]),
            node("DequantizeLinear", ["q", "step", "zero"], ["result"]),
        ],
        "sums",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, 64, 1, 1])],
        [onnx.helper.make_tensor_value_info("result", float_type, [1, 8, 1, 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["result"], {"image": image})[0].ravel(), step


@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_every_weight_of_an_int8_file_keeps_to_16_bits(tiny, target):
    model = int8(tiny, target)
    weights = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    weights = {name: value for name, value in weights.items() if name.endswith("weight/integers")}
    assert len(weights) == 31
    for name, value in weights.items():
        assert 255 * largest_pair(value).max() < 2**15, name
        assert 255 * largest_pair(value).max() > 0.9 * 2**15, name  # and no digit is given away


def run(model, images):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["anomaly_map", "score"], {"image": images})


def int8(checkpoint, target="cpu", images=None):
    """An int8 graph whose weights are rounded to the nearest integers."""
    images = images or [*checkpoint.train_images, *checkpoint.held_out_images]
    ranges, factors = equalise_stem(checkpoint, measure_ranges(checkpoint, images))
    return build_graph(checkpoint, Int8(ranges, target, factors), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_rounded_graph_stays_near_pytorch(tiny, target, precision):
    images = make_images(4)
    model = int8(tiny, target) if precision == "int8" else build_graph(tiny, Float16(), target)
    maps, scores = run(model, images)
    expected_maps, expected = (result.numpy() for result in tiny.model()(torch.from_numpy(images)))
    assert maps.dtype == scores.dtype == np.float32
    np.testing.assert_allclose(maps, expected_maps, atol=(0.01 if precision == "fp16" else 0.1) * expected.max())
    assert not np.array_equal(maps, expected_maps)  # it is rounded: else nothing was tested


def test_bf16_is_exported_with_proof_and_runs_in_openvino_with_a_float32_head(tiny_checkpoint, tmp_path):
    pytest.importorskip("openvino")
    path, plain = tmp_path / "m.onnx", tmp_path / "plain.onnx"
    spec, parity = export_checkpoint(ExportOptions(tiny_checkpoint, path, "bf16", "openvino"), print)
    export_checkpoint(ExportOptions(tiny_checkpoint, plain, "fp32", "openvino"), print)
    assert (spec.precision, parity.holds, parity.engine) == ("bf16", True, "OpenVINO CPU")
    model = onnx.load(path)
    assert {one.data_type for one in model.graph.initializer if one.name.endswith("conv1/weight")} == {BFLOAT16}
    images = make_images(2)
    with contextlib.closing(open_engine(path)) as engine, contextlib.closing(open_engine(plain)) as exact:
        maps, expected = engine.infer(images[:1])[0], exact.infer(images[:1])[0]
    np.testing.assert_allclose(maps, expected, atol=0.05 * expected.max())
    assert len(np.unique(maps)) > 256  # more than a bfloat16 head could tell apart
    for device in ("onnxruntime", "cuda", "tensorrt"):
        with pytest.raises(OptionError, match=f"got device '{device}' for m.onnx, a bf16 file; expected openvino"):
            open_engine(path, device)


@pytest.mark.parametrize("computes", [True, False])
def test_auto_tries_bf16_where_the_processor_computes_in_it(monkeypatch, computes):
    monkeypatch.setattr("stfpm_export.export.computes_bfloat16", lambda: computes)
    assert (("bf16", "openvino") in _alternatives("openvino")) == computes
    assert ("bf16", "cpu") not in _alternatives("cpu")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("backbone", ["resnet18_half", *SMALL_STUDENTS])
def test_a_small_network_stays_near_pytorch_too(backbone, precision, target):
    checkpoint = make_checkpoint(backbone, default_blocks(backbone))
    images = make_images(4)
    model = int8(checkpoint, target) if precision == "int8" else build_graph(checkpoint, Float16(), target)
    maps, _ = run(model, images)
    expected = checkpoint.model()(torch.from_numpy(images))[0].numpy()
    np.testing.assert_allclose(maps, expected, atol=(0.01 if precision == "fp16" else 0.1) * expected.max())


@pytest.mark.parametrize(
    ("backbone", "sums", "convolutions"),
    [
        ("resnet18", 12, 31),
        ("resnet50", 26, 85),
        ("resnet18_half", 12, 31),
        ("resnet18_half_shared", 10, 26),
        ("resnet18_narrow", 12, 34),
        ("resnet18_shared", 10, 26),
        ("resnet18_shared_narrow", 10, 28),
    ],
)
def test_onnx_runtime_computes_int8_in_integers(backbone, sums, convolutions, tmp_path):
    checkpoint = make_checkpoint(backbone, default_blocks(backbone))
    operators = optimised(int8(checkpoint), tmp_path)
    assert "Conv" not in operators
    assert operators.count("QLinearConv") == convolutions
    assert operators.count("QLinearAdd") == sums  # sums too; and ReLU is a matter of clipping
    assert "Relu" not in operators


def test_onnx_runtime_dequantises_no_features(tiny, tmp_path):
    operators = optimised(int8(tiny), tmp_path)
    assert operators.count("Cast") == 2 * len(tiny.spec.blocks)
    assert "DequantizeLinear" not in operators


def test_the_distance_of_integers_is_that_of_unit_features_also_where_they_are_0(tiny):
    """Position by position: two features, the teacher's alone, the student's alone, none, and twice the same."""
    features = np.random.default_rng(0).integers(0, 256, (2, 1, 64, 16, 16), np.uint8)
    features[:, 0, :, 0, 1:4] = 0
    features[0, 0, 5, 0, 1] = features[1, 0, 6, 0, 2] = 1
    features[1, 0, :, 0, 4] = features[0, 0, :, 0, 4]
    builder = GraphBuilder()
    builder.node("Identity", [HeadWriter(builder, tiny.spec, Head(), "cpu", True).distance("t", "s", 64, 2)], "out")
    values = [value_info(name, UINT8, ["N", 64, 16, 16]) for name in ("t", "s")]
    model = builder.model(values, [value_info("out", FLOAT, ["N", 16, 16])], {})
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, dict(zip("ts", features, strict=True)))
    unit = torch.nn.functional.normalize(torch.from_numpy(features).double(), dim=2)
    expected = (unit[0] - unit[1]).square().sum(dim=1).numpy()
    assert expected[0, 0, 1:5].tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(found, expected, atol=5e-7)


def test_tensorrt_gets_symmetric_int8_and_a_float_conv1(tiny):
    model = int8(tiny, "tensorrt")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in pairs:
        zero_points = constants[node.input[2]]
        assert zero_points.dtype == np.int8
        assert not zero_points.any()
    assert "stem/conv1/weight" in constants
    assert constants["teacher/conv2_1/1/weight/integers"].dtype == np.int8
    image = [node.op_type for node in model.graph.node if "image" in node.input]
    assert image == ["Cast"]  # bytes may do nothing else in TensorRT


def test_float16_is_in_the_backbones_and_float32_in_the_head(tiny):
    model = build_graph(tiny, Float16())
    inferred = onnx.shape_inference.infer_shapes(model)
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    assert types["teacher/conv4_2/relu"] == onnx.TensorProto.FLOAT16
    heads = [kind for name, kind in types.items() if name.startswith("head/")]
    assert heads
    assert set(heads) <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


def test_weights_are_quantised_by_output_channel():
    weight = np.random.default_rng(0).normal(size=(5, 3, 3, 3)).astype(np.float32) * np.logspace(-3, 3, 5).reshape(
        5, 1, 1, 1
    ).astype(np.float32)
    weight[2] = 0
    values, scale, _ = quantise_weight(weight)
    assert values.dtype == np.int8
    error = np.abs(values * scale.reshape(-1, 1, 1, 1) - weight).max(axis=(1, 2, 3))
    assert (error <= scale / 2 * 1.001).all()
    assert (largest_pair(values)[[0, 1, 3, 4]] >= 127).all()
    wide, wide_scale, _ = quantise_weight(weight, pairs_fit=False)
    assert np.abs(wide[[0, 1, 3, 4]]).max(axis=(1, 2, 3)).tolist() == [127] * 4
    assert (wide_scale < scale)[[0, 1, 3, 4]].all()


def test_ranges_are_the_extremes_of_all_images(tiny):
    images = list(make_images(3))
    together = measure_ranges(tiny, images)
    alone = [measure_ranges(tiny, [image]) for image in images]
    for name, values in together.items():
        np.testing.assert_array_equal(values.low, np.min([one[name].low for one in alone], axis=0))
        np.testing.assert_array_equal(values.high, np.max([one[name].high for one in alone], axis=0))
    assert (together["teacher/conv2_1/relu"].low >= 0).all()
    assert (together["teacher/conv2_1/2"].low < 0).any()


def test_a_student_that_is_blind_somewhere_is_far_from_its_teacher(tiny):
    """All zeros on one side: PyTorch's distance is 1/2 there, and a formula that divides by lengths gets 0 or NaN."""
    blind = make_checkpoint(blocks=(2,))
    for name, parameter in blind.student.layer1[1].named_parameters():
        if name.startswith(("bn2", "conv2")):
            parameter.zero_()
    for module in (blind.student.layer1[0].bn2, blind.student.bn1):
        module.weight.zero_()
        module.bias.fill_(-1)
    images = make_images(2)
    expected = blind.model()(torch.from_numpy(images))[0].numpy()
    np.testing.assert_allclose(expected, 0.5, rtol=1e-6)
    for target in TARGETS:
        np.testing.assert_allclose(run(build_graph(blind, target=target), images)[0], 0.5, rtol=1e-6)


def test_a_batch_that_is_fixed(tiny_checkpoint, tmp_path):
    export_checkpoint(ExportOptions(tiny_checkpoint, tmp_path / "free.onnx"), print)
    export_checkpoint(ExportOptions(tiny_checkpoint, tmp_path / "four.onnx", batch=4), print)
    images = make_images(5)
    free, four = (open_engine(tmp_path / f"{name}.onnx").infer(images) for name in ("free", "four"))
    np.testing.assert_allclose(four[0], free[0], atol=1e-6)
    assert four[1].shape == (5,)
    assert onnx.load(tmp_path / "four.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4


def test_another_size_gets_a_threshold_of_its_own(tiny, tiny_checkpoint, tmp_path):
    spec, parity = export_checkpoint(ExportOptions(tiny_checkpoint, tmp_path / "m.onnx", size=(96, 80)), print)
    assert (spec.height, spec.width) == (96, 80)
    assert parity.holds
    assert spec.threshold == max(spec.held_out_scores) != tiny.spec.threshold


def test_the_golden_file_repeats_the_proof(tiny_checkpoint, tmp_path):
    for precision, tolerance in (("fp32", 1e-6), ("int8", 0.2)):
        model = tmp_path / f"{precision}.onnx"
        options = ExportOptions(tiny_checkpoint, model, precision=precision, allow_parity_loss=True)
        export_checkpoint(options, print)
        golden = load_golden(golden_path(model))
        engine = open_engine(model)
        result = measure_parity(engine.infer, golden, engine.spec)
        assert result.images == 4
        assert result.score_relative_error <= tolerance
        golden.maps[0] += 0.5
        assert measure_parity(engine.infer, golden, engine.spec).map_max_error == pytest.approx(0.5, abs=0.1)
    assert result.score_relative_error > 0


def test_auto_keeps_the_fastest_that_agrees(tiny_checkpoint, tmp_path, monkeypatch):
    times = {"fp32": 3.0, "fp16": 9.0, "bf16": 5.0, "int8": 1.0}
    monkeypatch.setattr(
        "stfpm_export.export.median_latencies",
        lambda paths, image: [times[read_spec(path).precision] for path in paths],
    )
    said: list[str] = []
    options = ExportOptions(tiny_checkpoint, tmp_path / "m.onnx", precision="auto")
    spec, parity = export_checkpoint(options, said.append)
    passing = [line.split()[0] for line in said if " ms in " in line]
    assert parity.holds
    assert spec.precision == min(passing, key=times.__getitem__)
    monkeypatch.setattr("stfpm_export.parity.MAX_LOST_SHARE", -1.1)  # nothing rounded can pass
    spec, _ = export_checkpoint(options, said.append)
    assert spec.precision == "fp32"
    assert any("synthetic defects it loses" in line for line in said)


def test_a_rounded_file_that_disagrees_is_not_kept_unless_allowed(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("stfpm_export.parity.MAX_LOST_SHARE", -1.1)
    options = ExportOptions(tiny_checkpoint, tmp_path / "m.onnx", precision="int8")
    with pytest.raises(ParityError, match=r"in int8 of \d+ synthetic defects it loses .*--allow-parity-loss"):
        export_checkpoint(options, print)
    assert list(tmp_path.glob("m.*")) == []
    spec, parity = export_checkpoint(dataclasses.replace(options, allow_parity_loss=True), print)
    assert not parity.holds
    assert "synthetic defects" in spec.parity["failures"][0]
    assert "synthetic defects" in open_engine(tmp_path / "m.onnx").spec.parity["failures"][0]


def test_no_model_is_in_its_place_without_its_golden_file(tiny_checkpoint, tmp_path, monkeypatch):
    def fail(*_):
        raise OutputError("the disk is full")

    monkeypatch.setattr("stfpm_export.export.save_golden", fail)
    with pytest.raises(OutputError, match="the disk is full"):
        export_checkpoint(ExportOptions(tiny_checkpoint, tmp_path / "m.onnx"), print)
    assert list(tmp_path.glob("m.*")) == []


def test_an_overflow_in_float16_names_where(tiny, tmp_path, capsys):
    with torch.no_grad():
        student = make_checkpoint().student
        student.layer2[0].bn1.weight.mul_(1e6)
        student.layer2[0].bn2.weight.mul_(1e-6)
    save_checkpoint(dataclasses.replace(tiny, student=student), tmp_path / "c.safetensors")
    assert main([str(tmp_path / "c.safetensors"), "--precision", "fp16"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "overflow at student/conv3_1/1/relu" in error
    assert not (tmp_path / "c.onnx").exists()


def test_calibration_pictures_of_another_product_are_noticed(tiny, tiny_checkpoint, good_images, tmp_path):
    known = dataclasses.replace(tiny, spec=dataclasses.replace(tiny.spec, held_out_scores=(1e-6, 2e-6)))
    save_checkpoint(known, tmp_path / "c.safetensors")
    said: list[str] = []
    for checkpoint, warns in ((tmp_path / "c.safetensors", True), (tiny_checkpoint, False)):
        options = ExportOptions(
            checkpoint, tmp_path / "m.onnx", precision="int8", calibration=good_images, allow_parity_loss=True
        )
        said.clear()
        export_checkpoint(options, said.append)
        assert any("are they of this product" in line for line in said) == warns


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--calibration", "DIR"], "with --precision fp32, on which it has no effect"),
        (["--precision", "fp16", "--calibration", "DIR"], "with --precision fp16, on which it has no effect"),
        (["--accept-data"], "got --accept-data without --calibration"),
        (["--precision", "int8", "--calibration", "nowhere"], "nowhere: no such file or folder"),
        (["--images", "nowhere"], "nowhere: no such file or folder"),
        (["--engine", "--precision", "auto", "--evaluate", "DIR"], "got --evaluate with --engine and --precision auto"),
        (["--engine", "--precision", "auto", "--target", "openvino"], "got --target openvino with --engine"),
        (["--from-anomalib", "--false-alarm-rate", "0.1"], "got --false-alarm-rate without --calibration"),
        (["--from-anomalib", "--false-alarm-rate", "2", "--calibration", "DIR"], "a false-alarm rate of 2.0 was asked"),
    ],
)
def test_options_without_effect_or_sense_are_refused_before_the_work(
    tiny_checkpoint, good_images, tmp_path, capsys, more, message
):
    more = [str(good_images) if one == "DIR" else one for one in more]
    assert main([str(tiny_checkpoint), "-o", str(tmp_path / "m.onnx"), *more]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [["--precision", "int8"], ["--size", "64"], ["--batch", "1"], ["--name", "x"]])
def test_a_plan_from_an_onnx_file_takes_no_option_of_the_export(tiny_onnx, capsys, more):
    assert main([str(tiny_onnx), "--engine", *more]) == 1
    assert f"got {more[0]} with {tiny_onnx}, which is exported already" in capsys.readouterr().err


def test_doubtful_calibration_pictures_are_refused_unless_accepted(tiny_checkpoint, tmp_path, capsys):
    for number, image in enumerate(make_images(6)):
        path = tmp_path / "pictures" / ("NG" if number > 3 else "good") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    command = [str(tiny_checkpoint), "-o", str(tmp_path / "m.onnx"), "--precision", "int8", "--allow-parity-loss",
               "--calibration", str(tmp_path / "pictures")]  # fmt: skip
    assert main(command) == 1
    assert "next to a folder of good pictures: NG (2)" in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()
    assert main([*command, "--accept-data"]) == 0


def test_the_certificate_with_labelled_pictures(tiny_checkpoint, tmp_path, capsys):
    category = tmp_path / "cap"
    for kind, count in (("good", 3), ("bad", 2)):
        for number, image in enumerate(make_images(count, seed=count)):
            path = category / "test" / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
    output = tmp_path / "m.onnx"
    assert main([str(tiny_checkpoint), "-o", str(output), "--evaluate", str(category)]) == 0
    assert "image auroc" in capsys.readouterr().err
    parity = open_engine(output).spec.parity
    assert parity["accuracy"]["pytorch"]["image_auroc"] == parity["accuracy"]["file"]["image_auroc"]
    assert parity["auroc_loss"][0] == 0


@pytest.mark.parametrize(("good", "refused"), [(10, False), (2000, True)])
def test_a_loss_of_auroc_is_refused_where_there_are_enough_images_to_show_it(good, refused):
    random = np.random.default_rng(0)
    normal, defects = random.normal(0, 1, good), random.normal(2, 1, good)
    before = Accuracy({}, normal, defects)
    after = Accuracy({}, normal + random.normal(0, 0.5, good), defects + random.normal(0, 0.5, good))
    loss, low, high = loss_of_auroc(before, after)
    assert low < loss < high
    assert loss == pytest.approx(auroc(before.good, before.defects) - auroc(after.good, after.defects), abs=1e-12)
    assert (low > AUROC_LOSS) == refused


def test_the_interval_of_a_loss_of_auroc_covers_the_true_loss():
    random, covered = np.random.default_rng(1), 0
    true = NormalDist().cdf(2 / 2**0.5) - NormalDist().cdf(2 / 2.5**0.5)  # N(2, 1) over N(0, 1), then with noise
    for _ in range(400):
        normal, defects = random.normal(0, 1, 60), random.normal(2, 1, 60)
        after = Accuracy({}, normal + random.normal(0, 0.5, 60), defects + random.normal(0, 0.5, 60))
        _, low, high = loss_of_auroc(Accuracy({}, normal, defects), after)
        covered += low <= true <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_the_reference_has_defects_in_its_pictures(tiny):
    images = list(make_images(3))
    reference = make_reference(tiny, images)
    assert (len(reference.images), reference.good, reference.maps.shape) == (6, 3, (6, 64, 64))
    np.testing.assert_array_equal(reference.scores, reference.maps.max(axis=(1, 2)))
    assert all(any((one != image).any() for image in images) for one in reference.images[3:])
    assert 100 < len(reference.defects) == len(reference.defect_scores)
    assert reference.defect_scores[0] == pytest.approx(reference.scores[3], rel=1e-5)


@pytest.mark.parametrize(
    ("lost", "gained", "holds"), [(0, 0, True), (3, 0, True), (6, 6, True), (8, 0, False), (40, 20, False)]
)
def test_a_rounded_file_may_lose_few_detections(tiny, lost, gained, holds):
    """PyTorch rejects 50 of 100 pictures with a defect; the file passes `lost` of these and rejects `gained` others."""
    scores = np.repeat(np.float32([0.5, 1.5]), 50)
    own = scores.copy()
    own[:gained], own[50 : 50 + lost] = 1.5, 0.5
    good, maps = [np.zeros((64, 64, 3), np.uint8)], np.zeros((2, 64, 64), np.float32)
    defects = [np.full((64, 64, 3), number + 1, np.uint8) for number in range(100)]
    reference = Reference([*good, defects[0]], 1, maps, np.float32([0.1, 0.5]), defects, scores)
    spec = dataclasses.replace(tiny.spec, threshold=1.0, precision="int8", false_alarm_rate=0.05)
    by_number = np.concatenate([np.float32([0.1]), own])  # a picture's level is its number
    engine = FakeEngine(spec, lambda images: (maps[:1], by_number[images[0, 0, 0, :1]]))
    report = measure_export_parity(engine, spec, reference)
    assert (report.lost, report.gained, report.holds) == (lost, gained, holds)
    assert report.loss[0] == pytest.approx((lost - gained) / 100)
    assert report.loss[1] <= report.loss[0] <= report.loss[2]


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    one = rng.integers(0, 9, 40).astype(np.float32)
    other = (one + rng.normal(0, 2, 40)).astype(np.float32)
    assert _rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert _rank_correlation(one, np.zeros(40, np.float32)) is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("precision", "fp8", "got precision 'fp8'; expected one of fp32, fp16, bf16, int8, auto"),
        ("precision", "bf16", "got precision bf16 with target cpu; expected --target openvino"),
        ("target", "gpu", "got target 'gpu'; expected one of"),
        ("size", (16, 64), "got a size of 64x16"),
        ("batch", 0, "got a batch of 0"),
    ],
)
def test_options_that_make_no_sense(tmp_path, field, value, message):
    with pytest.raises(OptionError, match=message):
        ExportOptions(tmp_path / "c.safetensors", tmp_path / "m.onnx", **{field: value})
