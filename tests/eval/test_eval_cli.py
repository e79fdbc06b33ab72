"""`stfpm-eval` end to end: a model file and folders in, figures and exit codes out."""

from __future__ import annotations

import hashlib
import json

import pytest

from stfpm_eval.cli import main


@pytest.fixture
def figures(capsys):
    """Runs `stfpm-eval ... --json` and gives what it prints."""

    def figures(*argv):
        assert main([*map(str, argv), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return figures


def test_json_names_the_artifact_and_has_all_metrics(figures, make_model, make_category):
    model = make_model(precision="int8")
    report = figures(model, make_category())
    assert report["schema"] == 1
    assert report["data"] == "bottle"
    assert report["model"] == {
        "path": str(model),
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "name": "bottle",
        "precision": "int8",
        "provider": "CPUExecutionProvider",
        "threshold": 50.0,
    }
    (category,) = report["categories"]
    assert category["image_auroc"] == pytest.approx(5 / 6)
    assert category["defects"][1] == {"name": "scratch", "images": 2, "image_auroc": 0.75, "missed": 1}
    assert report["mean"] == {name: category[name] for name in ("image_auroc", "pixel_auroc", "pro")}


def test_report_of_many_categories_has_a_mean(figures, make_model, make_category):
    data = make_category("bottle").parent
    make_category("screw", channel=2)  # black to the model: AUROC 0.5, PRO 0.15
    report = figures(make_model(), data)
    assert [category["name"] for category in report["categories"]] == ["bottle", "screw"]
    assert report["data"] == "data"
    assert report["mean"]["image_auroc"] == pytest.approx((5 / 6 + 0.5) / 2)
    assert report["mean"]["pro"] == pytest.approx((report["categories"][0]["pro"] + 0.15) / 2)


def test_metric_that_one_category_lacks_has_no_mean(figures, make_model, make_category):
    data = make_category("bottle").parent
    make_category("screw", masks=False)
    report = figures(make_model(), data)
    assert report["categories"][1]["pro"] is None
    assert report["mean"] == {"image_auroc": pytest.approx(5 / 6), "pixel_auroc": None, "pro": None}


def test_table_is_for_people(make_model, make_category, capsys):
    data = make_category("bottle").parent
    make_category("screw", masks=False)
    assert main([str(make_model()), str(data)]) == 0
    out, err = capsys.readouterr()
    assert "bottle.onnx (fp32, CPUExecutionProvider, threshold 50) on data" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["bottle", "2", "3", "0.8333", "0.9307", "0.7691", "1", "1"] in rows
    assert ["scratch", "2", "0.7500", "1"] in rows
    assert ["screw", "2", "3", "0.8333", "-", "-", "1", "1"] in rows
    assert ["mean", "0.8333", "-", "-"] in rows
    assert "screw: no ground_truth folder: image AUROC alone, no pixel metrics" in out
    assert err == ""


def test_json_goes_to_a_file_and_the_table_to_stdout(make_model, make_category, tmp_path, capsys):
    output = tmp_path / "results" / "bottle.json"
    arguments = [str(make_model()), str(make_category())]
    assert main([*arguments, "--json", str(output)]) == 0
    assert "0.8333" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    assert json.loads(output.read_text()) == json.loads(capsys.readouterr().out)
    assert [path.name for path in output.parent.iterdir()] == ["bottle.json"]


def test_unreadable_image_is_named_and_fails_unless_skipped(make_model, make_category, capsys):
    folder = make_category()
    (folder / "test" / "dent" / "000.png").write_bytes(b"")
    arguments = [str(make_model()), str(folder), "--json"]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "stfpm-eval: unreadable: bottle/test/dent/000.png: the file is empty" in err
    assert "stfpm-eval: error: 1 pictures of" in err
    assert "--skip-unreadable" in err
    assert main([*arguments, "--skip-unreadable"]) == 0
    out, err = capsys.readouterr()
    assert "stfpm-eval: skipped: bottle/test/dent/000.png" in err
    assert json.loads(out)["categories"][0]["unreadable"][0]["image"] == "test/dent/000.png"


@pytest.mark.parametrize("name", ["absent.onnx", "absent.safetensors", "model.pt"])
def test_model_that_cannot_be_used_is_one_line_and_exit_1(name, make_category, tmp_path, capsys):
    assert main([str(tmp_path / name), str(make_category())]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"stfpm-eval: error: {tmp_path / name}: ")
    assert err.count("\n") == 1


def test_output_that_cannot_be_written_is_found_out_first(make_model, make_category, tmp_path, capsys):
    assert main([str(make_model()), str(make_category()), "--json", str(tmp_path)]) == 1
    assert "is a folder; expected the name of a file to write" in capsys.readouterr().err


def test_checkpoint_is_run_by_pytorch(figures, make_category, tmp_path):
    from stfpm_edge.checkpoint import Checkpoint, save_checkpoint
    from stfpm_edge.networks import Pyramid
    from stfpm_edge.teacher import fingerprint
    from stfpm_runtime.artifact.spec import Spec

    teacher, student = Pyramid("resnet18", (2,)), Pyramid("resnet18", (2,))
    student.load_state_dict(teacher.state_dict())
    spec = Spec("bottle", 32, 32, "resnet18", (2,), "random", fingerprint(teacher), threshold=0.0)
    path = tmp_path / "bottle.safetensors"
    save_checkpoint(Checkpoint(spec, teacher, student), path)
    report = figures(path, make_category())
    assert report["model"]["provider"] == "PyTorch cpu"
    # The student is the teacher: the map is zero everywhere, so that everything ties and nothing is rejected.
    assert report["mean"] == pytest.approx({"image_auroc": 0.5, "pixel_auroc": 0.5, "pro": 0.15})
    assert report["categories"][0]["missed"] == 3


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert all(flag in out for flag in ("MODEL", "DATA", "--json", "--skip-unreadable"))
