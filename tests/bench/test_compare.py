"""What got worse, from runs whose figures are made up."""

from __future__ import annotations

import dataclasses
import json

import pytest

from made_up_runs import MACHINE, latency, model, report
from stfpm_bench.compare import BETTER, SAME, UNKNOWN, WORSE, compare
from stfpm_bench.results import Accuracy, ColdStart, Idle, ParityResult, load_report
from stfpm_runtime.errors import ArtifactError, OptionError


def verdicts(old, new):
    return {change.figure: change.verdict for change in compare(old, new).changes}


def test_report_survives_json(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(report().to_json())
    loaded = load_report(path)
    assert loaded.to_json() == report().to_json()
    assert loaded.models[0].throughput == report().models[0].throughput
    assert (loaded.machine, loaded.sensors_end, loaded.frame) == (MACHINE, report().sensors_end, (1280, 720))
    assert json.loads(path.read_text())["schema"] == 1
    assert json.loads(path.read_text())["models"][0]["latency"]["p50_ms"] == 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "not of stfpm-bench"),
        ('{"kind": "stfpm-bench", "schema": 99}', "has schema 99, this stfpm-edge reads up to 1"),
        ('{"kind": "stfpm-bench", "schema": 1}', "damaged"),
        ('{"kind": "stfpm-bench", "schema": 1, "created": 5}', "damaged"),
    ],
)
def test_file_of_another_kind_is_refused(tmp_path, text, words):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=words):
        load_report(path)


def test_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_report(tmp_path / "absent.json")


def test_a_run_is_not_worse_than_itself():
    comparison = compare(report(), report())
    assert {change.verdict for change in comparison.changes} == {SAME}
    assert len(comparison.changes) >= 12
    assert comparison.worse == comparison.notes == ()


@pytest.mark.parametrize(
    ("changes", "figure"),
    [
        ({"latency": latency(p50=12.0)}, "p50"),
        ({"latency": latency(p99=18.0)}, "p99"),
        ({"cold_start": ColdStart(500.0, (480.0, 500.0, 520.0))}, "cold start"),
        ({"idle": (Idle(1.0, 20.0, (19.0, 20.0, 21.0)),)}, "after 1 s"),
        ({"peak_bytes": 140_000_000}, "memory"),
        ({"file_bytes": 7_000_000}, "file"),
        ({"installed_bytes": 300_000_000}, "installed size"),
        ({"provider": "fake"}, "provider"),
        ({"precision": "fp32"}, "precision"),
        ({"accuracy": Accuracy("bottle", 20, 63, 0.99, 0.98, 0.96, 1, 0)}, "image auroc"),
        ({"parity": ParityResult("golden file", 2, 1e-3, 1e-3, 0, 1e-4, False, (0.1,), (0.1,))}, "parity"),
    ],
)
def test_each_thing_that_gets_worse_is_found_alone(changes, figure):
    comparison = compare(report(), report(model(**changes)))
    assert figure in {change.figure for change in comparison.worse}
    assert len(comparison.worse) <= (2 if figure == "p50" else 1)  # a p90 moves with its p50
    if figure not in ("provider", "precision", "parity"):
        assert figure not in {change.figure for change in compare(report(model(**changes)), report()).worse}
        assert verdicts(report(model(**changes)), report())[figure] == BETTER


@pytest.mark.parametrize(
    "slower",
    [latency(p50=10.3, width=0.01), latency(p50=12.0, width=4.5)],
    ids=["sure, but less than two runs differ by", "much, but not sure"],
)
def test_latency_within_noise_is_the_same(slower):
    assert verdicts(report(model(latency=latency(width=1.0))), report(model(latency=slower)))["p50"] == SAME


def test_few_starts_that_overlap_are_the_same():
    other = ColdStart(450.0, (305.0, 450.0, 460.0))
    assert verdicts(report(), report(model(cold_start=other)))["cold start"] == SAME


def test_missing_model_is_worse_and_a_new_one_is_nothing():
    old, new = report(model("a"), model("b")), report(model("a"), model("c"))
    (change,) = compare(old, new).worse
    assert (change.model, change.after, change.verdict) == ("b", "missing", WORSE)


def test_another_machine_has_other_times_but_the_same_accuracy():
    other = dataclasses.replace(MACHINE, cores=4)
    slow = model(latency=latency(p50=50.0), file_bytes=9_000_000)
    comparison = compare(report(), report(slow, machine=other))
    assert [change.figure for change in comparison.worse] == ["file"]
    assert "another machine (2 cores of a processor; Linux 6; then 4 cores" in comparison.notes[0]


@pytest.mark.parametrize("extension", ["avx512f", "avx512_vnni", "amx_int8"])
def test_cpus_of_one_name_with_other_instructions_are_other_machines(extension):
    other = dataclasses.replace(MACHINE, extensions=(*MACHINE.extensions, extension))
    comparison = compare(report(), report(model(latency=latency(p50=50.0)), machine=other))
    assert not comparison.worse
    assert "p50" not in {change.figure for change in comparison.changes}
    assert f"only one of them has {extension}): times and memory are not compared" in comparison.notes[0]


def test_noisy_run_says_nothing_about_latency():
    noisy = report(model(latency=latency(p50=50.0)), noise=("other programs used 40% of the processor",))
    found = verdicts(report(), noisy)
    assert found["p50"] == found["cold start"] == UNKNOWN
    assert found["file"] == SAME
    assert "too noisy to compare latencies: other programs" in compare(report(), noisy).notes[0]


def test_interrupted_run_and_other_threads_are_noted():
    notes = compare(report(), report(interrupted=True, threads=1)).notes
    assert notes == ("the new run was interrupted", "threads differ: all, then 1")


def test_other_frames_cannot_be_compared():
    with pytest.raises(OptionError, match="frames of 1280x720 and of 640x480"):
        compare(report(), report(frame=(640, 480)))


def test_runs_without_a_common_model_cannot_be_compared():
    with pytest.raises(OptionError, match="no model in common"):
        compare(report(model("a")), report(model("b")))
