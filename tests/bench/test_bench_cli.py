"""`stfpm-bench` end to end: model files in, figures, pages and exit codes out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from made_up_runs import latency, model, report
from stfpm_bench.cli import main
from stfpm_bench.options import unique_names
from stfpm_runtime.artifact.golden import Golden, golden_path, save_golden
from stfpm_runtime.files import sha256

QUICK = [
    "--time",
    "0.2",
    "--cold-starts",
    "1",
    "--idle",
    "0.05",
    "--batches",
    "1,2",
    "--frame",
    "64x48",
    "--allow-noise",
]


def bench(*argv: object) -> int:
    return main([*map(str, argv), *QUICK])


@pytest.fixture
def model_with_golden(make_model):
    """A model with golden results that it reproduces, but for `error`."""

    def make(name: str = "bottle.onnx", error: float = 0.0) -> Path:
        path = make_model(name)
        images = np.stack([np.full((16, 16, 3), level, np.uint8) for level in (10, 60)])
        maps = images[..., 0].astype(np.float32) + np.float32(error)
        save_golden(Golden(images, maps, maps.max(axis=(1, 2)), sha256(path)), golden_path(path))
        return path

    return make


def test_all_metrics_and_all_reports_are_written(model_with_golden, make_model, make_category, tmp_path, capsys):
    outputs = [tmp_path / "out" / f"run.{suffix}" for suffix in ("json", "md", "html")]
    paths = model_with_golden("one.onnx"), model_with_golden("two.onnx")
    flags = zip(("--json", "--markdown", "--html"), outputs, strict=True)
    assert bench(*paths, "--parity", "--data", make_category(), *(part for pair in flags for part in pair)) == 0
    out, err = capsys.readouterr()
    data = json.loads(outputs[0].read_text())
    assert (data["kind"], data["schema"], data["frame"], data["interrupted"]) == ("stfpm-bench", 1, [64, 48], False)
    assert [one["name"] for one in data["models"]] == ["one", "two"]
    first = data["models"][0]
    assert first["provider"] == "CPUExecutionProvider"
    assert first["sha256"] == sha256(paths[0])
    assert first["latency"]["p50_ms"] <= first["latency"]["p99_ms"]
    assert first["latency"]["stopped_by"] in ("precision", "time limit")
    assert first["parity"]["holds"]
    assert first["parity"]["map_max_error"] == 0
    assert first["accuracy"]["image_auroc"] == pytest.approx(5 / 6, abs=1e-5)
    assert first["accuracy"]["missed"] == 1
    assert [one["batch"] for one in first["throughput"]] == [1, 2]
    assert "From frame to decision" in out
    assert "From frame to decision" in outputs[1].read_text()
    assert outputs[2].read_text().startswith("<!doctype html>")
    assert "stfpm-bench: cold starts" in err


@pytest.mark.slow
def test_checkpoint_is_run_by_pytorch_and_holds_the_others_to_it(tiny_checkpoint, tiny_onnx, tmp_path, capsys):
    path = tmp_path / "run.json"
    assert bench(tiny_checkpoint, tiny_onnx, "--parity", "--json", path) == 0
    checkpoint, exported = json.loads(path.read_text())["models"]
    assert checkpoint["provider"] == "PyTorch cpu"
    assert checkpoint["parity"] is None
    assert checkpoint["notes"] == ["PyTorch itself: nothing to compare it with"]
    assert exported["parity"]["against"] == "PyTorch"
    assert exported["parity"]["holds"]
    assert checkpoint["installed_bytes"] > 2 * exported["installed_bytes"]


def test_lost_parity_is_reported_and_exit_1(model_with_golden, tmp_path, capsys):
    path = tmp_path / "run.json"
    assert bench(model_with_golden(error=5.0), "--parity", "--json", path) == 1
    out, err = capsys.readouterr()
    assert "bottle: its map is 5 away from golden file's, 0.0001 is allowed." in out
    assert "stfpm-bench: error: bottle: further from PyTorch than allowed" in err
    assert json.loads(path.read_text())["models"][0]["parity"]["holds"] is False


def test_golden_results_of_another_model_are_refused_before_anything_is_timed(make_model, model_with_golden, capsys):
    other = make_model("other.onnx", factor=2.0)
    golden_path(model_with_golden()).rename(golden_path(other))
    assert bench(other, "--parity") == 1
    _, err = capsys.readouterr()
    assert "other.golden.npz: belongs to a model of SHA-256" in err
    assert err.count("\n") == 1


def test_data_of_another_product_are_refused_before_anything_is_timed(make_model, make_category, capsys):
    known = make_model(held_out_scores=(1.0, 2.0))
    assert bench(known, "--data", make_category("screw")) == 1
    _, err = capsys.readouterr()
    assert "it is another product's; give the data of bottle" in err
    assert err.count("\n") == 1


def test_model_without_a_threshold_is_measured_and_noted(make_model, tmp_path, capsys):
    assert bench(make_model(threshold=None)) == 0
    assert "bottle: has no threshold: its decisions are timed with 0." in capsys.readouterr().out


def test_noisy_machine_is_exit_1_unless_accepted(make_model, monkeypatch, tmp_path, capsys):
    """The limit is set so low that any run is too noisy."""
    monkeypatch.setattr("stfpm_bench.stats.LOAD", -1.0)
    path = tmp_path / "run.json"
    quick = [flag for flag in QUICK if flag != "--allow-noise"]
    assert main([str(make_model()), *quick, "--json", str(path)]) == 1
    out, err = capsys.readouterr()
    assert "Too noisy to trust: other programs used" in out
    assert "stfpm-bench: error: this machine is too noisy to measure on: other programs used" in err
    assert json.loads(path.read_text())["noise"]
    assert bench(make_model()) == 0


def test_interrupted_run_is_written_and_marked(make_model, monkeypatch, tmp_path, capsys):
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stfpm_bench.session._measure_idle", interrupt)
    path, page = tmp_path / "run.json", tmp_path / "run.html"
    assert bench(make_model(), "--json", path, "--html", page) == 130
    out, err = capsys.readouterr()
    data = json.loads(path.read_text())
    assert data["interrupted"] is True
    assert data["models"][0]["latency"]["frames"] >= 15
    assert data["models"][0]["throughput"] == []
    assert "Interrupted: what is missing was not measured." in out
    assert "Interrupted" in page.read_text()
    assert err.endswith("stfpm-bench: interrupted\n")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "got no model; expected one or more files, or --compare OLD NEW"),
        (["a.onnx", "--frame", "big"], "got --frame big; expected WIDTHxHEIGHT"),
        (["a.onnx", "--frame", "4x4"], "got --frame 4x4; expected WIDTHxHEIGHT"),
        (["a.onnx", "--idle", "soon"], "got --idle soon; expected numbers"),
        (["a.onnx", "--batches", "0"], "got a batch below 1"),
        (["a.onnx", "--time", "0"], "got a time limit of 0 s"),
        (["a.onnx", "--threads", "0"], "got 0 threads"),
        (["a.onnx", "a.onnx"], "got the same model twice"),
        (["a.onnx", "--compare", "b.json", "c.json"], "got models and --compare"),
        (["--compare", "b.json", "c.json"], "b.json: cannot be read"),
        (["absent.onnx"], "absent.onnx: no such file"),
        (["absent.safetensors"], "absent.safetensors: no such file"),
        (["model.pt"], "model.pt: got a file ending in '.pt'"),
    ],
)
def test_what_a_user_can_mend_is_one_line(argv, words, capsys):
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("stfpm-bench: error: ")
    assert words in err
    assert err.count("\n") == 1


def test_output_that_cannot_be_written_is_found_out_first(make_model, tmp_path, capsys):
    assert bench(make_model(), "--html", tmp_path) == 1
    assert "is a folder; expected the name of a file to write" in capsys.readouterr().err


def test_comparison_exits_with_1_where_something_got_worse(tmp_path, capsys):
    old, same, slow = (tmp_path / f"{name}.json" for name in ("old", "same", "slow"))
    old.write_text(report().to_json())
    same.write_text(dataclasses.replace(report(), created="2026-01-03T00:00:00+00:00").to_json())
    slow.write_text(report(model(latency=latency(p50=14.0, p99=16.0))).to_json())
    assert main(["--compare", str(old), str(same)]) == 0
    assert "figures are the same within noise" in capsys.readouterr().out
    assert main(["--compare", str(old), str(slow)]) == 1
    out, err = capsys.readouterr()
    assert "10.00 ms" in out
    assert "14.00 ms" in out
    assert "3 figures got worse, first p50 of bottle: 10.00 ms, now 14.00 ms" in err
    assert main(["--compare", str(slow), str(old)]) == 0


def test_names_are_the_shortest_that_differ():
    assert unique_names([Path("a/one.onnx"), Path("b/two.onnx")]) == ["one", "two"]
    assert unique_names([Path("a/one.onnx"), Path("a/one.engine")]) == ["one.onnx", "one.engine"]
    assert unique_names([Path("/a/x/one.onnx"), Path("/b/x/one.onnx")]) == ["a/x/one.onnx", "b/x/one.onnx"]


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    flags = "--compare --parity --checkpoint --data --roofline --device --threads --frame --time --batches --idle"
    flags += " --cold-starts --allow-noise --json --markdown --html"
    assert all(flag in out for flag in ("MODEL", *flags.split()))
