"""Teachers from labelled pictures: class folders and the data sets that torchvision reads."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open

from stfpm_edge.pretrain import train as pretraining
from stfpm_edge.pretrain.cli import main
from stfpm_edge.pretrain.labelled import open_labelled
from stfpm_edge.pretrain.tasks import LabelPretext
from stfpm_edge.pretrain.train import PretrainOptions, pretrain
from stfpm_edge.teacher import load_teacher
from stfpm_runtime.errors import DataError, OutputError

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    """Two classes, dark and bright; the left half of each picture is the darker one."""
    rng = np.random.default_rng(0)
    for name, level in (("dark", 30), ("bright", 200)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(12):
            picture = rng.integers(level, level + 20, (80, 80, 3), dtype=np.uint8)
            picture[:, 40:] += 30
            cv2.imwrite(str(tmp_path / "data" / name / f"{number:02}.png"), picture)
    return tmp_path / "data"


def options(tmp_path, folder, **changes):
    values = {"steps": 4, "batch_size": 8, "side": 64, "blocks": (2,), "device": "cpu", "images": str(folder)}
    return PretrainOptions(tmp_path / "t.safetensors", **values | changes)


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_class_folders_are_classes_in_their_names_order(folder):
    labelled = open_labelled(str(folder), folder, download=False)
    assert labelled.classes == 2
    assert labelled.held_out == [0, 12]  # of twelve each, one
    assert len(labelled.train) == 22
    assert not set(labelled.train) & set(labelled.held_out)
    pictures, labels = labelled.draw(16, 64, torch.Generator().manual_seed(1))
    assert (pictures.shape, pictures.dtype) == ((16, 3, 64, 64), torch.float32)
    assert set(labels.tolist()) == {0, 1}
    brightness = pictures.mean((1, 2, 3))
    assert brightness[labels == 0].min() > brightness[labels == 1].max()  # "bright" comes before "dark"


def test_a_seed_decides_what_is_drawn(folder):
    labelled = open_labelled(str(folder), folder, download=False)
    first, again, other = (labelled.draw(4, 64, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("mirrored", [True, False])
def test_only_pictures_that_may_be_mirrored_are_mirrored(folder, mirrored):
    labelled = open_labelled(str(folder), folder, download=False)
    object.__setattr__(labelled, "mirrored", mirrored)
    pictures, _ = labelled.draw(16, 64, torch.Generator().manual_seed(1))
    left_is_darker = pictures[..., :20].mean((1, 2, 3)) < pictures[..., -20:].mean((1, 2, 3))
    assert left_is_darker.all() != mirrored


def test_it_learns_and_the_file_says_what_it_reaches(tmp_path, folder):
    pretrain(options(tmp_path, folder, steps=30, lr=5e-3))
    about = metadata(tmp_path / "t.safetensors")
    assert (about["classes"], about["held_out"], about["images"]) == ("2", "2", "data")
    assert float(about["accuracy"]) == 1.0
    load_teacher(str(tmp_path / "t.safetensors"), "resnet18", (2,))


def test_an_interrupted_one_goes_on_to_the_same_weights(tmp_path, folder, monkeypatch):
    straight = pretrain(options(tmp_path, folder)).state_dict()
    draws = []

    class Stopping(LabelPretext):
        def losses(self, *arguments):
            draws.append(1)
            if len(draws) == 3:
                raise KeyboardInterrupt
            return super().losses(*arguments)

    monkeypatch.setattr(pretraining, "SAVE_EVERY", -1.0)
    monkeypatch.setattr(pretraining, "LabelPretext", Stopping)
    with pytest.raises(KeyboardInterrupt):
        pretrain(options(tmp_path, folder))
    with pytest.raises(OutputError, match="continue it with --resume"):
        pretrain(options(tmp_path, folder))
    resumed = pretrain(options(tmp_path, folder, resume=True)).state_dict()
    assert len(draws) == 3 + 2
    for name, tensor in straight.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)


def test_mnist_as_it_is_published(tmp_path):
    """Its four files, of two grey pictures each: the format is a few big-endian numbers and then the pixels."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for half, value in (("train", 50), ("t10k", 90)):
        pixels = np.full((2, 28, 28), value, np.uint8)
        head = b"".join(number.to_bytes(4, "big") for number in (0x803, 2, 28, 28))
        (raw / f"{half}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = b"".join(number.to_bytes(4, "big") for number in (0x801, 2))
        (raw / f"{half}-labels-idx1-ubyte").write_bytes(head + bytes([3, 1]))
    labelled = open_labelled("mnist", tmp_path, download=False)
    assert (labelled.train, labelled.held_out, labelled.labels) == ([0, 1], [2, 3], [3, 1, 3, 1])
    assert not labelled.mirrored
    assert [int(labelled.read(number).max()) for number in (0, 3)] == [50, 90]
    ((pictures, labels),) = labelled.held_out_batches(8, 64, CPU)
    assert (tuple(pictures.shape), labels.tolist()) == ((2, 3, 64, 64), [3, 1])


@pytest.mark.parametrize("name", ["mnist", "svhn", "cifar10", "cifar100"])
def test_a_data_set_that_is_not_there_is_not_fetched(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name} in .*: cannot be read .*--download"):
        open_labelled(name, tmp_path, download=False)


def test_folders_that_do_not_fit(tmp_path, folder, capsys):
    def fails(images):
        assert main(["-o", str(tmp_path / "t.safetensors"), "--images", str(images), "--steps", "1"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "no such folder; expected procedural, mnist, svhn" in fails(tmp_path / "no")
    (folder / "dark").rename(tmp_path / "dark")
    assert "1 class folders in it; expected two or more" in fails(folder)
    (folder / "empty").mkdir()
    assert f"{folder / 'empty'}: no pictures in it" in fails(folder)


def test_a_picture_that_cannot_be_read_is_named(folder):
    (folder / "dark" / "03.png").write_bytes(b"no picture")
    labelled = open_labelled(str(folder), folder, download=False)
    with pytest.raises(DataError, match=r"03\.png: cannot be decoded.*, or remove it"):
        labelled.read(15)
