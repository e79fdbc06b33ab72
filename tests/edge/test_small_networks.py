"""Networks with fewer operations: what they share and how wide they are, their training and their files."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from stfpm_edge.checkpoint import load_checkpoint, load_tensors, save_checkpoint
from stfpm_edge.cli import main
from stfpm_edge.networks import SMALL_STUDENTS, Pyramid, default_blocks, new_student
from stfpm_edge.options import TrainOptions
from stfpm_edge.recipes import PAPER
from stfpm_edge.teacher import load_teacher
from stfpm_edge.train import train_student
from stfpm_runtime.errors import ArtifactError, OptionError
from tiny_model import make_checkpoint, make_images

SHARED = [name for name, student in SMALL_STUDENTS.items() if student.is_shared]
NARROW = [name for name, student in SMALL_STUDENTS.items() if student.is_narrow]
NETWORKS = ["resnet18_half", *SMALL_STUDENTS]


class Silent:
    """A reporter without output, which presses Ctrl-C after an epoch when told to."""

    def __init__(self, stop_after: int = 0) -> None:
        self.stop_after = stop_after

    def say(self, text: str) -> None:
        pass

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "student" and done == self.stop_after:
            raise KeyboardInterrupt


def images():
    return torch.from_numpy(make_images(2))


def test_the_half_network_has_half_of_the_channels():
    features = Pyramid("resnet18_half", (2, 3, 4, 5)).eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(block.shape[1:]) for block in features] == [(32 << b, 16 >> b, 24 >> b) for b in range(4)]


@pytest.mark.parametrize("name", NARROW)
def test_a_narrow_student_compares_as_many_channels_as_its_teacher_has(name):
    checkpoint = make_checkpoint(name, (3, 4))
    own = [checkpoint.student.width(block) for block in (3, 4)]
    found = [features.shape[1] for features in checkpoint.student(torch.zeros(1, 3, 64, 64))]
    assert (own, found) == ([64, 128], [128, 256])
    assert all((features >= 0).all() for features in checkpoint.student(torch.randn(1, 3, 64, 64)))


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_student_starts_from_its_teachers_block_2(name):
    checkpoint = make_checkpoint(name, (3, 4))
    teacher, student = checkpoint.teacher, checkpoint.student
    assert not any(key.startswith(("conv1", "bn1", "layer1")) for key in student.state_dict())
    assert len(list(student.parameters())) < len(list(teacher.parameters()))
    before = student(torch.ones(1, 3, 64, 64))[0]
    teacher.layer1[1].bn2.bias += 1
    assert not torch.equal(student(torch.ones(1, 3, 64, 64))[0], before)
    student.train()
    assert not teacher.training


@pytest.mark.parametrize("name", SHARED)
def test_block_2_cannot_be_compared_where_it_is_shared(name):
    with pytest.raises(OptionError, match=rf"\[2, 3\] for {name}, whose student shares block 2 .* --blocks 3,4"):
        Pyramid(name, (2, 3))


def test_the_command_compares_blocks_that_the_backbone_has(tmp_path, capsys):
    command = [str(tmp_path / "no"), "-o", str(tmp_path / "m.safetensors"), "--backbone", "resnet18_shared",
               "--teacher", "procedural"]  # fmt: skip
    assert main([*command, "--blocks", "2,3"]) == 1
    assert "shares block 2" in capsys.readouterr().err
    assert main(command) == 1
    assert "no such folder" in capsys.readouterr().err


def test_the_first_weights_are_the_seeds():
    teacher = new_student("resnet18", (3,), 0)
    first, second, other = (new_student("resnet18_shared_narrow", (3,), seed, teacher) for seed in (0, 0, 1))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
    assert not torch.equal(first.layer2[0].conv1.weight, other.layer2[0].conv1.weight)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_saved_is_loaded(name, tmp_path):
    checkpoint = make_checkpoint(name, default_blocks(name))
    save_checkpoint(checkpoint, tmp_path / "m.safetensors")
    loaded = load_checkpoint(tmp_path / "m.safetensors")
    assert loaded.spec == checkpoint.spec
    assert torch.equal(loaded.model()(images())[0], checkpoint.model()(images())[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_goes_on_to_the_same_weights(name, good_images, tmp_path):
    blocks = default_blocks(name)
    save_file(make_checkpoint(name, blocks).teacher.state_dict(), tmp_path / "t.safetensors")
    options = TrainOptions(
        good_images, tmp_path / "m.safetensors", teacher=str(tmp_path / "t.safetensors"), backbone=name, blocks=blocks,
        height=64, width=64, recipe=replace(PAPER, epochs=2, batch_size=4, lr=0.1), device="cpu",
    )  # fmt: skip
    teacher = copy.deepcopy(load_teacher(options.teacher, name, blocks).state_dict())
    trained = train_student(options, Silent())
    assert trained.spec.backbone == name
    assert trained.spec.training["losses"][1] < trained.spec.training["losses"][0]
    assert all(torch.equal(tensor, teacher[key]) for key, tensor in trained.teacher.state_dict().items())
    other = replace(options, output=tmp_path / "other.safetensors")
    with pytest.raises(KeyboardInterrupt):
        train_student(other, Silent(stop_after=1))
    train_student(replace(other, resume=True), Silent())
    first, second = (load_tensors(one.output)[0] for one in (options, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_teacher_of_another_width_is_refused_in_one_line(tmp_path):
    for name in ("resnet18", "resnet18_half"):
        save_file(Pyramid(name, (2, 3)).state_dict(), tmp_path / f"{name}.safetensors")
    for backbone, file, message in (
        ("resnet18_half", "resnet18", r"conv1\.weight is \[64, 3, 7, 7\], resnet18_half has \[32, 3, 7, 7\]"),
        ("resnet18_half_shared", "resnet18", r"conv1\.weight is \[64, 3, 7, 7\], resnet18_half has"),
        ("resnet18_narrow", "resnet18_half", r"conv1\.weight is \[32, 3, 7, 7\], resnet18 has"),
    ):
        with pytest.raises(ArtifactError, match=message) as caught:
            load_teacher(str(tmp_path / f"{file}.safetensors"), backbone, (3,))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["imagenet", "procedural"])
def test_a_half_teacher_has_to_be_made(source):
    with pytest.raises(OptionError, match="stfpm-pretrain --backbone resnet18_half"):
        load_teacher(source, "resnet18_half_shared", (3, 4))


def test_the_full_teacher_that_ships_serves_the_small_students():
    assert load_teacher("procedural", "resnet18_narrow", (2, 3)).backbone == "resnet18"
