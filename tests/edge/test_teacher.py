from __future__ import annotations

import collections
import os
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from stfpm_edge.networks import Pyramid
from stfpm_edge.teacher import fingerprint, load_teacher
from stfpm_runtime.errors import ArtifactError


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return Pyramid("resnet18", (2, 3)).state_dict()


def test_a_safetensors_file_in_torchvisions_names(weights, tmp_path):
    save_file({**weights, "fc.weight": torch.zeros(1)}, tmp_path / "t.safetensors")
    teacher = load_teacher(str(tmp_path / "t.safetensors"), "resnet18", (2, 3))
    assert torch.equal(teacher.conv1.weight, weights["conv1.weight"])
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize("wrap", [dict, collections.OrderedDict, lambda w: {"state_dict": w}])
def test_a_pth_file(weights, tmp_path, wrap):
    torch.save(wrap(dict(weights)), tmp_path / "t.pth")
    loaded = load_teacher(str(tmp_path / "t.pth"), "resnet18", (2, 3)).state_dict()
    for name in weights.keys() - {"bn1.num_batches_tracked"}:
        assert torch.equal(loaded[name], weights[name]), name


def test_a_pth_file_of_a_data_parallel_model(weights, tmp_path):
    torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, tmp_path / "t.pth")
    save_file(weights, tmp_path / "t.safetensors")
    one, other = (load_teacher(str(tmp_path / name), "resnet18", (2, 3)) for name in ("t.pth", "t.safetensors"))
    assert fingerprint(one) == fingerprint(other)


class Bomb:
    def __reduce__(self):
        return os.system, ("touch bomb-went-off",)


def test_pickled_code_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Bomb()}, tmp_path / "t.pth")
    with pytest.raises(ArtifactError, match="cannot be read as plain weights"):
        load_teacher(str(tmp_path / "t.pth"), "resnet18", (2,))
    assert not (tmp_path / "bomb-went-off").exists()


def test_missing_blocks_are_named(weights, tmp_path):
    save_file(weights, tmp_path / "t.safetensors")
    with pytest.raises(ArtifactError, match=r"tensors of resnet18 are missing, first layer3\.0\.conv1\.weight"):
        load_teacher(str(tmp_path / "t.safetensors"), "resnet18", (2, 3, 4))


def test_weights_of_another_backbone(tmp_path):
    save_file(Pyramid("wide_resnet50_2", (2,)).state_dict(), tmp_path / "t.safetensors")
    with pytest.raises(ArtifactError, match=r"layer1\.0\.conv1\.weight is \[128, 64, 1, 1\], resnet50 has"):
        load_teacher(str(tmp_path / "t.safetensors"), "resnet50", (2,))


def test_weights_that_are_not_finite(weights, tmp_path):
    broken = {**weights, "conv1.weight": torch.full_like(weights["conv1.weight"], torch.nan)}
    save_file(broken, tmp_path / "t.safetensors")
    with pytest.raises(ArtifactError, match=r"conv1\.weight holds values that are not finite"):
        load_teacher(str(tmp_path / "t.safetensors"), "resnet18", (2,))


@pytest.mark.parametrize("name", ["t.safetensors", "t.pth"])
def test_a_truncated_file(weights, tmp_path, name):
    path = tmp_path / name
    save_file(weights, path) if name.endswith("safetensors") else torch.save(weights, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ArtifactError, match=r"damaged|cannot be read"):
        load_teacher(str(path), "resnet18", (2,))


def test_compressed_members_are_refused_before_they_are_unpacked(weights, tmp_path):
    """The zip that PyTorch writes holds its tensors as they are: one that is packed may unpack to anything."""
    torch.save({"conv1.weight": torch.zeros(1 << 22)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in plain.namelist():
            bomb.writestr(member, plain.read(member))
    assert (tmp_path / "bomb.pth").stat().st_size < 100_000
    with pytest.raises(ArtifactError, match=r"bomb\.pth: its members unpack to \d{8} bytes, its own size is"):
        load_teacher(str(tmp_path / "bomb.pth"), "resnet18", (2,))


@pytest.mark.parametrize(("name", "message"), [("no.pth", "no such file"), ("t.bin", "ending in '.bin'")])
def test_other_files(tmp_path, name, message):
    (tmp_path / "t.bin").touch()
    with pytest.raises(ArtifactError, match=message):
        load_teacher(str(tmp_path / name), "resnet18", (2,))


def test_a_download_that_fails_says_how_to_do_without(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # no server listens there
    with pytest.raises(ArtifactError, match=r"resnet18-\w+\.pth cannot be downloaded .* give it as --teacher PATH"):
        load_teacher("imagenet", "resnet18", (2,))
