"""The comparison of networks runs, and continues where it was interrupted."""

from __future__ import annotations

import json

import cv2
import pytest

from benchmarks.experiments import networks
from benchmarks.experiments.networks import main
from tiny_model import make_images


def test_a_half_network_costs_a_quarter(tmp_path, capsys):
    path = tmp_path / "networks.json"
    assert main(["--size", "64", "--rounds", "2", "--threads", "1", "--json", str(path)]) == 0
    found = json.loads(path.read_text())["networks"]
    assert json.loads(capsys.readouterr().out)["networks"] == found
    assert list(found) == list(networks.NETWORKS)
    assert found["resnet18"]["cpu_ms_share"] == found["resnet18"]["wall_ms_1_threads_share"] == 1
    assert found["resnet18_half"]["macs_share"] == pytest.approx(0.27, abs=0.02)
    assert found["resnet18_half_shared"]["macs_share"] < found["resnet18_half"]["macs_share"]
    assert 0.5 < found["resnet18_shared_narrow"]["macs_share"] < found["resnet18_narrow"]["macs_share"]
    assert found["resnet18_narrow"]["macs_share"] < found["resnet18_shared"]["macs_share"] < 0.85


def test_accuracy_is_measured_once_for_each_training(tmp_path, capsys, monkeypatch):
    for kind, count in (("train/good", 10), ("test/good", 3), ("test/bad", 2)):
        for number, image in enumerate(make_images(count, seed=count)):
            path = tmp_path / "cap" / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
    monkeypatch.setattr(networks, "measure_speed", lambda *arguments: {})
    command = ["--networks", "resnet18_narrow", "--size", "64", "--data", str(tmp_path / "cap"), "--epochs", "1",
               "--recipe", "paper", "--teacher", "procedural", "--work", str(tmp_path / "work")]  # fmt: skip
    assert main(command) == 0
    (first,) = json.loads(capsys.readouterr().out)["accuracy"]
    assert (first["data"], first["network"], first["seed"]) == ("cap", "resnet18_narrow", 0)
    assert 0 <= first["image_auroc"] <= 1
    monkeypatch.setattr(networks, "train_student", None)  # the second time nothing is trained
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == [first]
    assert main(["--data", str(tmp_path / "cap")]) == 1
    assert "got --data without --half-teacher" in capsys.readouterr().err
