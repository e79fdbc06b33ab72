"""The comparisons of recipes and heads run on a tiny product, and continue where they were interrupted."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from benchmarks.experiments.accuracy import heads, precisions, quantisers, recipes, strips
from stfpm_eval.data import read_category
from tiny_model import make_images


@pytest.fixture
def product(tmp_path):
    for kind, count in (("train/good", 12), ("test/good", 4), ("test/bad", 2)):
        for number, image in enumerate(make_images(count, seed=count)):
            path = tmp_path / "cap" / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
            if kind == "test/bad":
                mask = np.zeros(image.shape[:2], np.uint8)
                mask[10:20, 10:20] = 255
                (tmp_path / "cap/ground_truth/bad").mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(tmp_path / f"cap/ground_truth/bad/{number}_mask.png"), mask)
    return tmp_path / "cap"


def test_recipes_are_compared_once_and_their_heads(product, tmp_path, monkeypatch):
    path, keep = tmp_path / "recipes.json", tmp_path / "keep"
    command = [str(product), "--seeds", "1", "--size", "64", "--epochs", "1", "--teacher", "procedural",
               "--backbone", "resnet18_narrow", "--keep", str(keep), "--json", str(path)]  # fmt: skip
    assert recipes.main(command) == 0
    runs = json.loads(path.read_text())["runs"]
    assert [(run["product"], run["recipe"], run["seed"]) for run in runs] == [("cap", "paper", 0), ("cap", "plus", 0)]
    assert all(0 <= run["image_auroc"] <= 1 and 0 <= run["pro"] <= 1 for run in runs)
    assert (runs[1]["good"], runs[1]["defective"], runs[1]["calibration_images"]) == (4, 2, 12)
    monkeypatch.setattr(recipes, "train_student", None)  # the second time nothing is trained
    assert recipes.main(command) == 0
    assert json.loads(path.read_text())["runs"] == runs

    (checkpoint,) = keep.glob("cap-plus-*.safetensors")
    (twin := product.with_name("lid")).symlink_to(product)
    pairs = [f"{checkpoint}={product}", f"{checkpoint}={twin}"]
    assert heads.main([*pairs, "--json", str(tmp_path / "heads.json")]) == 0
    found = json.loads((tmp_path / "heads.json").read_text())
    left_out = found["leave_one_out"]["cap"]
    assert len(found["products"]["cap"]["heads"]) == 10
    assert left_out["chosen_by_synthetic_defects"] == runs[1]["head"]["chosen"]
    assert (
        left_out["its_image_auroc"] == found["products"]["lid"]["heads"][left_out["best_on_the_others"]]["image_auroc"]
    )

    measured = tmp_path / "precisions.json"
    assert precisions.main([f"{checkpoint}={product}", "--json", str(measured)]) == 0
    rows = json.loads(measured.read_text())["rows"]
    assert [(row["precision"], row["target"]) for row in rows] == list(precisions.EXPORTS)
    assert [row["failures"] for row in rows[:1]] == [[]]
    assert all(0 <= row["accuracy"]["file"]["image_auroc"] <= 1 for row in rows)

    (exported,) = keep.glob("cap-plus-*.onnx")
    (keep / "other.onnx").write_bytes(exported.read_bytes())
    for _ in range(2):  # the second time rows are added
        files = [str(exported), str(keep / "other.onnx")]
        assert quantisers.main([str(product), *files, "--json", str(tmp_path / "quantisers.json")]) == 0
    rows = json.loads((tmp_path / "quantisers.json").read_text())["rows"]
    assert [row["file"] for row in rows] == [exported.name, "other.onnx"] * 2
    assert all(row["score_error"] == row["large_errors"] == 0 and row["pro"] == rows[0]["pro"] for row in rows)


def test_strips_have_at_most_one_defective_part(product, tmp_path):
    folder = tmp_path / "strips"
    assert strips.main([str(product), str(folder)]) == 0
    category = read_category(folder)
    assert len(list((folder / "train/good").iterdir())) == 4
    assert (category.defects, len(category.samples)) == (("bad",), 6)
    mask = cv2.imread(str(folder / "ground_truth/bad/0_mask.png"), cv2.IMREAD_GRAYSCALE)
    assert mask.shape == (64, 192)
    assert (mask > 0).sum() == 100
    assert strips.main([str(product), str(folder)]) == 1
