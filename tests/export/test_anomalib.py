"""Checkpoints in anomalib's layouts, as seen in files that anomalib 2.7 wrote and in the code of 1.2 and 2.2."""

from __future__ import annotations

import collections
import copy
import os
import zipfile

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from stfpm_edge.checkpoint import load_checkpoint, save_checkpoint
from stfpm_edge.model import normalise_images
from stfpm_edge.teacher import fingerprint
from stfpm_export.anomalib import read_anomalib
from stfpm_export.cli import main
from stfpm_export.export import ExportOptions, export_checkpoint
from stfpm_export.graph.backbones import build_graph
from stfpm_export.inert_pickle import read_inert
from stfpm_runtime import open_engine
from stfpm_runtime.artifact.conformal import conformal_threshold
from stfpm_runtime.errors import ArtifactError, DataError, OptionError
from tiny_model import SIZE, make_checkpoint, make_images

NORMALIZE = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "inplace": False}


def transform_spec(*steps):
    steps = [{"class_path": f"torchvision.transforms.v2.{kind}", "init_args": values} for kind, values in steps]
    return {"class_path": "torchvision.transforms.v2.Compose", "init_args": {"transforms": steps}}


def resize(*size):
    return "Resize", {"size": list(size), "interpolation": "bilinear", "max_size": None, "antialias": True}


def lightning(checkpoint, **changes):
    """What Lightning saves of an anomalib 2.7 Stfpm with our checkpoint's networks."""
    state = collections.OrderedDict(
        (f"post_processor.{name}", torch.tensor(0.25)) for name in ("_image_threshold", "image_min", "image_max")
    )
    for whose in ("teacher", "student"):
        weights = getattr(checkpoint, whose).state_dict()
        state |= {f"model.{whose}_model.feature_extractor.{name}": tensor for name, tensor in weights.items()}
    state._metadata = {"": {"version": 1}}
    spec = checkpoint.spec
    return {
        "epoch": 3,
        "global_step": 12,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"PostProcessor": collections.OrderedDict(_image_threshold=torch.tensor(0.25))},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.4}]}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {
            "backbone": spec.backbone,
            "layers": tuple(f"layer{block - 1}" for block in spec.blocks),
        },
        "anomalib_components_enabled": {"pre_processor": True, "post_processor": True},
        "anomalib_pre_processor_config": {
            "transform": transform_spec(resize(spec.height, spec.width), ("Normalize", NORMALIZE))
        },
        "anomalib_post_processor_config": {"enable_normalization": True, "image_sensitivity": 0.5},
    } | changes


@pytest.fixture
def write(tmp_path):
    def _write(content):
        path = tmp_path / "model.ckpt"
        torch.save(content, path)
        return path

    return _write


def read(path, **options):
    return read_anomalib(path, "bottle", report=lambda _: None, **options)


def anomalib_map(teacher, student, images):
    """What anomalib's AnomalyMapGenerator does, step for step."""
    result = torch.ones(len(images), 1, *images.shape[1:3])
    x = normalise_images(torch.from_numpy(images))
    for features in zip(teacher(x), student(x), strict=True):
        t, s = (F.normalize(feature) for feature in features)
        layer_map = 0.5 * torch.norm(t - s, p=2, dim=-3, keepdim=True) ** 2
        result *= F.interpolate(layer_map, size=images.shape[1:3], align_corners=False, mode="bilinear")
    return result.squeeze(1)


def test_it_computes_anomalibs_map_and_exports_with_parity(tiny, write):
    images = make_images(3, seed=5)
    imported = read(write(lightning(tiny)))
    expected = anomalib_map(tiny.teacher, tiny.student, images).numpy()
    assert expected.max() > 1e-3  # else the next lines would say nothing
    maps, scores = (result.numpy() for result in imported.model()(torch.from_numpy(images)))
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    session = ort.InferenceSession(build_graph(imported).SerializeToString(), providers=["CPUExecutionProvider"])
    graph_maps, graph_scores = session.run(["anomaly_map", "score"], {"image": images})
    np.testing.assert_allclose(graph_maps, expected, atol=2e-6)
    np.testing.assert_allclose(graph_scores, scores, atol=2e-6)


@pytest.mark.parametrize(
    ("backbone", "name", "blocks", "height", "width"),
    [
        ("resnet18", "resnet18.tv_in1k", (2, 3, 4, 5), 64, 96),
        ("resnet34", "resnet34", (3,), 32, 64),
        ("resnet50", "resnet50", (2, 3), 64, 64),
        ("wide_resnet50_2", "wide_resnet50_2.racm_in1k", (2, 3), 64, 64),
    ],
)
def test_architecture_and_size_come_from_the_file(backbone, name, blocks, height, width, write):
    original = make_checkpoint(backbone, blocks, height, width)
    content = lightning(original)
    content["hyper_parameters"]["backbone"] = name
    content["hyper_parameters"]["layers"] = list(content["hyper_parameters"]["layers"])[::-1]
    imported = read(write(content))
    spec = imported.spec
    assert (spec.name, spec.backbone, spec.blocks) == ("bottle", backbone, blocks)
    assert spec.input_shape == (height, width, 3)
    assert spec.channel_order == "BGR"
    assert spec.teacher_sha256 == fingerprint(original.teacher)
    assert fingerprint(imported.student) == fingerprint(original.student)
    assert not imported.student.training
    assert not any(parameter.requires_grad for parameter in imported.student.parameters())


def test_anomalibs_own_threshold_is_recorded_but_not_used(tiny, write):
    spec = read(write(lightning(tiny))).spec
    assert (spec.threshold, spec.held_out_scores) == (None, ())
    assert spec.training["anomalib_threshold"] == 0.25
    assert spec.training["epoch"] == 3
    content = lightning(tiny)
    content["state_dict"]["post_processor._image_threshold"] = torch.tensor(float("nan"))
    assert read(write(content)).spec.training["anomalib_threshold"] is None


def test_good_images_set_the_threshold_and_stay_with_it_through_the_export(tiny, write, good_images, tmp_path):
    said = []
    imported = read_anomalib(
        write(lightning(tiny)), "bottle", calibration=good_images, false_alarm_rate=0.2, report=said.append
    )
    spec = imported.spec
    with torch.inference_mode():
        scores = imported.model()(torch.from_numpy(np.stack(imported.held_out_images)))[1].tolist()
    assert spec.held_out_scores == pytest.approx(scores, abs=1e-6)
    assert len(scores) == 10
    expected = conformal_threshold(spec.held_out_scores, 0.2)
    assert (spec.threshold, spec.false_alarm_rate) == (expected.value, expected.guaranteed_rate)
    assert [line.splitlines()[0] for line in said] == [f"{good_images}: 10 pictures"]
    assert spec.training["data"]["pictures"] == 10
    save_checkpoint(imported, tmp_path / "bottle.safetensors")
    assert load_checkpoint(tmp_path / "bottle.safetensors").spec == spec
    _, parity = export_checkpoint(ExportOptions(tmp_path / "bottle.safetensors", tmp_path / "bottle.onnx"), print)
    assert parity.holds
    assert parity.images == 10


def test_too_few_images_for_the_rate_are_said(tiny, write, good_images):
    said = []
    read_anomalib(write(lightning(tiny)), "bottle", calibration=good_images, report=said.append)
    assert "10 held-out images can guarantee a false-alarm rate of 9.1% at the lowest, not 1.0%" in said[-1]


def test_the_students_own_training_images_are_no_calibration(tiny, write, tmp_path):
    (tmp_path / "bottle" / "train" / "good").mkdir(parents=True)
    with pytest.raises(DataError, match="on which the student was trained; expected good images that it never saw"):
        read(write(lightning(tiny)), calibration=tmp_path / "bottle")


class PreProcessor(nn.Module):
    """Pickled with the hyper-parameters by anomalib 2.0 to 2.6, where it was not the default."""

    def __init__(self, transform):
        super().__init__()
        self.transform = transform


def test_pre_processing_pickled_by_older_versions_is_read(tiny, write):
    transform = v2.Compose([v2.Resize((SIZE, 96)), v2.Normalize(NORMALIZE["mean"], NORMALIZE["std"])])
    content = lightning(tiny)
    del content["anomalib_pre_processor_config"], content["anomalib_components_enabled"]
    assert read(write(content | {"transform": transform})).spec.input_shape == (SIZE, 96, 3)
    content["hyper_parameters"]["pre_processor"] = PreProcessor(transform)
    assert read(write(content)).spec.input_shape == (SIZE, 96, 3)


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        (None, "not recorded"),
        ([resize(64), ("Normalize", NORMALIZE)], "Resize, Normalize"),  # the shorter side
        ([resize(64, 64)], "Resize"),
        ([resize(64, 64), ("Normalize", NORMALIZE | {"mean": [0.5, 0.5, 0.5]})], "Resize, Normalize"),
        ([resize(80, 80), ("CenterCrop", {"size": [64, 64]}), ("Normalize", NORMALIZE)], "Resize, CenterCrop, Norm"),
    ],
)
def test_other_pre_processing_needs_the_size_option(steps, named, tiny, write):
    plain = {"transform": steps and transform_spec(*steps)}
    path = write(lightning(tiny, anomalib_pre_processor_config=plain))
    with pytest.raises(ArtifactError, match=rf"pre-processing is {named}.*give the input size yourself \(--size\)"):
        read(path)
    assert read(path, size=(64, 128)).spec.input_shape == (64, 128, 3)


def test_a_size_is_checked(tiny, write):
    with pytest.raises(OptionError, match="got a size of 16x256"):
        read(write(lightning(tiny)), size=(16, 256))


class Bomb:
    """Its unpickling makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


class Odd(dict):
    """A pickled class with items, attributes and list-like content, none of which may break the reading."""


def test_nothing_in_the_file_is_executed(tiny, write, tmp_path):
    folder = tmp_path / "made by the pickle"
    odd = Odd(a=1)
    odd.b = Bomb(folder)
    content = lightning(tiny, callbacks={"x": [Bomb(folder), odd, collections.deque([Bomb(folder)])]})
    content["hyper_parameters"]["evaluator"] = Bomb(folder)
    content["datamodule_hyper_parameters"] = {"size": np.float64(2), "path": tmp_path, "type": torch.float16}
    path = write(content)
    with pytest.raises(FileExistsError):  # the bombs are live: the first makes the folder, the second finds it there
        torch.load(path, weights_only=False)
    folder.rmdir()
    assert read(path).spec.backbone == "resnet18"
    assert not folder.exists()


def test_tensors_are_read_as_torch_reads_them(tmp_path):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    content = {
        "float32": base, "view": base[1:3, ::2].T, "half": base.half(), "bfloat16": base.bfloat16(),
        "long": base.long(), "bool": base > 3, "scalar": torch.tensor(2.5).double(), "empty": torch.empty(0, 3),
    }  # fmt: skip
    torch.save(content, tmp_path / "tensors.ckpt")
    got = read_inert(tmp_path / "tensors.ckpt")
    assert got.keys() == content.keys()
    for name, tensor in content.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor)


def without(prefix):
    def change(content):
        content["state_dict"] = {key: t for key, t in content["state_dict"].items() if not key.startswith(prefix)}

    return change


def with_hyper_parameters(**values):
    return lambda content: content["hyper_parameters"].update(values)


def patch_core(content):
    content["state_dict"] = {
        "model.memory_bank": torch.zeros(4, 8),
        "model.feature_extractor.feature_extractor.conv1.weight": torch.zeros(64, 3, 7, 7),
    }


def extra_tensor(content):
    content["state_dict"]["model.teacher_model.feature_extractor.layer1.2.conv1.weight"] = torch.zeros(64, 64, 3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (patch_core, r"holds model\.memory_bank, .* but no model\.student_model.*; expected .* of anomalib's Stfpm"),
        (lambda content: content.pop("state_dict"), "holds no tensors of a model, but no"),
        (without("model.teacher_model"), r"\(teacher\): .* of .* tensors of resnet18 are missing, first conv1\.weight"),
        (without("model.student_model.feature_extractor.layer3"), r"\(student\): .* are missing, first layer3"),
        (extra_tensor, r"its teacher has tensors that a resnet18 .* has not, first layer1\.2\.conv1\.weight"),
        (with_hyper_parameters(backbone="resnet34"), r"of resnet34 are missing, first layer1\.2"),
        (with_hyper_parameters(backbone="resnetaa50"), "got a model with backbone 'resnetaa50'; expected one of resn"),
        (with_hyper_parameters(backbone=None), "got a model with backbone None"),
        (with_hyper_parameters(layers=()), r"got a model with layers \(\); expected some of layer1"),
        (with_hyper_parameters(layers=["act1", "layer1"]), r"got a model with layers \['act1', 'layer1'\]"),
        (with_hyper_parameters(layers=["layer1", "layer4"]), "are missing, first layer4"),
    ],
)
def test_a_model_that_is_none_of_ours_is_refused(change, message, tiny, write):
    content = lightning(tiny)
    change(content)
    with pytest.raises(ArtifactError, match=message):
        read(write(content))


def test_a_file_that_is_no_checkpoint_is_refused(tiny, write, tmp_path):
    with pytest.raises(ArtifactError, match=r"no\.ckpt: no such file; expected a Lightning checkpoint"):
        read(tmp_path / "no.ckpt")
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(write(lightning(tiny)).read_bytes()[:-1000])
    with pytest.raises(ArtifactError, match=r"cut\.ckpt: damaged, or no PyTorch checkpoint \(.*\); copy it again"):
        read(cut)
    with zipfile.ZipFile(tmp_path / "other.ckpt", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(ArtifactError, match=r"damaged, or no PyTorch checkpoint \(a zip file without data\.pkl\)"):
        read(tmp_path / "other.ckpt")
    with pytest.raises(ArtifactError, match="holds a list; expected a Lightning checkpoint"):
        read(write([1, 2]))


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_checkpoint_with_compressed_members_is_refused_before_it_is_unpacked(tiny, write, tmp_path, kind):
    path = write(lightning(tiny, optimizer_states=[torch.zeros(1 << 24)]))
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", kind) as bomb:
        for member in plain.namelist():
            bomb.writestr(member, plain.read(member))
    with pytest.raises(ArtifactError, match=r"bomb\.ckpt: its members unpack to \d+ bytes, its own size is \d+; expec"):
        read(tmp_path / "bomb.ckpt")


def test_members_that_share_their_bytes_are_refused(tiny, write):
    """A zip file may list one stored member a thousand times under other names."""
    path = write(lightning(tiny))
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.filelist, key=lambda member: member.file_size)
        for number in range(1000):
            again = copy.copy(largest)
            again.filename = f"{largest.filename}{number}"
            archive.filelist.append(again)
        archive._didModify = True
    with pytest.raises(ArtifactError, match=r"model\.ckpt: its members unpack to"):
        read(path)


def test_a_flipped_bit_in_the_weights_is_found(tiny, write):
    path = write(lightning(tiny))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="damaged, or no PyTorch checkpoint"):
        read(path)


def test_the_command_makes_the_same_artifact(tiny, write, good_images, tmp_path, capsys):
    path, output = write(lightning(tiny)), tmp_path / "bottle.onnx"
    command = ["--from-anomalib", str(path), "-o", str(output), "--name", "bottle", "--calibration", str(good_images)]
    assert main([*command, "--size", "64"]) == 0
    assert "0 of 10" in capsys.readouterr().err
    spec = open_engine(output).spec
    assert (spec.name, spec.height, spec.width) == ("bottle", 64, 64)
    assert spec.threshold == max(spec.held_out_scores)
    assert main([str(path), "-o", str(output), "--name", "bottle"]) == 1
    assert "got --name without --from-anomalib" in capsys.readouterr().err
    assert main(["--from-anomalib", str(path), "-o", str(output), "--size", "64"]) == 1
    assert "no images are stored with it; give some with --images" in capsys.readouterr().err
