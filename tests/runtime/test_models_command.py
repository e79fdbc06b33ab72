"""`stfpm-models list`, `show` and `diff`: what model files say of themselves."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from stfpm_runtime.files import sha256
from stfpm_runtime.line.models.cli import main


@pytest.fixture
def family(make_model, tmp_path):
    """Three generations, and a file that is no model of ours."""
    folder = tmp_path / "models"
    folder.mkdir()
    first = make_model("models/first.onnx", training={"time": "2026-11-01T10:00:00+00:00", "by": "Ada"})
    make_model("models/second.onnx", threshold=0.3, training={"init_from_sha256": sha256(first), "by": "Bob"})
    make_model("models/third.onnx", threshold=0.4, training={"calibrated_from": {"sha256": "f" * 64}})
    (folder / "other.onnx").write_bytes(b"no model")
    return folder


def test_the_list_names_parents_and_leaves_out_other_files(family, capsys):
    assert main(["list", str(family)]) == 0
    printed = capsys.readouterr()
    assert "left out" in printed.err
    assert "other.onnx" in printed.err
    lines = printed.out.splitlines()
    assert lines[0].split() == ["file", "product", "precision", "trained", "by", "parent", "threshold"]
    assert lines[1].split() == ["first.onnx", "bottle", "fp32", "2026-11-01T10:00", "Ada", "0.5"]
    assert lines[2].split() == ["second.onnx", "bottle", "fp32", "Bob", "first.onnx", "0.3"]
    assert "f" * 12 in lines[3]


def test_the_list_measures_models_on_known_pictures(family, tmp_path, capsys):
    for name, level in (("defects", 100), ("good", 90)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), np.full((16, 32, 3), level, np.uint8))
    argv = ["--known-defects", tmp_path / "defects", "--good", tmp_path / "good", "--json"]
    assert main(["list", str(family), *map(str, argv)]) == 0
    rows = {row["file"]: row for row in json.loads(capsys.readouterr().out)}
    found = {name: (row["defects passed"], row["good rejected"]) for name, row in rows.items()}
    assert found == {
        "first.onnx": ("1 of 1", "0 of 1"), "second.onnx": ("0 of 1", "1 of 1"), "third.onnx": ("1 of 1", "0 of 1")
    }  # fmt: skip
    assert all(row["ms"] > 0 for row in rows.values())


def test_one_model_and_two_are_described(family, capsys):
    assert main(["show", str(family / "second.onnx")]) == 0
    shown = capsys.readouterr().out
    assert f"trained on from          {sha256(family / 'first.onnx')}" in shown
    assert "threshold                0.3" in shown
    assert main(["diff", str(family / "first.onnx"), str(family / "second.onnx")]) == 0
    assert "threshold                0.5 -> 0.3" in capsys.readouterr().out
    assert main(["diff", str(family / "first.onnx"), str(family / "first.onnx")]) == 0
    assert "the same file" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["list", "none"], ["show", "none.onnx"], ["show", "x.safetensors"], ["list", "."]])
def test_bad_input_is_one_line(argv, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 20)
    assert main(argv) == 1
    assert capsys.readouterr().err.count("\n") == (2 if argv == ["list", "."] else 1)
