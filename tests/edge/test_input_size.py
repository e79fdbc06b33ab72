"""The input size that is chosen from the good pictures."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file

from drawn_parts import draw_striped
from stfpm_edge.checkpoint import load_checkpoint
from stfpm_edge.cli import main
from stfpm_edge.input_size import SizeCandidate, candidate_sizes, choose_size, halve_large
from stfpm_edge.options import TrainOptions
from stfpm_edge.pictures.data import find_good_images
from stfpm_edge.recipes import PAPER
from stfpm_edge.teacher import load_teacher
from stfpm_edge.train import train_student
from stfpm_runtime.errors import DataError, OptionError
from stfpm_runtime.imaging.preprocessing import preprocess
from tiny_model import make_checkpoint


class Said:
    """A reporter that remembers, and presses Ctrl-C after an epoch when told to."""

    def __init__(self, stop_after=0):
        self.lines, self.stages, self.stop_after = [], set(), stop_after

    def say(self, text):
        self.lines.append(text)

    def step(self, stage, done, total, note=""):
        assert done <= total
        self.stages.add(stage)
        if stage == "student" and done == self.stop_after:
            raise KeyboardInterrupt


def write_strips(folder, count=12, repeats=3):
    """Write parts of 64 x (64 * repeats) pixels."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:03d}.png"), np.tile(draw_striped(rng), (1, repeats, 1)))
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file(make_checkpoint(blocks=(2, 3)).teacher.state_dict(), path)
    return str(path)


@pytest.fixture
def options(teacher, tmp_path):
    return TrainOptions(
        write_strips(tmp_path / "strips"), tmp_path / "model.safetensors", teacher=teacher, blocks=(2, 3),
        recipe=replace(PAPER, epochs=3, batch_size=4, lr=0.1), smallest_defect=0.1,
    )  # fmt: skip


@pytest.fixture
def short_sides(monkeypatch):
    monkeypatch.setattr("stfpm_edge.input_size.SHORT_SIDES", (32, 64))


def choose(options, said):
    teacher = load_teacher(options.teacher, options.backbone, options.blocks)
    return choose_size(teacher, find_good_images(options.data), options, said)


def sizes(record):
    return [(one["width"], one["height"]) for one in record["candidates"]]


@pytest.mark.parametrize(
    ("pictures", "expected"),
    [
        ([(400, 400)], [(256, 256), (320, 320), (384, 384)]),
        ([(1200, 400)], [(768, 256), (960, 320), (1152, 384)]),
        ([(500, 1260)], [(256, 640), (320, 800), (384, 960)]),
        ([(2000, 1500)], [(352, 256), (416, 320), (512, 384), (672, 512)]),
        ([(256, 282)], [(256, 256)]),  # 288 would be the nearer multiple of 32, but more than the picture has
        ([(80, 72)], [(64, 64)]),
        ([(300, 90)], [(224, 64)]),
        ([(20, 40)], [(32, 32)]),
        ([(400, 400), (1200, 400), (1200, 400)], [(768, 256), (960, 320), (1152, 384)]),
    ],
)
def test_candidates_have_the_aspect_ratio_of_the_pictures(pictures, expected):
    assert candidate_sizes(pictures) == expected


def test_an_elongated_product_gets_an_elongated_input(options, short_sides):
    said = Said()
    spec = train_student(options, said).spec
    record = spec.training["size"]
    assert sizes(record) == [(96, 32), (192, 64)]
    assert (spec.width, spec.height) == (record["width"], record["height"])
    assert spec.width == 3 * spec.height
    assert load_checkpoint(options.output).spec.training["size"] == record
    assert any(line.startswith(f"input size: {spec.width}x{spec.height}, ") for line in said.lines)
    assert not any("distorted" in line for line in said.lines)
    assert "input size" in said.stages


def test_the_smallest_is_chosen_where_all_see_the_defects(options, short_sides):
    record = choose(replace(options, smallest_defect=0.5), Said())
    small, large = record["candidates"]
    assert min(small["auroc"], large["auroc"]) > 0.98
    assert (record["width"], record["height"]) == (96, 32)


def test_a_larger_one_is_chosen_where_the_smallest_does_not_see_them(tmp_path, options, monkeypatch):
    """Defects of 2 of 128 pixels are half a pixel of an input of 32x32."""
    monkeypatch.setattr("stfpm_edge.input_size.SHORT_SIDES", (32, 128))
    folder, rng = tmp_path / "plain", np.random.default_rng(0)
    folder.mkdir()
    for number in range(8):
        picture = np.clip(120 + rng.normal(0, 2, (128, 128, 3)), 0, 255).astype(np.uint8)
        picture[:, 64:] += 60
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    options = replace(options, data=folder, smallest_defect=2 / 128, teacher="procedural")
    record = choose(options, Said())
    small, large = record["candidates"]
    assert large["auroc"] > small["auroc"] + 0.05
    assert large["found"] > small["found"]
    assert (record["width"], record["height"]) == (128, 128)


def test_the_same_pictures_give_the_same_choice(options, short_sides):
    first, second = choose(options, Said()), choose(options, Said())
    for record in (first, second):
        for one in record["candidates"]:
            assert one.pop("pytorch_ms") > 0
    assert first == second


def test_a_picture_smaller_than_the_candidates_has_one(good_images, options):
    record = choose(replace(options, data=good_images), Said())
    assert sizes(record) == [(64, 64)]
    assert record["reason"] == "the only one"


def test_a_large_picture_is_halved_as_its_resize_would_do_anyway():
    largest = SizeCandidate(672, 512, 1.0)
    frame = np.random.default_rng(0).integers(0, 256, (3000, 4001, 3), np.uint8)
    halved = halve_large(frame, largest)
    assert halved.shape == (1500, 2000, 3)
    assert np.array_equal(preprocess(halved, 512, 672), preprocess(frame, 512, 672))
    assert halve_large(halved, largest) is halved
    strip = np.zeros((1000, 5000, 3), np.uint8)
    assert halve_large(strip, SizeCandidate(2560, 512, 1.0)) is strip  # halved it would be smaller than the input


def test_what_is_above_the_budget_is_left_out(options, short_sides, monkeypatch):
    times = {32: 5.0, 64: 20.0}
    monkeypatch.setattr("stfpm_edge.input_size._milliseconds", lambda teacher, width, height, options: times[height])
    said = Said()
    record = choose(replace(options, budget_ms=10.0), said)
    assert (record["width"], record["height"], record["reason"]) == (96, 32, "the only one")
    assert record["candidates"][1]["auroc"] is None
    assert any("192x64" in line and "above the budget" in line for line in said.lines)
    with pytest.raises(OptionError, match=r"got --budget-ms 4; the smallest input, 96x32, takes 5.0 ms in PyTorch"):
        choose(replace(options, budget_ms=4.0), said)


def test_defects_that_are_hardly_seen_are_named(options, short_sides):
    said = Said()
    record = choose(replace(options, smallest_defect=0.005), said)
    assert max(one["auroc"] for one in record["candidates"]) < 0.7
    assert said.lines[-1].startswith("warning: defects of 0.5% of the long side, 1 of 192 pixels, are hardly seen")
    said = Said()
    choose(replace(options, smallest_defect=0.5), said)
    assert not any("warning" in line for line in said.lines)


def test_one_picture_is_too_few(options):
    for path in find_good_images(options.data)[1:]:
        path.unlink()
    with pytest.raises(DataError, match="got 1 pictures to choose the size; expected 2 or more"):
        choose(options, Said())


def test_a_continued_training_keeps_its_size(options, short_sides, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        train_student(options, Said(stop_after=1))
    monkeypatch.setattr("stfpm_edge.input_size.SHORT_SIDES", (64,))  # chosen again it would be another one
    for other, message in (
        ({"smallest_defect": 0.2}, r"smallest_defect \(was 0.1, is 0.2\)"),
        ({"smallest_defect": None}, r"smallest_defect \(was 0.1, is None\)"),
        ({"budget_ms": 1e6}, r"budget_ms \(was None, is 1000000.0\)"),
    ):
        with pytest.raises(OptionError, match=message):
            train_student(replace(options, resume=True, **other), Said())
    said = Said()
    record = train_student(replace(options, resume=True), said).spec.training["size"]
    assert "input size" not in said.stages
    assert sizes(record) == [(96, 32), (192, 64)]


def command(options, data, *more):
    return [
        str(data), "--teacher", options.teacher, "--blocks", "2,3", "--recipe", "paper", "--epochs", "1",
        "--batch-size", "4", "--lr", "0.1", "--device", "cpu", *more,
    ]  # fmt: skip


def test_each_of_several_products_gets_its_own_size(options, tmp_path, short_sides, capsys):
    for name, repeats in (("cap", 1), ("strip", 2)):
        write_strips(tmp_path / "plant" / name / "train" / "good", repeats=repeats)
    run = command(options, tmp_path / "plant", "--all", "-o", str(tmp_path / "models"), "--size", "auto",
                  "--smallest-defect", "0.1")  # fmt: skip
    assert main(run) == 0
    specs = [load_checkpoint(tmp_path / "models" / f"{name}.safetensors").spec for name in ("cap", "strip")]
    assert [spec.width // spec.height for spec in specs] == [1, 2]
    capsys.readouterr()
    assert main(run) == 0
    assert capsys.readouterr().err.count("done already") == 2
    assert main([*run, "--smallest-defect", "0.2"]) == 1
    assert capsys.readouterr().err.count("smallest_defect (was 0.1, is 0.2)") == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--size", "auto", "--smallest-defect", "0"], "got a smallest defect of 0 of the long side; expected above 0"),
        (["--size", "auto", "--smallest-defect", "0.6"], "got a smallest defect of 0.6"),
        (["--size", "auto", "--smallest-defect", "nan"], "got a smallest defect of nan"),
        (["--size", "auto", "--budget-ms", "0"], "got a budget of 0 ms; expected a number above 0"),
        (["--size", "auto", "--budget-ms", "inf"], "got a budget of inf ms"),
        (["--size", "auto", "--budget-ms", "0.001"], "got --budget-ms 0.001; the smallest input, 192x64, takes"),
        (["--budget-ms", "10"], "got --smallest-defect or --budget-ms with --size 256; expected --size auto"),
        (["--size", "64", "--smallest-defect", "0.1"], "with --size 64; expected --size auto with them"),
        (["--size", "automatic"], "got --size automatic; expected one side in pixels"),
    ],
)
def test_a_bad_value_gives_one_line(options, capsys, more, message):
    assert main(command(options, options.data, "-o", str(options.output), *more)) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("stfpm-train: error: ")
    assert message in last
    assert not options.output.exists()


def test_a_budget_needs_a_size_to_be_chosen(options):
    with pytest.raises(OptionError, match="got a budget of 5 ms for a fixed input size; expected --size auto"):
        replace(options, smallest_defect=None, budget_ms=5.0)
