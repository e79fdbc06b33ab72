"""`stfpm-calibrate` on models and pictures whose scores are known: a picture scores its highest blue level / 255."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest

from stfpm_runtime.artifact.golden import golden_path
from stfpm_runtime.artifact.onnx_metadata import read_spec, replace_spec
from stfpm_runtime.batch.calibrate import main
from stfpm_runtime.engines import open_engine
from stfpm_runtime.model_check import ModelRules, load_checked


@pytest.fixture
def good(tmp_path):
    """Return a folder with 19 pictures: the maximum of number n is 5 n, in 1 pixel, and 5 n - 2 in 2 connected ones."""
    folder = tmp_path / "good"
    folder.mkdir()
    for number in range(1, 20):
        picture = np.zeros((8, 16, 3), np.uint8)
        picture[2, 3, 0] = 5 * number
        picture[2, 4, 0] = 5 * number - 2
        cv2.imwrite(str(folder / f"{number:02d}.png"), picture)
    return folder


def test_the_threshold_follows_from_the_files_own_scores(make_model, good, tmp_path, capsys):
    model, output = make_model(held_out_scores=(0.5,), false_alarm_rate=0.5), tmp_path / "new/model2.onnx"
    assert main([str(model), str(good), "-o", str(output), "--false-alarm-rate", "0.1"]) == 0
    assert "threshold 0.5 -> 0.3529, which at most 10.0% of good parts exceed on average (19 pictures)" in (
        capsys.readouterr().err
    )
    spec = read_spec(output)
    assert spec.threshold == pytest.approx(90 / 255)
    assert (spec.false_alarm_rate, len(spec.held_out_scores), spec.folds) == (0.1, 19, 0)
    assert spec.grey_levels == (0.26, 0.14)  # of these pictures: mean 98 and deviation 54.8 of 384 values
    assert spec.training["calibrated_from"]["images"] == [f"{number:02d}.png" for number in range(1, 20)]
    checked = load_checked(output, open_engine, ModelRules())  # its golden file is there, and agrees
    assert checked.detector.threshold == spec.threshold
    checked.engine.close()


def test_a_picture_that_repeats_another_one_does_not_count(make_model, good, tmp_path, capsys):
    for number in range(40):
        (good / f"copy-{number}.png").write_bytes((good / "01.png").read_bytes())
    output = tmp_path / "model2.onnx"
    assert main([str(make_model()), str(good), "-o", str(output), "--false-alarm-rate", "0.02"]) == 0
    assert "40 of 59 pictures repeat another one, and do not count" in capsys.readouterr().err
    spec = read_spec(output)
    assert (len(spec.held_out_scores), spec.false_alarm_rate) == (19, 0.05)


def test_folders_that_seem_to_hold_defects_are_refused_unless_they_are_accepted(make_model, good, tmp_path, capsys):
    defects = good.with_name("scratch")
    defects.mkdir()
    cv2.imwrite(str(defects / "a.png"), np.full((8, 16, 3), 200, np.uint8))
    command = [str(make_model(name="model")), str(good), str(defects), "-o", str(tmp_path / "new.onnx")]
    assert main(command) == 1
    assert "scratch: named like defects or masks, or beside a folder of good pictures" in capsys.readouterr().err
    assert not (tmp_path / "new.onnx").exists()
    assert main([*command, "--accept-data"]) == 0


def test_nothing_else_in_the_file_changes(make_model, good, tmp_path):
    model, output = make_model(), tmp_path / "model2.onnx"
    assert main([str(model), str(good), "-o", str(output)]) == 0
    before, after = onnx.load(model), onnx.load(output)
    assert len(after.metadata_props) == 1
    del before.metadata_props[:], after.metadata_props[:]
    assert before.SerializeToString() == after.SerializeToString()
    again = tmp_path / "model3.onnx"
    assert main([str(output), str(good), "-o", str(again)]) == 0
    assert read_spec(again).threshold == read_spec(output).threshold


def test_metadata_of_others_is_kept(make_model, good, tmp_path):
    model = make_model()
    content = onnx.load(model)
    content.metadata_props.add(key="line", value="3")
    content.producer_name = "someone"
    onnx.save(content, tmp_path / "other.onnx")
    (tmp_path / "replaced.onnx").write_bytes(replace_spec(tmp_path / "other.onnx", read_spec(model)))
    replaced = onnx.load(tmp_path / "replaced.onnx")
    assert {entry.key: entry.value for entry in replaced.metadata_props}["line"] == "3"
    assert replaced.producer_name == "someone"
    assert read_spec(tmp_path / "replaced.onnx") == read_spec(model)


def test_a_smallest_area_is_calibrated_by_its_own_scores(make_model, good, tmp_path):
    output = tmp_path / "model2.onnx"
    assert main([str(make_model(top_share=0.5, score_scale=2.0)), str(good), "-o", str(output), "--min-area", "2"]) == 0
    spec = read_spec(output)
    assert (spec.min_area, spec.top_share, spec.score_scale) == (2, None, 1.0)
    assert spec.threshold == pytest.approx(93 / 255)
    load_checked(output, open_engine, ModelRules()).engine.close()


def test_a_model_without_a_threshold_gets_one(make_model, good, tmp_path):
    output = tmp_path / "model2.onnx"
    assert main([str(make_model(threshold=None)), str(good), "-o", str(output)]) == 0
    assert read_spec(output).threshold == pytest.approx(95 / 255)


def test_pictures_that_the_model_rejects_are_doubted(make_model, good, tmp_path, capsys):
    assert main([str(make_model(threshold=0.05)), str(good), "-o", str(tmp_path / "model2.onnx")]) == 0
    assert "are they of this product, and good?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "arguments", "expected"),
    [
        (None, ["--false-alarm-rate", "0"], "a false-alarm rate of 0.0 was asked for"),
        (None, ["--min-area", "33"], "got a smallest area of 33 pixels; expected a quarter of the map, 16x8, or less"),
        (None, ["--min-area", "0"], "expected 1 pixel of the map or more"),
        ("damage", [], "09.png: "),
        ("no golden", [], "no such file; expected it next to model.onnx"),
        ("same name", [], "is a picture or another input, which would be overwritten"),
        ("plan", [], "expected a file ending in .onnx"),
        ("no picture", [], "neither picture nor video"),
    ],
)
def test_what_cannot_be_calibrated_is_one_line_and_nothing_is_written(
    make_model, good, tmp_path, capsys, change, arguments, expected
):
    model, output = make_model(), tmp_path / "new.onnx"
    if change == "damage":
        (good / "09.png").write_bytes((good / "09.png").read_bytes()[:40])
    elif change == "no golden":
        golden_path(model).unlink()
    elif change == "same name":
        output = model
    elif change == "plan":
        output = tmp_path / "new.engine"
    elif change == "no picture":
        for path in good.iterdir():
            path.unlink()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main([str(model), str(good), "-o", str(output), *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("stfpm-calibrate: error: ")
    assert expected in line
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
