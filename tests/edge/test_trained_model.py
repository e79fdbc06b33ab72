"""A small model that is really trained: what it is worth after the export, and what its held-out scores tell."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from drawn_parts import SIDE, draw_striped, write_good
from stfpm_edge.calibration.threshold import score_images
from stfpm_edge.checkpoint import load_checkpoint, load_tensors, resume_path, save_checkpoint
from stfpm_edge.model import distance, loss, normalise_images, unit
from stfpm_edge.networks import new_student
from stfpm_edge.options import TrainOptions
from stfpm_edge.pictures.data import find_good_images, read_images, split_images
from stfpm_edge.recipes import PAPER
from stfpm_edge.train import train_student
from stfpm_eval.cli import main as gate_main
from stfpm_eval.metrics import auroc
from stfpm_export.export import ExportOptions, export_checkpoint
from stfpm_runtime import Detector, open_engine
from stfpm_runtime.artifact.calibration import find_outliers
from stfpm_runtime.artifact.conformal import conformal_threshold

GOOD = 40


class Listener:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        pass


def options(folder, output, **changes):
    recipe = replace(PAPER, batch_size=2, **{"epochs": 6, **changes})
    return TrainOptions(folder, output, "procedural", height=SIDE, width=SIDE, recipe=recipe, device="cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("striped")
    write_good(folder / "parts", GOOD)
    return train_student(options(folder / "parts", folder / "striped.safetensors"), Listener())


def test_the_exported_file_tells_stained_parts_from_good_ones(trained, tmp_path):
    save_checkpoint(trained, tmp_path / "striped.safetensors")
    export_checkpoint(ExportOptions(tmp_path / "striped.safetensors", tmp_path / "striped.onnx"), print)
    rng = np.random.default_rng(1)
    parts = np.stack([draw_striped(rng, stained) for stained in (False, True) for _ in range(24)])
    scores = open_engine(tmp_path / "striped.onnx").infer(parts)[1]
    assert auroc(scores[:24], scores[24:]) >= 0.95
    untrained = replace(trained, student=new_student("resnet18", (2, 3, 4), 0).eval())
    scores = np.asarray(score_images(untrained.model(), parts))
    assert auroc(scores[:24], scores[24:]) < 0.9  # else the floor would say nothing


def validation_error(checkpoint, images):
    x = normalise_images(torch.from_numpy(images))
    with torch.inference_mode():
        pairs = zip(checkpoint.teacher(x), checkpoint.student(x), strict=True)
        return loss([distance(unit(one), unit(other)) for one, other in pairs], (1.0,) * 3).item()


def test_the_weights_of_the_best_epoch_are_the_ones_written(tmp_path):
    write_good(tmp_path / "parts", 24)
    chosen = options(tmp_path / "parts", tmp_path / "m.safetensors", epochs=7)

    class Setback(Listener):
        """Interrupts after the sixth epoch, and gives the student random weights, as a training that diverges has."""

        def step(self, stage: str, done: int, total: int, note: str = "") -> None:
            if stage == "student" and done == 6:
                tensors, metadata = load_tensors(resume_path(chosen.output))
                for name, tensor in new_student("resnet18", (2, 3, 4), 9).state_dict().items():
                    tensors[f"student.{name}"] = tensor
                save_file(tensors, resume_path(chosen.output), metadata)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_student(chosen, Setback())
    train_student(replace(chosen, resume=True), Listener())
    checkpoint = load_checkpoint(chosen.output)
    errors = checkpoint.spec.training["validation_errors"]
    assert len(errors) == 7
    assert checkpoint.spec.training["best_epoch"] == 6
    assert min(errors) == errors[5] < 0.9 * errors[6]  # else the next line would say nothing
    images, _ = read_images(find_good_images(chosen.data), SIDE, SIDE, skip_unreadable=False, report=print)
    validation = split_images(len(images), 0.2, 1.0, seed=0).validation
    assert validation_error(checkpoint, images[validation]) == pytest.approx(errors[5], rel=1e-4)


@pytest.mark.parametrize(("held_out", "rate"), [(19, 0.1), (50, 0.05)])
def test_good_parts_are_rejected_as_often_as_guaranteed_over_200_random_splits(trained, held_out, rate):
    rng = np.random.default_rng(2)
    pool = np.asarray(score_images(trained.model(), np.stack([draw_striped(rng) for _ in range(150)])))
    alarms = []
    for _ in range(200):
        scores = rng.permutation(pool)
        threshold = conformal_threshold(scores[:held_out].tolist(), rate)
        alarms.append(np.mean(scores[held_out:] > threshold.value))
    three_sigma = 3 * np.std(alarms) / len(alarms) ** 0.5
    assert three_sigma < 0.3 * rate
    assert np.mean(alarms) == pytest.approx(threshold.guaranteed_rate, abs=three_sigma)


def test_a_held_out_picture_far_from_the_rest_is_named_with_the_threshold_without_it(tmp_path):
    paths = write_good(tmp_path / "parts", GOOD)
    first, second = (paths[index] for index in split_images(GOOD, 0.4, 1.0, seed=0).calibration[1:3])
    for path in (first, second):  # as a picture whose lower half was lost
        damaged = cv2.imread(str(path))
        damaged[SIDE // 2 :] = (0, 255, 0)
        cv2.imwrite(str(path), damaged)
    listener = Listener()
    chosen = replace(options(tmp_path / "parts", tmp_path / "m.safetensors"), val_fraction=0.4)
    spec = train_student(chosen, listener).spec
    warning, remedy = (line for line in listener.said if "far above the rest" in line or "without these" in line)
    assert "2 of 8 held-out images" in warning
    assert str(first) in warning
    assert str(second) in warning
    outliers = spec.training["held_out_outliers"]
    assert set(outliers["scores"]) == {str(first), str(second)}
    rest = sorted(spec.held_out_scores)[:-2]
    assert outliers["threshold_without"] == rest[-1] < spec.threshold == max(spec.held_out_scores)
    assert f"without these images it would be {rest[-1]:.4g}" in remedy


def test_scores_close_to_one_another_give_no_outliers(trained):
    assert trained.spec.training["held_out_outliers"] == {}
    assert find_outliers([0.2, 0.2, 0.2, 0.2, 0.25]) == []  # nearly equal: 5% of the median counts as the deviation
    assert find_outliers([0.1, 0.2, 9.0]) == []  # too few to tell
    assert find_outliers([0.1, 0.11, 0.5, 0.12, 0.9, 0.1, 0.11]) == [4, 2]


def test_outliers_of_another_size_are_found_again(trained, tmp_path):
    stored = replace(trained.spec, training=trained.spec.training | {"held_out_outliers": {"scores": {"x": 1.0}}})
    save_checkpoint(replace(trained, spec=stored), tmp_path / "c.safetensors")
    spec, _ = export_checkpoint(ExportOptions(tmp_path / "c.safetensors", tmp_path / "m.onnx", size=(48, 48)), print)
    assert "x" not in spec.training["held_out_outliers"].get("scores", {})


@pytest.fixture(scope="module")
def striped(trained, tmp_path_factory):
    """The trained model as a file, and pictures of good and stained parts that it decides rightly."""
    folder = tmp_path_factory.mktemp("gate")
    save_checkpoint(trained, folder / "striped.safetensors")
    export_checkpoint(ExportOptions(folder / "striped.safetensors", folder / "striped.onnx"), print)
    detector, rng = Detector(open_engine(folder / "striped.onnx")), np.random.default_rng(3)
    for kind, stained, expected in (("good", False, "pass"), ("stained", True, "reject")):
        (folder / kind).mkdir()
        drawn = (draw_striped(rng, stained) for _ in range(120))
        pictures = [picture for picture in drawn if detector.inspect(picture).decision == expected][:50]
        assert len(pictures) == 50
        for number, picture in enumerate(pictures):
            cv2.imwrite(str(folder / kind / f"{number}.png"), picture)
    return folder


def gate(folder, new) -> int:
    known = ["--must-reject", folder / "stained", "--must-pass", folder / "good", "--against", folder / "striped.onnx"]
    return gate_main([str(part) for part in [new, *known]])


def test_a_model_of_too_short_a_training_may_not_replace_a_good_one(striped, trained, tmp_path, capsys):
    write_good(tmp_path / "parts", GOOD)
    short = options(tmp_path / "parts", tmp_path / "short.safetensors", epochs=1, lr=0.001)
    train_student(replace(short, name=trained.spec.name), Listener())
    export_checkpoint(ExportOptions(short.output, tmp_path / "short.onnx"), print)
    assert gate(striped, tmp_path / "short.onnx") == 1
    assert "it must not replace the model in use" in capsys.readouterr().err
    assert gate(striped, striped / "striped.onnx") == 0


def test_a_model_with_a_broken_convolution_or_of_another_product_may_not_either(striped, trained, tmp_path, capsys):
    path = tmp_path / "int8.onnx"
    export_checkpoint(
        ExportOptions(striped / "striped.safetensors", path, precision="int8", allow_parity_loss=True), print
    )
    model = onnx.load(path)
    weights = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT8 and len(one.dims) == 4]
    broken = max(weights, key=lambda one: np.prod(one.dims))
    broken.CopyFrom(onnx.numpy_helper.from_array(np.zeros(broken.dims, np.int8), broken.name))
    onnx.save(model, tmp_path / "broken.onnx")
    assert gate(striped, tmp_path / "broken.onnx") == 1
    assert "it must not replace the model in use" in capsys.readouterr().err
    other = replace(trained, spec=replace(trained.spec, name="button"))
    save_checkpoint(other, tmp_path / "button.safetensors")
    export_checkpoint(ExportOptions(tmp_path / "button.safetensors", tmp_path / "button.onnx"), print)
    assert gate(striped, tmp_path / "button.onnx") == 1
    assert "expected two of one product" in capsys.readouterr().err
