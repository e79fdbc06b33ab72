"""The demo's teacher: it learns, it is reproducible, and `stfpm-train --teacher` can use its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from stfpm_edge import demo_teacher
from stfpm_edge.demo_teacher import main, put_foreign, train_teacher, write_demo_teacher
from stfpm_edge.demo_textures import TEXTURES, Textures, collage
from stfpm_edge.teacher import fingerprint, load_teacher
from stfpm_runtime.errors import OutputError


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_teacher, "BATCH", 4)
    monkeypatch.setattr(demo_teacher, "SIDE", 32)


PARTS = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def test_the_file_holds_what_torchvision_names(tmp_path: Path, good_images: Path):
    path = tmp_path / "teacher.safetensors"
    write_demo_teacher(path, good_images, steps=2)
    resnet = torchvision.models.resnet18(weights=None).state_dict()
    expected = {name for name in resnet if not name.startswith(("layer4.", "fc."))}
    tensors = load_file(path)
    assert set(tensors) == expected
    assert all(tensors[name].shape == resnet[name].shape for name in expected)


def test_the_file_is_a_teacher_for_training(tmp_path: Path, good_images: Path):
    first, second = (tmp_path / f"{name}.safetensors" for name in "ab")
    for path in (first, second):
        assert main([str(path), "--parts", str(good_images), "--seed", "3", "--steps", "2"]) == 0
    loaded = load_teacher(str(first), "resnet18", (2, 3, 4))
    assert fingerprint(loaded) == fingerprint(load_teacher(str(second), "resnet18", (2, 3, 4)))


def test_foreign_bodies_are_where_the_labels_say():
    generator = torch.Generator().manual_seed(0)
    flat = torch.zeros(2, 3, 48, 48)
    pictures, labels = put_foreign(flat, 32, Textures(TEXTURES, 32, generator), generator)
    assert pictures.shape == (32, 3, 32, 32)
    assert set(labels.unique().tolist()) == {0, 1, 2, 3}
    foreign = (labels == 1) | (labels == 3)  # a piece of another flat picture is flat as well
    assert pictures.abs().amax(1)[foreign].median() > 0.1
    untouched = torch.nn.functional.max_pool2d(labels[:, None].float(), 5, 1, 2)[:, 0] == 0  # lines have soft edges
    assert pictures.abs().amax(1)[untouched].max() < 0.5


def test_another_seed_gives_another_teacher():
    assert fingerprint(train_teacher(PARTS, 0, steps=1)) != fingerprint(train_teacher(PARTS, 1, steps=1))


def test_batch_norm_knows_statistics_and_weights_are_frozen():
    teacher = train_teacher(PARTS, 0, steps=3)
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert teacher.get_buffer("layer3.1.bn2.running_mean").abs().max() > 0


def test_it_reports_its_loss_and_what_guessing_would_give():
    lines: list[str] = []
    train_teacher(PARTS, 0, steps=2, report=lines.append)
    assert lines[-1].startswith("step 2/2: cross-entropy ")
    assert "1.39 is guessing" in lines[-1]


def test_a_collage_is_finite_standardised_and_labelled():
    generator = torch.Generator().manual_seed(0)
    pictures, labels = collage(Textures(TEXTURES, 32, generator), 16, generator)
    assert pictures.shape == (16, 3, 32, 32)
    assert labels.shape == (16, 32, 32)
    assert torch.isfinite(pictures).all()
    assert 0.4 < pictures.std() < 1.6
    assert labels.unique().numel() > 8
    assert max(picture.unique().numel() for picture in labels) <= 3


def test_samples_of_one_texture_share_a_spectrum_but_are_not_the_same():
    generator = torch.Generator().manual_seed(0)
    textures = Textures(8, 64, generator)
    first, second = textures.draw(torch.arange(8).repeat_interleave(16), generator).view(8, 2, 8, 64, 64).unbind(1)
    assert not torch.equal(first, second)
    power = [
        torch.fft.rfft2(part - part.mean((-2, -1), keepdim=True)).abs().mean(1).flatten(1) for part in (first, second)
    ]
    likeness = torch.nn.functional.normalize(power[0], dim=1) @ torch.nn.functional.normalize(power[1], dim=1).T
    assert torch.equal(likeness.argmax(1), torch.arange(8))


def test_a_place_that_cannot_be_written_is_found_out_before_the_work(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_demo_teacher(tmp_path / "file" / "teacher.safetensors", tmp_path, steps=10**9)
