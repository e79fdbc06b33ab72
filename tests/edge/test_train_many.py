"""Several seeds and all products by one command."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace

import cv2
import pytest
import torch
from safetensors.torch import save_file

from stfpm_edge.checkpoint import load_checkpoint, save_checkpoint
from stfpm_edge.cli import main
from stfpm_edge.options import has_bfloat16
from tiny_model import make_checkpoint, make_images

QUICK = ["--teacher", "procedural", "--size", "64", "--epochs", "1", "--batch-size", "4", "--device", "cpu"]


@pytest.fixture
def plant(good_images, tmp_path):
    for name in ("bottle", "screw"):
        shutil.copytree(good_images, tmp_path / "plant" / name / "train" / "good")
    return tmp_path / "plant"


def test_all_products_are_trained_once(plant, tmp_path, capsys):
    command = [str(plant), "--all", "-o", str(tmp_path / "models"), *QUICK]
    assert main(command) == 0
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["bottle.safetensors", "screw.safetensors"]
    assert load_checkpoint(tmp_path / "models" / "screw.safetensors").spec.name == "screw"
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().err.count("done already") == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--epochs", "2"], "epochs (was 1, is 2)"),
        (["--false-alarm-rate", "0.1"], "false_alarm_rate (was 0.01, is 0.1)"),
        (["--size", "32"], "height (was 64, is 32), width (was 64, is 32)"),
        (["--lr", "0.1", "--batch-size", "2"], "batch_size (was 4, is 2), lr (was 0.4, is 0.1)"),
    ],
)
def test_other_options_are_not_done_already(plant, tmp_path, capsys, more, message):
    command = [str(plant / "bottle"), "--seeds", "2", "-o", str(tmp_path / "b.safetensors"), *QUICK]
    assert main(command) == 0
    before = (tmp_path / "b.seed1.safetensors").read_bytes()
    capsys.readouterr()
    assert main([*command, *more]) == 1
    error = capsys.readouterr().err
    assert "done already" not in error
    assert error.count(f"was made by a training that differs in {message}; delete it to train again") == 2
    assert (tmp_path / "b.seed1.safetensors").read_bytes() == before


def test_other_pictures_or_another_teacher_are_not_done_already(plant, tmp_path, capsys):
    command = [str(plant), "--all", "-o", str(tmp_path / "models"), *QUICK]
    assert main(command) == 0
    capsys.readouterr()
    picture = next((plant / "screw" / "train" / "good").iterdir())
    cv2.imwrite(str(picture), cv2.imread(str(picture))[::-1])
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.count("done already") == 1
    assert "screw.safetensors: was made by a training that differs in pictures_sha256" in error
    save_file(make_checkpoint().teacher.state_dict(), tmp_path / "teacher.safetensors")
    assert main([*command, "--teacher", str(tmp_path / "teacher.safetensors")]) == 1
    assert capsys.readouterr().err.count("teacher_sha256 (was ") == 2


def test_one_product_that_fails_does_not_stop_the_others(plant, tmp_path, capsys):
    next((plant / "bottle" / "train" / "good").iterdir()).write_bytes(b"no picture")
    assert main([str(plant), "--all", "-o", str(tmp_path / "models"), *QUICK]) == 1
    assert "1 of 2 trainings failed, see above: bottle (seed 0); the others are done" in capsys.readouterr().err
    assert (tmp_path / "models" / "screw.safetensors").exists()


def test_seeds_give_mean_and_deviation(plant, tmp_path, capsys):
    assert (
        main([str(plant / "bottle"), "--seeds", "2", "--seed", "3", "-o", str(tmp_path / "b.safetensors"), *QUICK]) == 0
    )
    assert "over 2 seeds" in capsys.readouterr().err
    seeds = [load_checkpoint(tmp_path / f"b.seed{n}.safetensors").spec.training["options"]["seed"] for n in (3, 4)]
    assert seeds == [3, 4]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--all", "-o", "one.safetensors"], "expected a folder, each product gets a file in it"),
        (["--all", "--name", "cap", "-o", "models"], "got --name cap with --all; expected no name"),
        (["--seeds", "0", "-o", "one.safetensors"], "got --seeds 0; expected 1 or more"),
        (
            ["--mixed-precision", "--device", "cpu", "-o", "one.safetensors"],
            "got --mixed-precision on cpu; expected a GPU or CPU that computes in bfloat16",
        ),
    ],
)
def test_options_that_contradict_one_another_are_refused(plant, tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)  # a CPU of before bfloat16
    assert main([str(plant), *QUICK, *more]) == 1
    assert message in capsys.readouterr().err


def test_a_folder_without_products_is_refused(tmp_path, capsys):
    assert main([str(tmp_path), "--all", "-o", str(tmp_path / "models"), *QUICK]) == 1
    assert "no folder in it has train/good" in capsys.readouterr().err


def test_memory_order_changes_no_more_than_rounding(plant, tmp_path):
    for name, more in (("a", []), ("b", ["--no-channels-last"])):
        assert main([str(plant / "bottle"), "-o", str(tmp_path / f"{name}.safetensors"), *QUICK, *more]) == 0
    losses = [load_checkpoint(tmp_path / f"{name}.safetensors").spec.training["losses"] for name in "ab"]
    assert torch.allclose(*(torch.tensor(one) for one in losses), rtol=1e-3)


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="this CPU does not compute in bfloat16")
def test_bfloat16_learns_the_same(plant, tmp_path):
    for name, more in (("a", []), ("b", ["--mixed-precision"])):
        assert main([str(plant / "bottle"), "-o", str(tmp_path / f"{name}.safetensors"), *QUICK, *more]) == 0
    full, half = (load_checkpoint(tmp_path / f"{name}.safetensors").spec.training["losses"] for name in "ab")
    assert half == pytest.approx(full, rel=0.02)
    assert half != full


def test_another_first_student_of_the_same_name_is_not_done_already(plant, tmp_path, capsys):
    first = [str(plant / "bottle"), "-o", str(tmp_path / "b.safetensors"), *QUICK]
    assert main(first) == 0
    new = tmp_path / "new"
    make_pictures(new, seed=9)
    start = tmp_path / "b.safetensors"
    command = [str(new), "--seeds", "2", "--init-from", str(start), "-o", str(tmp_path / "n.safetensors"), *QUICK]
    assert main(command) == 0
    assert main(command) == 0
    assert capsys.readouterr().err.count("done already") == 2
    start.unlink()
    assert main([*first, "--seed", "5"]) == 0
    capsys.readouterr()
    assert main(command) == 1
    assert capsys.readouterr().err.count("differs in init_from_sha256") == 2


def test_a_training_that_did_not_reach_its_last_epoch_is_not_done(plant, tmp_path, capsys):
    command = [str(plant / "bottle"), "--seeds", "2", "-o", str(tmp_path / "b.safetensors"), *QUICK]
    assert main(command) == 0
    path = tmp_path / "b.seed0.safetensors"
    checkpoint = load_checkpoint(path)
    cut = replace(checkpoint.spec, training=checkpoint.spec.training | {"epochs": 0})
    save_checkpoint(replace(checkpoint, spec=cut), path)
    assert main(command) == 1
    assert "its training stopped after epoch 0 of 1, since the loss was not finite" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # ray's own
def test_on_a_ray_cluster_a_product_that_fails_fails_alone(plant, tmp_path, capsys, monkeypatch):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    next((plant / "bottle" / "train" / "good").iterdir()).write_bytes(b"no picture")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        command = [str(plant), "--all", "-o", str(tmp_path / "models"), *QUICK, "--ray", nodes.address]
        assert main(command) == 1
    finally:
        nodes.shutdown()
    assert "1 of 2 trainings failed, see above: bottle (seed 0); the others are done" in capsys.readouterr().err
    assert (tmp_path / "models" / "screw.safetensors").exists()


def test_a_cluster_for_one_training_is_refused(plant, tmp_path, capsys):
    assert main([str(plant / "bottle"), "-o", str(tmp_path / "b.safetensors"), *QUICK, "--ray", "auto"]) == 1
    assert "expected --all or --seeds with it" in capsys.readouterr().err


def make_pictures(folder, seed):
    folder.mkdir()
    for number, image in enumerate(make_images(10, 72, 80, seed)):
        cv2.imwrite(str(folder / f"{number}.png"), image)
