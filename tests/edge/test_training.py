from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stfpm_edge import cli
from stfpm_edge.calibration.threshold import score_images
from stfpm_edge.checkpoint import load_checkpoint, load_tensors, resume_path, save_checkpoint
from stfpm_edge.cli import main
from stfpm_edge.inputs import USES
from stfpm_edge.options import TrainOptions
from stfpm_edge.pictures.data import split_images
from stfpm_edge.recipes import PAPER, PLUS, Recipe
from stfpm_edge.train import train_student
from stfpm_runtime.dataset.extend import ExtendOptions, extend
from stfpm_runtime.dataset.manifest import MANIFEST
from stfpm_runtime.errors import DataError, OptionError, OutputError, TrainingError
from stfpm_runtime.files import sha256


class Silent:
    """A reporter that remembers, and presses Ctrl-C after an epoch when told to."""

    def __init__(self, stop_after: int = 0) -> None:
        self.said: list[str] = []
        self.stages: set[str] = set()
        self.stop_after = stop_after

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        self.stages.add(stage)
        if stage == "student" and done == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    from tiny_model import make_checkpoint

    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file(make_checkpoint(blocks=(2, 3)).teacher.state_dict(), path)
    return str(path)


@pytest.fixture
def options(good_images, teacher, tmp_path):
    return TrainOptions(
        good_images, tmp_path / "model.safetensors", teacher=teacher, blocks=(2, 3), height=32, width=32,
        recipe=replace(PAPER, epochs=4, batch_size=4, lr=0.1),
    )  # fmt: skip


def changed(options, **values):
    """The options with other values, some of them the recipe's."""
    names = {field.name for field in fields(Recipe)}
    recipe = replace(options.recipe, **{name: value for name, value in values.items() if name in names})
    return replace(options, recipe=recipe, **{name: value for name, value in values.items() if name not in names})


def weights(path):
    return {name: tensor for name, tensor in load_tensors(path)[0].items() if name.startswith("student.")}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_training_writes_a_calibrated_checkpoint(options):
    said = Silent()
    train_student(options, said)
    loaded = load_checkpoint(options.output)
    spec = loaded.spec
    assert (spec.name, spec.blocks, spec.input_shape) == (options.data.name, (2, 3), (32, 32, 3))
    assert len(spec.held_out_scores) == len(loaded.held_out_images) == 1  # of ten: one more chooses the epoch
    assert spec.training["images"]["validation"] == 1
    assert spec.threshold == max(spec.held_out_scores)
    assert spec.false_alarm_rate == pytest.approx(1 / 2)
    assert any("guarantee a false-alarm rate of 50.0% at the lowest, not 1.0%" in line for line in said.said)
    assert any("99 held-out images are needed" in line for line in said.said)
    losses, errors = spec.training["losses"], spec.training["validation_errors"]
    assert losses[-1] < losses[0]
    assert spec.training["best_epoch"] == 1 + errors.index(min(errors))
    levels = [cv2.imread(str(path)).mean() for path in sorted(options.data.rglob("*.png"))]
    assert spec.grey_levels == pytest.approx((np.mean(levels), np.std(levels)), abs=3)
    assert not resume_path(options.output).exists()


@pytest.mark.parametrize("recipe", [PAPER, PLUS], ids=["paper", "plus"])
def test_an_interrupted_training_reaches_the_same_weights(options, tmp_path, recipe):
    options = replace(options, recipe=replace(recipe, epochs=4, batch_size=4, least_steps=0))
    train_student(options, Silent())
    other = replace(options, output=tmp_path / "resumed.safetensors")
    with pytest.raises(KeyboardInterrupt):
        train_student(other, Silent(stop_after=2))
    assert not other.output.exists()
    with pytest.raises(OutputError, match="continue it with --resume, or delete it"):
        train_student(other, Silent())
    said = Silent()
    train_student(replace(other, resume=True), said)
    assert any("continuing after epoch 2 of 4" in line for line in said.said)
    assert same(weights(options.output), weights(other.output))
    assert (
        load_checkpoint(other.output).spec.training["losses"] == load_checkpoint(options.output).spec.training["losses"]
    )


def test_other_options_do_not_continue_a_training(options):
    with pytest.raises(KeyboardInterrupt):
        train_student(options, Silent(stop_after=1))
    said = Silent()
    with pytest.raises(OptionError, match=r"differs in lr \(was 0.1, is 0.2\)"):
        train_student(changed(options, resume=True, lr=0.2), said)
    assert "teacher" not in said.stages  # its features are not computed before that is known


def test_the_one_cycle_schedule_cannot_be_lengthened(options):
    options = replace(options, recipe=replace(PLUS, epochs=3, batch_size=4, least_steps=0))
    with pytest.raises(KeyboardInterrupt):
        train_student(options, Silent(stop_after=1))
    with pytest.raises(OptionError, match=r"differs in epochs \(was 3, is 4\)"):
        train_student(changed(options, resume=True, epochs=4), Silent())


def test_plus_keeps_the_last_epoch_and_chooses_a_head(options):
    options = replace(options, recipe=replace(PLUS, epochs=2, batch_size=4, least_steps=6), folds=0)
    said = Silent()
    checkpoint = train_student(options, said)
    record = checkpoint.spec.training
    assert (record["best_epoch"], record["epochs"]) == (3, 3)  # 2 steps an epoch
    assert record["validation_errors"] == []
    assert record["images"]["validation"] == 1
    assert len(checkpoint.spec.held_out_scores) == 1
    assert record["head"]["chosen"] in record["head"]["synthetic_auroc"]
    assert checkpoint.spec.recipe == "plus"
    assert any("synthetic defects would be found" in line for line in said.said)
    loaded = load_checkpoint(options.output)
    image = torch.from_numpy(loaded.held_out_images[0][None])
    _, scores = loaded.model()(image)
    assert scores.item() == pytest.approx(checkpoint.spec.held_out_scores[0], rel=1e-5)


def test_the_student_alone_sees_synthetic_defects(options, monkeypatch):
    """It is compared with the features of the pictures without them, and only while it learns."""
    drawn = []

    def draw(images, share, random):
        drawn.append((len(images), share, random.integers(1000)))
        return 255 - images

    recipe = replace(PLUS, epochs=2, batch_size=4, least_steps=0)
    without = replace(recipe, defect_share=0.0)
    plain = train_student(replace(options, recipe=without, folds=0), Silent()).spec.training["losses"]
    options.output.unlink()
    monkeypatch.setattr("stfpm_edge.epochs.draw_into", draw)
    spec = train_student(replace(options, recipe=replace(recipe, defect_share=0.25), folds=0), Silent()).spec
    assert [one[:2] for one in drawn] == [(4, 0.25)] * 4  # 2 steps an epoch
    assert len({one[2] for one in drawn}) == 4
    assert spec.training["options"]["recipe"]["defect_share"] == 0.25
    assert spec.training["losses"][0] != pytest.approx(plain[0], rel=1e-4)
    with pytest.raises(OptionError, match="expected 0 to 1"):
        replace(PLUS, defect_share=1.5)


def test_few_images_train_and_calibrate_all(options):
    options = replace(options, recipe=replace(PLUS, epochs=2, batch_size=4, least_steps=0), false_alarm_rate=0.1)
    said = Silent()
    checkpoint = train_student(options, said)
    spec = checkpoint.spec
    assert len(spec.held_out_scores) == 10
    assert spec.training["images"]["train"] == 10
    assert spec.false_alarm_rate == pytest.approx(1 / 11)
    assert spec.threshold_set_by == "cross-conformal prediction in 4 folds on 10 held-out images, 10.00% wished"
    assert "folds" in said.stages
    assert spec.folds == 4
    assert any("is expected, not guaranteed" in line for line in said.said)
    assert any("10 images to train on, which also choose the score and, in 4 folds" in line for line in said.said)
    assert checkpoint.held_out_images == []
    own = score_images(checkpoint.model(), np.stack(checkpoint.train_images))
    assert np.mean(own) < np.mean(spec.held_out_scores)  # those were scored by students that had not seen them


def test_a_smallest_area_is_calibrated_like_the_maximum(options):
    options = replace(options, recipe=replace(PLUS, epochs=2, batch_size=4, least_steps=0), folds=0, min_area=30)
    checkpoint = train_student(options, Silent())
    assert (checkpoint.spec.min_area, checkpoint.spec.top_share) == (30, None)
    assert not any("mean of the highest" in name for name in checkpoint.spec.training["head"]["synthetic_auroc"])
    maps, scores = checkpoint.model()(torch.from_numpy(np.stack(checkpoint.held_out_images)))
    assert checkpoint.spec.held_out_scores == pytest.approx(scores.tolist(), rel=1e-5)
    assert (scores < maps.amax(dim=(1, 2))).all()
    with pytest.raises(OptionError, match="got a smallest area of 0"):
        replace(options, min_area=0)


def test_folds_that_make_no_sense(options):
    with pytest.raises(OptionError, match="got 1 folds; expected 0, or 2 or more"):
        replace(options, folds=1)
    with pytest.raises(OptionError, match="got 3 folds with the recipe paper"):
        replace(options, folds=3)


def test_the_number_of_folds_does_not_change_when_a_training_is_continued(options):
    """The student would have seen the images that are then held out."""
    options = replace(options, recipe=replace(PLUS, epochs=3, batch_size=4, least_steps=0))
    with pytest.raises(KeyboardInterrupt):
        train_student(options, Silent(stop_after=1))
    with pytest.raises(OptionError, match=r"differs in training_images \(was 10, is 8\)"):
        train_student(replace(options, resume=True, folds=0), Silent())


def test_a_kill_in_the_folds_changes_no_score(options, tmp_path):
    class Killed(Silent):
        def step(self, stage, done, total, note=""):
            if stage == "folds" and done == 2:
                raise KeyboardInterrupt

    options = replace(options, recipe=replace(PLUS, epochs=2, batch_size=4, least_steps=0))
    whole = train_student(options, Silent())
    other = replace(options, output=tmp_path / "other.safetensors")
    with pytest.raises(KeyboardInterrupt):
        train_student(other, Killed())
    resumed = train_student(replace(other, resume=True), Silent())
    assert resumed.spec.held_out_scores == whole.spec.held_out_scores
    assert same(weights(options.output), weights(other.output))


def test_a_smallest_area_that_no_defect_has_is_refused(options):
    with pytest.raises(OptionError, match="smallest area of 257 pixels for a map of 32x32; expected at most a quarter"):
        replace(options, min_area=257)


def test_no_threshold_is_set_by_images_that_the_first_student_has_seen(options, tmp_path):
    train_student(options, Silent())
    first = load_checkpoint(options.output).spec.training
    more = changed(options, init_from=options.output, output=tmp_path / "more.safetensors", epochs=1)
    seen = set(split_images(10, 0.2, 1.0, 0).train)
    seed = next(seed for seed in range(1, 100) if set(split_images(10, 0.2, 1.0, seed).calibration) <= seen)
    second = train_student(replace(more, seed=seed), Silent()).spec.training
    assert second["images"]["held_out"] == first["images"]["held_out"]
    assert set(first["trained_on"]) <= set(second["trained_on"])
    with pytest.raises(OptionError, match=r"was trained on 8 or more of the 10 images"):
        train_student(replace(more, recipe=replace(PLUS, epochs=1, batch_size=4)), Silent())


def test_a_parent_that_does_not_say_what_it_has_seen_is_compared_by_its_images(options, tmp_path):
    train_student(options, Silent())
    parent = load_checkpoint(options.output)
    training = {key: value for key, value in parent.spec.training.items() if key not in USES}
    save_checkpoint(replace(parent, spec=replace(parent.spec, training=training)), options.output)
    more = changed(options, init_from=options.output, output=tmp_path / "more.safetensors", epochs=1)
    seen = set(split_images(10, 0.2, 1.0, 0).train)
    seed = next(seed for seed in range(1, 100) if set(split_images(10, 0.2, 1.0, seed).calibration) <= seen)
    with pytest.raises(OptionError, match="was trained on 1 or more of the 1 images that are to set the threshold"):
        train_student(replace(more, seed=seed), Silent())


def test_a_training_records_its_manifest_and_who_made_it(options, tmp_path):
    shutil.copytree(options.data, tmp_path / "data/train/good")
    options = replace(options, data=tmp_path / "data")
    extend(ExtendOptions(options.data))
    manifest = options.data / MANIFEST
    with pytest.raises(OptionError, match="is not the manifest of"):
        replace(options, manifest=tmp_path / "other" / MANIFEST)
    asked = changed(options, manifest=manifest, by="Ada", epochs=1)
    training = train_student(asked, Silent()).spec.training
    assert (training["manifest_sha256"], training["by"]) == (sha256(manifest), "Ada")
    picture = next((options.data / "train/good").iterdir())
    picture.write_bytes(picture.read_bytes() + b"x")
    with pytest.raises(DataError, match="was changed since it was entered"):
        train_student(replace(asked, output=tmp_path / "other.safetensors"), Silent())


def test_a_training_starts_from_an_existing_student(options, tmp_path):
    train_student(options, Silent())
    first = load_checkpoint(options.output).spec.training["losses"]
    more = changed(options, init_from=options.output, output=tmp_path / "more.safetensors", epochs=1)
    train_student(more, Silent())
    spec = load_checkpoint(more.output).spec
    assert spec.training["losses"][0] < first[1]
    assert spec.training["options"]["init_from"] == "model.safetensors"
    with pytest.raises(OptionError, match=r"cannot be trained on, it differs in blocks \(was \[2, 3\], is \[2\]\)"):
        train_student(changed(more, blocks=(2,), output=tmp_path / "other.safetensors"), Silent())


def test_features_in_a_file_give_the_same_weights(options, tmp_path, monkeypatch):
    train_student(options, Silent())
    monkeypatch.setattr("stfpm_edge.features.MEMORY_SHARE", 0.0)
    other = replace(options, output=tmp_path / "other.safetensors")
    train_student(other, Silent())
    assert same(weights(options.output), weights(other.output))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.safetensors", "other.safetensors"]


def test_a_seed_changes_the_student(options, tmp_path):
    train_student(changed(options, epochs=1), Silent())
    other = changed(options, epochs=1, seed=1, output=tmp_path / "other.safetensors")
    train_student(other, Silent())
    assert not same(weights(options.output), weights(other.output))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_best(options):
    with pytest.raises(TrainingError, match="not finite in epoch 1; lower the learning rate"):
        train_student(changed(options, lr=1e38), Silent())
    assert not options.output.exists()

    class Poison(Silent):
        """Breaks the images after the second epoch, as a loss that diverges would the weights."""

        def step(self, stage, done, total, note=""):
            if stage == "student" and done == 2:
                tensors, metadata = load_tensors(resume_path(options.output))
                tensors["student.conv1.weight"].fill_(torch.nan)
                save_file(tensors, resume_path(options.output), metadata)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_student(options, Poison())
    with pytest.raises(
        TrainingError, match=r"not finite in epoch 3; the student of epoch \d is in .*model.safetensors"
    ):
        train_student(replace(options, resume=True), Silent())
    assert load_checkpoint(options.output).spec.training["epochs"] == 2
    assert not resume_path(options.output).exists()


def test_a_last_batch_of_one_does_no_harm(options, tmp_path):
    """Of 8 training images, a batch of 7 would leave one alone: it joins the others, as with a batch of 8."""
    seven, eight = (
        changed(options, batch_size=size, epochs=2, output=tmp_path / f"{size}.safetensors") for size in (7, 8)
    )
    train_student(seven, Silent())
    train_student(eight, Silent())
    assert same(weights(seven.output), weights(eight.output))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 8}, "a height of 8 pixels; expected 32 or more"),
        ({"epochs": 0}, "got epochs 0; expected 1 or more"),
        ({"batch_size": 1}, "got batch size 1; expected 2 or more"),
        ({"lr": float("nan")}, "a learning rate of nan"),
        ({"block_weights": (1.0,)}, "1 block weights for 2 blocks"),
        ({"block_weights": (1.0, float("nan"))}, r"got block weights \[1.0, nan\]; expected numbers above 0"),
        ({"blocks": (1, 2)}, r"got blocks \[1, 2\]"),
        ({"backbone": "resnet19"}, "got backbone 'resnet19'"),
        ({"false_alarm_rate": 2}, "a false-alarm rate of 2 was asked for"),
        ({"val_fraction": 1.0}, "got a validation fraction of 1.0"),
        ({"train_fraction": 0.0}, "got a training fraction of 0.0"),
        ({"seed": -1}, "got seed -1; expected 0 to 2147483647"),
        ({"momentum": 1.0}, "got a momentum of 1.0"),
        ({"weight_decay": -1.0}, "a weight decay of -1.0"),
    ],
)
def test_options_that_make_no_sense(options, change, message):
    with pytest.raises(OptionError, match=message):
        changed(options, **change)


def test_a_device_that_is_not_there(options):
    with pytest.raises(OptionError, match="device cuda:99: cannot be used"):
        train_student(replace(options, device="cuda:99"), Silent())


def command(options, *more):
    return [
        str(options.data), "-o", str(options.output), "--teacher", options.teacher, "--blocks", "2,3",
        "--size", "32", "--recipe", "paper", "--batch-size", "4", "--lr", "0.1", *more,
    ]  # fmt: skip


def test_the_command(options, capsys):
    assert main(command(options, "--epochs", "2", "--size", "48x32", "--name", "cap")) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 2/2: loss" in err
    assert f"next: stfpm-export {options.output}" in err
    plot = ElementTree.parse(options.output.with_suffix(".svg"))
    assert len(plot.findall(".//{*}polyline")) == 2  # the paper's recipe has a validation error, too
    assert len(plot.findall(".//{*}circle")) == len(load_checkpoint(options.output).spec.held_out_scores)
    spec = load_checkpoint(options.output).spec
    assert (spec.name, spec.width, spec.height) == ("cap", 48, 32)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--size", "big"], "got --size big; expected one side"),
        (["--blocks", "a"], "got --blocks a; expected whole numbers"),
        (["--blocks", "1,2"], "got blocks [1, 2]; expected"),
        (["--val-fraction", "0.95"], "10 images are too few"),
        (["--blocks", "2.9"], "got --blocks 2.9; expected whole numbers"),
        (["--blocks", "inf"], "got --blocks inf; expected whole numbers"),
        (["--seed", "-1"], "got seed -1"),
        (["--false-alarm-rate", "0"], "a false-alarm rate of 0.0 was asked for"),
        (["--false-alarm-rate", "2"], "a false-alarm rate of 2.0 was asked for"),
        (["--teacher", "nowhere.pth"], "teacher nowhere.pth: no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(options, capsys, more, message):
    assert main(command(options, "--epochs", "1", *more)) == 1
    error = capsys.readouterr().err
    last = error.strip().splitlines()[-1]
    assert last.startswith("stfpm-train: error: ")
    assert message in last
    assert "epoch" not in error  # it is found before any work
    assert not options.output.exists()


def test_an_output_that_cannot_be_written_is_found_before_the_work(options, capsys, tmp_path):
    (tmp_path / "file").touch()
    blocked = replace(options, output=tmp_path / "file" / "model.safetensors")
    assert main(command(blocked)) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert main([str(options.data), "-o", str(tmp_path / "model.onnx")]) == 1
    assert "expected a file ending in .safetensors" in capsys.readouterr().err


def test_a_kill_loses_at_most_one_epoch(options, tmp_path):
    run = [sys.executable, "-m", "stfpm_edge.cli", *command(options, "--epochs", "100000")]
    process = subprocess.Popen(run, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 300
    while not resume_path(options.output).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)  # some epochs more, to be killed in the middle of one
    process.send_signal(signal.SIGKILL)
    _, err = process.communicate()
    assert resume_path(options.output).exists(), err
    seen = sum(line.startswith("epoch ") for line in err.splitlines())
    said = Silent(stop_after=seen + 2)
    with pytest.raises(KeyboardInterrupt):
        train_student(changed(options, resume=True, epochs=100000), said)
    kept = int(next(line for line in said.said if line.startswith("continuing")).split()[3])
    assert kept in (seen, seen + 1)  # the state is written before the epoch is told of


def test_sigterm_ends_a_training_as_ctrl_c_does(options):
    run = [sys.executable, "-m", "stfpm_edge.cli", *command(options, "--epochs", "100000")]
    with subprocess.Popen(
        run, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        while process.poll() is None and not resume_path(options.output).exists():
            time.sleep(0.05)
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert err.splitlines()[-2:] == [
        "interrupted: continue with the same command and --resume", "stfpm-train: interrupted",
    ]  # fmt: skip


def test_a_log_says_how_long_a_training_will_take(capsys, monkeypatch):
    seconds = iter((100.0, 102.0, 102.0, 104.0, 104.0, 106.0, 106.0))
    monkeypatch.setattr(cli.time, "monotonic", lambda: next(seconds))
    reporter = cli.TerminalReporter()
    for epoch in (1, 2, 3):
        reporter.step("student", epoch, 4, "loss 0.5")
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1/4: loss 0.5", "epoch 2/4: loss 0.5, 4 s left", "epoch 3/4: loss 0.5, 2 s left",
    ]  # fmt: skip
