from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from safetensors.torch import load_file

from stfpm_edge.checkpoint import resume_path
from stfpm_edge.pretrain import train as pretraining
from stfpm_edge.pretrain.cli import main
from stfpm_edge.pretrain.scenes import CONTOURS, HIGH, LOW, TEXTURES, SceneFormulas
from stfpm_edge.pretrain.tasks import ANSWERS, DenseClassifier, dense_loss
from stfpm_edge.pretrain.textures import Textures
from stfpm_edge.pretrain.train import PretrainOptions, pretrain
from stfpm_edge.teacher import PROCEDURAL, load_teacher
from stfpm_runtime.errors import OptionError

CPU = torch.device("cpu")


def draw(seed=1, count=4, formulas=0):
    return SceneFormulas(64, formulas, CPU).draw(count, torch.Generator().manual_seed(seed))


def options(folder, **changes):
    values = {"steps": 4, "batch_size": 2, "side": 64, "blocks": (2, 3), "device": "cpu"}
    return PretrainOptions(folder / "t.safetensors", **values | changes)


def test_scenes_are_pictures_with_a_label_for_each_pixel():
    scenes = draw(count=8)
    assert (scenes.pictures.shape, scenes.pictures.dtype) == ((8, 3, 64, 64), torch.float32)
    assert LOW <= scenes.pictures.min() < 0 < scenes.pictures.max() <= HIGH
    assert 0 <= scenes.textures.min() <= scenes.textures.max() < TEXTURES
    assert 0 == scenes.contours.min() < scenes.contours.max() <= CONTOURS
    assert all((one > 0).any() for one in scenes.contours)  # a body in each
    assert all(len(one.unique()) > 1 for one in scenes.textures)


def test_a_seed_decides_the_formulas_and_another_the_pictures():
    assert torch.equal(draw().pictures, draw().pictures)
    assert not torch.equal(draw().pictures, draw(seed=2).pictures)
    assert not torch.equal(draw().pictures, draw(formulas=1).pictures)


def test_labels_and_pictures_lie_on_each_other():
    """Within one texture a picture is smoother than across a body's edge."""
    scenes = draw(count=16)
    steps = (scenes.pictures[..., 1:] - scenes.pictures[..., :-1]).abs().mean(dim=1)
    edge = scenes.contours[..., 1:] != scenes.contours[..., :-1]
    assert steps[edge].mean() > 2 * steps[~edge].mean()


def test_samples_of_one_texture_share_a_spectrum_but_are_not_the_same():
    generator = torch.Generator().manual_seed(0)
    textures = Textures(2, 64, generator)
    fields = textures.draw(torch.tensor([0, 0, 1]), generator)
    assert fields.abs().max() <= 1
    spectra = torch.fft.rfft2(fields).abs().flatten(1)
    spectra = spectra / spectra.norm(dim=1, keepdim=True)
    assert spectra[0] @ spectra[1] > spectra[0] @ spectra[2]
    assert not torch.equal(fields[0], fields[1])


def test_the_loss_is_the_mean_over_positions_of_three_answers():
    scenes = draw(count=2)
    width = sum(ANSWERS)
    blank = torch.zeros(2, width, 8, 8)
    colour = torch.nn.functional.avg_pool2d(scenes.pictures, 8).square().mean().item()
    guessing = math.log(TEXTURES) + math.log(1 + CONTOURS) + 0.5 * colour
    assert dense_loss(blank, scenes).item() == pytest.approx(guessing, rel=1e-5)
    sure = blank.clone()
    middle = scenes.textures[:, 4::8, 4::8]
    sure.scatter_(1, middle[:, None].clone(), 50.0)
    assert dense_loss(sure, scenes).item() == pytest.approx(guessing - math.log(TEXTURES), rel=1e-5)


def test_it_learns(tmp_path):
    losses = []
    pretrain(
        options(tmp_path, steps=100, batch_size=8), lambda step, note: losses.append(float(note.rpartition(" ")[2]))
    )
    guessing = math.log(TEXTURES) + math.log(1 + CONTOURS)
    assert losses[-1] < guessing


def test_the_file_is_a_teacher_in_half_precision(tmp_path):
    teacher = pretrain(options(tmp_path))
    tensors = load_file(tmp_path / "t.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    loaded = load_teacher(str(tmp_path / "t.safetensors"), "resnet18", (2, 3))
    image = torch.randn(1, 3, 64, 64)
    for one, other in zip(loaded(image), teacher(image), strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)
    assert not resume_path(tmp_path / "t.safetensors").exists()


def test_an_interrupted_one_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    straight = pretrain(options(tmp_path)).state_dict()

    class Stopping(SceneFormulas):
        drawn = 0

        def draw(self, *arguments):
            Stopping.drawn += 1
            if Stopping.drawn == 3:
                raise KeyboardInterrupt
            return super().draw(*arguments)

    monkeypatch.setattr(pretraining, "SAVE_EVERY", -1.0)
    monkeypatch.setattr(pretraining, "SceneFormulas", Stopping)
    with pytest.raises(KeyboardInterrupt):
        pretrain(options(tmp_path))
    assert resume_path(tmp_path / "t.safetensors").exists()
    with pytest.raises(OptionError, match="other steps"):
        pretrain(options(tmp_path, resume=True, steps=9))
    resumed = pretrain(options(tmp_path, resume=True)).state_dict()
    assert Stopping.drawn == 3 + 2
    for name, tensor in straight.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)


def test_pretraining_starts_from_a_given_teacher(tmp_path):
    first = pretrain(options(tmp_path))
    path = tmp_path / "first.safetensors"
    (tmp_path / "t.safetensors").rename(path)
    second = pretrain(options(tmp_path, start=str(path), steps=1, lr=1e-9))
    torch.testing.assert_close(second.conv1.weight, first.conv1.weight, rtol=1e-2, atol=1e-3)
    other = pretrain(options(tmp_path, steps=1, lr=1e-9, seed=5))
    assert (other.conv1.weight - first.conv1.weight).abs().max() > 1e-2


def test_the_classifier_answers_at_every_position():
    model = DenseClassifier(load_teacher(PROCEDURAL, "resnet18", (2, 3, 4)))
    shapes = [tuple(answer.shape) for answer in model.eval()(torch.zeros(1, 3, 96, 96))]
    assert shapes == [(1, sum(ANSWERS), side, side) for side in (24, 12, 6)]


def test_the_teacher_that_ships_knows_more_than_a_random_one():
    """A head on its frozen features learns to tell textures; on random features it learns less in the same time."""
    scenes, others = draw(count=24, formulas=3), draw(seed=2, count=24, formulas=3)
    random = load_teacher(PROCEDURAL, "resnet18", (2, 3, 4))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in random.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, torch.nn.BatchNorm2d):
                module.reset_parameters()
    accuracy = {}
    for name, teacher in (("ours", load_teacher(PROCEDURAL, "resnet18", (2, 3, 4))), ("random", random)):
        known, asked = (torch.nn.functional.normalize(teacher(one.pictures)[1]) for one in (scenes, others))
        flat = [features.permute(0, 2, 3, 1).flatten(0, 2) for features in (known, asked)]
        labels = [one.textures[:, 4::8, 4::8].flatten() for one in (scenes, others)]
        nearest = (flat[1] @ flat[0].T).argmax(dim=1)
        present = torch.isin(labels[1], labels[0])
        accuracy[name] = (labels[0][nearest] == labels[1])[present].float().mean().item()
    assert accuracy["ours"] > 1.3 * accuracy["random"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "got steps 0; expected 1 or more"),
        ({"side": 32}, "got side 32; expected 64 or more"),
        ({"lr": float("nan")}, "expected one above 0"),
        ({"backbone": "vgg"}, "got backbone 'vgg'"),
        ({"blocks": (1, 2)}, r"got blocks \[1, 2\]"),
        ({"seed": -1}, "got seed -1"),
        ({"download": True}, "got --download with --images procedural; expected one of mnist"),
    ],
)
def test_options_that_make_no_sense(tmp_path, changes, message):
    with pytest.raises(OptionError, match=message):
        options(tmp_path, **changes)
    assert dataclasses.asdict(options(tmp_path))["steps"] == 4


def test_an_interrupted_one_does_not_go_on_with_other_pictures_or_another_start(tmp_path):
    (tmp_path / "pictures" / "a").mkdir(parents=True)
    picture, start = tmp_path / "pictures" / "a" / "0.png", tmp_path / "start.safetensors"
    picture.write_bytes(b"one")
    start.write_bytes(b"one")
    chosen = options(tmp_path, images=str(tmp_path / "pictures"), start=str(start))
    before = chosen.identity()
    picture.write_bytes(b"another")
    start.write_bytes(b"another")
    after = chosen.identity()
    assert {name for name in before if before[name] != after[name]} == {"images_sha256", "start_sha256"}


def test_the_command(tmp_path, capsys):
    output = tmp_path / "t.safetensors"
    arguments = ["-o", str(output), "--steps", "1", "--batch-size", "2", "--size", "64", "--blocks", "2"]
    assert main(arguments) == 0
    assert f"next: stfpm-train DATA --teacher {output}" in capsys.readouterr().err
    assert main([*arguments, "--blocks", "2.9"]) == 1
    assert "got --blocks 2.9; expected whole numbers" in capsys.readouterr().err
    assert main([*arguments, "--from", str(tmp_path / "no.pth")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_the_teacher_that_ships_is_of_one_architecture():
    with pytest.raises(OptionError, match=r"procedural for a resnet34 .*stfpm-pretrain --backbone resnet34"):
        load_teacher(PROCEDURAL, "resnet34", (2, 3, 4))
    with pytest.raises(OptionError, match="up to block 4"):
        load_teacher(PROCEDURAL, "resnet18", (2, 5))
