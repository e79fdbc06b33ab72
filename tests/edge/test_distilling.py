"""A half-width teacher that learns the features of a full one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from stfpm_edge.checkpoint import load_metadata, resume_path
from stfpm_edge.model import IMAGENET_STD
from stfpm_edge.pretrain import train as pretraining
from stfpm_edge.pretrain.cli import main
from stfpm_edge.pretrain.distil import PART_SIDE, PartPictures, feature_loss
from stfpm_edge.pretrain.scenes import SceneFormulas
from stfpm_edge.pretrain.train import PretrainOptions, pretrain
from stfpm_edge.teacher import load_teacher
from stfpm_runtime.errors import DataError, OptionError


def options(folder, **changes):
    values = {"steps": 3, "batch_size": 2, "side": 64, "blocks": (2,), "device": "cpu"}
    values |= {"backbone": "resnet18_half", "distil_from": "procedural"}
    return PretrainOptions(folder / "t.safetensors", **values | changes)


def features(channels, seed):
    return torch.rand(2, channels, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_zero_for_features_that_say_the_same():
    source, generator = features(8, 0), torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    turned = torch.einsum("dc,nchw->ndhw", turn, source)  # products of features do not know of rotations
    assert feature_loss(source, 3 * turned, 2 * source, generator).item() == pytest.approx(0, abs=1e-6)
    assert feature_loss(source, turned, turned, generator) > 0.5
    assert feature_loss(source, features(4, 1), source, generator) > 0.5


def test_crops_are_pieces_of_the_parts(good_images, tmp_path):
    picture = np.zeros((PART_SIDE, PART_SIDE, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(PART_SIDE), np.arange(PART_SIDE)[:, None]  # blue: column, green: row
    cv2.imwrite(str(tmp_path / "0.png"), picture)
    parts = PartPictures([tmp_path])
    crops = parts.draw(8, 48, torch.Generator().manual_seed(1))
    assert (crops.shape, crops.dtype) == ((8, 3, 48, 48), torch.float32)
    assert torch.equal(crops, parts.draw(8, 48, torch.Generator().manual_seed(1)))
    rows, columns = crops[:, 1].diff(dim=1) * 255 * IMAGENET_STD[1], crops[:, 2].diff(dim=2) * 255 * IMAGENET_STD[2]
    for steps in (rows, columns):
        torch.testing.assert_close(steps.abs(), torch.ones_like(steps), atol=1e-3, rtol=0)
        assert 0 < (steps[:, 0, 0] > 0).sum() < 8  # some are mirrored
    assert len(crops[:, 1, 0, 0].unique()) > 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures in it"):
        PartPictures([good_images, tmp_path / "empty"])


def test_the_network_learns_and_is_a_teacher_of_half_the_width(good_images, tmp_path):
    losses = []
    for steps in (1, 50):
        chosen = options(tmp_path, steps=steps, parts=(good_images,))
        teacher = pretrain(chosen, lambda step, note: losses.append(float(note.rpartition(" ")[2])))
    assert losses[1] < 0.8 * losses[0]
    loaded = load_teacher(str(chosen.output), "resnet18_half", (2,))
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(loaded(image)[0], teacher(image)[0], rtol=0.02, atol=0.02)
    metadata = load_metadata(chosen.output)
    assert metadata["distil_from"] == "procedural"
    assert not any(str(tmp_path) in value or str(good_images) in value for value in metadata.values())


def test_an_interrupted_one_goes_on_to_the_same_weights(good_images, tmp_path, monkeypatch):
    chosen = options(tmp_path, parts=(good_images,))
    straight = pretrain(chosen).state_dict()

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
        pretrain(chosen)
    assert resume_path(chosen.output).exists()
    with pytest.raises(OptionError, match="other parts_sha256"):
        pretrain(options(tmp_path, resume=True, parts=(good_images, good_images)))
    resumed = pretrain(options(tmp_path, parts=(good_images,), resume=True)).state_dict()
    for name, tensor in straight.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet34"}, "got --distil-from with --backbone resnet34; expected resnet18_half"),
        ({"distil_from": "", "parts": ("DIR",)}, "got --parts without --distil-from"),
        ({"parts": ("DIR",), "side": 300}, "got a size of 300 with --parts; expected 256 or less"),
        (
            {"backbone": "resnet18_shared", "blocks": (3,)},
            "got backbone 'resnet18_shared' for a teacher; expected one of resnet18, ",
        ),
    ],
)
def test_options_that_make_no_sense(tmp_path, changes, message):
    with pytest.raises(OptionError, match=message):
        options(tmp_path, **changes)


def test_the_command(good_images, tmp_path, capsys):
    output = tmp_path / "t.safetensors"
    arguments = ["-o", str(output), "--steps", "1", "--batch-size", "2", "--size", "64", "--blocks", "2",
                 "--backbone", "resnet18_half", "--distil-from", "procedural", "--parts", str(good_images)]  # fmt: skip
    assert main(arguments) == 0
    assert f"next: stfpm-train DATA --backbone resnet18_half --teacher {output}" in capsys.readouterr().err
    assert main([*arguments, "--parts", str(tmp_path / "nowhere")]) == 1
    assert "no such folder" in capsys.readouterr().err
