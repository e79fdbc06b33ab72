"""The paper's tables: what is planned, kept, resumed and shown; on a tiny data set, with a random teacher."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from benchmarks.experiments.paper.__main__ import main
from benchmarks.experiments.paper.published import CATEGORIES, MEAN, OFFICIAL, PAPER
from benchmarks.experiments.paper.runs import (
    Job,
    Result,
    assign_gpus,
    in_processes,
    in_turn,
    load_result,
    run_all,
    run_job,
    save_result,
)
from benchmarks.experiments.paper.tables import BLOCK_SETS, plan, render
from stfpm_edge.epochs import SilentReporter
from stfpm_edge.options import TrainOptions
from stfpm_edge.pictures.data import split_images
from stfpm_edge.recipes import RECIPES
from stfpm_edge.train import train_student
from stfpm_runtime.errors import ArtifactError, OptionError, TrainingError
from tiny_model import make_images

DONE = Result(0.9, 0.8, 0.7, 1.0, 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("mvtec")
    for category in ("bottle", "cable"):
        for place, count in (("train/good", 6), ("test/good", 2), ("test/dent", 2)):
            for number, image in enumerate(make_images(count, 64, 64, seed=len(place) + 50 * (category == "cable"))):
                path = root / category / place / f"{number:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                mask = np.zeros((64, 64), np.uint8)
                if "dent" in place:
                    image[20:40, 20:40] = 255 - image[20:40, 20:40]
                    mask[20:40, 20:40] = 255
                    truth = root / category / "ground_truth" / "dent" / f"{number:03d}_mask.png"
                    truth.parent.mkdir(parents=True, exist_ok=True)
                    cv2.imwrite(str(truth), mask)
                cv2.imwrite(str(path), image)
    return root


@pytest.fixture
def job(root) -> Job:
    return Job("bottle", str(root), teacher="procedural", teacher_name="procedural", epochs=1, batch_size=4,
               size=64, device="cpu")  # fmt: skip


def command(what, root, out, *more):
    return main([what, "--data", str(root), "--teacher", "procedural", "--epochs", "1", "--batch-size", "4", "--size",
                 "64", "--device", "cpu", "--out", str(out), *more])  # fmt: skip


def test_table1_is_printed_kept_and_resumed(root, tmp_path, capsys):
    assert command("table1", root, tmp_path) == 0
    first = capsys.readouterr()
    assert "0 of 2 trainings are done already" in first.err
    assert "bottle" in first.out
    assert "0.988" in first.out
    assert command("table2", root, tmp_path) == 0  # takes the same trainings
    assert "2 of 2 trainings are done already, 0 to do" in capsys.readouterr().err
    next(iter(tmp_path.glob("cable-*.json"))).unlink()
    assert command("table1", root, tmp_path, "--show") == 0
    assert "0 of 1 trainings done" in capsys.readouterr().out


def figures(results):
    """All that training and evaluation found, without how long they took."""
    return {job: (one.image_auroc, one.pixel_auroc, one.pro, one.best_epoch) for job, one in results.items()}


def test_processes_give_the_same_metrics(job, tmp_path):
    jobs = [job, replace(job, category="cable"), replace(job, seed=1)]
    apart = run_all(jobs, tmp_path / "a", in_processes(2), print)
    here = run_all(jobs, tmp_path / "b", in_turn, print)
    assert len(set(figures(here).values())) == 3  # so that an exchange of two would be seen
    for one in jobs:
        assert figures(apart)[one] == pytest.approx(figures(here)[one], abs=1e-6)


@pytest.mark.parametrize("runner", [in_turn, in_processes(2)], ids=["in turn", "in processes"])
def test_one_failed_job_discards_no_other(job, tmp_path, runner):
    jobs = [job, replace(job, teacher="nowhere.safetensors", teacher_name="nowhere"), replace(job, category="cable")]
    said = []
    with pytest.raises(
        TrainingError, match=r"1 of 3 trainings failed, first bottle: teacher nowhere\.safetensors: no su"
    ):
        run_all([jobs[1], jobs[0], jobs[2]], tmp_path, runner, said.append)
    assert [load_result(tmp_path, one) is not None for one in jobs] == [True, False, True]
    assert any(line.startswith("bottle, seed 0: failed: teacher nowhere.safetensors") for line in said)


def test_a_bug_in_one_job_keeps_the_others_and_its_traceback(job, tmp_path):
    def breaks(jobs):
        yield jobs[0], ZeroDivisionError("a bug")
        yield jobs[1], DONE

    other = replace(job, seed=1)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_all([job, other], tmp_path, breaks, print)
    assert load_result(tmp_path, other) == DONE


def test_the_table_of_what_is_done_is_printed_although_a_training_failed(root, tmp_path, capsys):
    assert command("table4", root, tmp_path, "--teachers", "procedural=procedural,lost=lost.safetensors") == 1
    found = capsys.readouterr()
    assert re.search(r"teacher lost( +-){9}  0 of 2 trainings done", found.out)
    assert re.search(r"teacher cifar10 +- +0\.826 +- +- +0\.931 +- +- +0\.863 +-\n", found.out)  # none of ours
    assert re.search(r"teacher procedural +[01]\.\d{4} ", found.out)
    assert "2 of 4 trainings failed, first bottle: teacher lost.safetensors" in found.err


def test_results_are_not_those_of_other_data_or_of_another_teacher_of_the_same_name(root, tmp_path, capsys):
    from stfpm_edge.teacher import SHIPPED

    data, teacher = tmp_path / "mvtec", tmp_path / "teacher.safetensors"
    shutil.copytree(root, data)
    weights = load_file(SHIPPED["resnet18"])
    save_file(weights, teacher)

    def done():
        argv = ["--teacher", str(teacher), "--categories", "bottle"]
        assert command("table1", data, tmp_path / "out", *argv) == 0
        return int(capsys.readouterr().err.partition(" of 1 trainings are done already")[0])

    assert [done(), done()] == [0, 1]
    save_file({name: 1.01 * value for name, value in weights.items()}, teacher)
    assert [done(), done()] == [0, 1]
    picture = data / "bottle" / "train" / "good" / "000.png"
    cv2.imwrite(str(picture), 255 - cv2.imread(str(picture)))
    assert [done(), done()] == [0, 1]
    moved = data.rename(tmp_path / "elsewhere")
    argv = ["--teacher", str(teacher), "--categories", "bottle", "--show"]
    assert command("table1", moved, tmp_path / "out", *argv) == 0
    assert "0 of 1" not in capsys.readouterr().out


def test_what_is_done_before_a_failure_is_kept(job, tmp_path):
    def breaks(jobs):
        yield jobs[0], DONE
        raise TrainingError("the cluster is gone")

    other = replace(job, seed=1)
    with pytest.raises(TrainingError):
        run_all([job, other], tmp_path, breaks, print)
    assert load_result(tmp_path, job) == DONE
    assert load_result(tmp_path, other) is None


def test_another_schedule_is_another_result_and_another_place_is_not(job):
    assert job.file != replace(job, epochs=2).file
    assert job.file != replace(job, teacher_name="imagenet").file
    assert job.file == replace(job, data="/elsewhere", device="cuda:1").file


def test_damaged_result_is_named(job, tmp_path):
    save_result(tmp_path, job, DONE)
    (tmp_path / job.file).write_text(json.dumps({"result": {}}))
    with pytest.raises(ArtifactError, match="not a result of ours; delete it"):
        load_result(tmp_path, job)


def test_jobs_go_round_the_gpus_unless_they_name_one(job):
    jobs = [replace(job, device=device) for device in ("auto", "auto", "auto", "cpu")]
    assert [placed.device for _, placed in assign_gpus(jobs, 2)] == ["cuda:0", "cuda:1", "cuda:0", "cpu"]
    assert [placed.device for _, placed in assign_gpus(jobs, 0)] == ["auto", "auto", "auto", "cpu"]


def test_tables_take_the_papers_rows(job):
    assert [row.jobs[0].blocks for row in plan("table3", job, ["bottle"], 1, {}).rows] == list(BLOCK_SETS)
    trained = [
        len(split_images(320, TrainOptions.val_fraction, row.jobs[0].train_fraction, 0).train) / 320
        for row in plan("table5", job, ["bottle"], 1, {}).rows
    ]
    assert trained == [0.05, 0.1]
    assert plan("wrn50", job, ["bottle"], 1, {}).jobs[0].backbone == "wide_resnet50_2"
    seeds = [job.seed for job in plan("table1", job, ["bottle", "cable"], 3, {}).jobs]
    assert seeds == [0, 1, 2] * 2
    with pytest.raises(OptionError, match="table4 compares teachers"):
        plan("table4", job, ["bottle"], 1, {})


def test_difference_and_deviation_are_shown(job):
    table = plan("table1", job, ["bottle"], 2, {})
    results = {j: Result(1.0, value, 0.951, 1.0, 1) for j, value in zip(table.jobs, (0.978, 0.988), strict=True)}
    text = render(table, results)
    assert "0.9830 ±0.005   0.988  -0.0050" in text
    assert "0.951  +0.0000" in text
    assert "± is the standard deviation over 2 seeds" in text


def test_deviation_is_over_seeds_not_over_categories(job):
    def row(seeds, values):
        table = plan("table3", job, ["bottle", "cable"], seeds, {})
        values = dict(zip([(one.category, one.seed) for one in table.rows[0].jobs], values, strict=True))
        text = render(table, {one: Result(values[one.category, one.seed], 0.5, 0.5, 1.0, 1) for one in table.jobs})
        return text, text.splitlines()[2].split()

    text, cells = row(1, (0.6, 0.8))
    assert cells[1] == "0.7000"
    assert "±" not in text
    text, cells = row(2, (0.60, 0.64, 0.80, 0.84))  # bottle with both seeds, then cable: means 0.70 and 0.74
    assert cells[1:3] == ["0.7200", "±0.020"]


@pytest.mark.parametrize(("figures", "digits"), [(PAPER, 1e-3), (OFFICIAL, 1e-6)], ids=["paper", "official"])
def test_published_figures_have_the_published_mean(figures, digits):
    assert set(figures) == {*CATEGORIES, MEAN}
    for place, mean in enumerate(figures[MEAN]):
        values = [figures[category][place] for category in CATEGORIES]
        if None not in (*values, mean):
            assert sum(values) / len(CATEGORIES) == pytest.approx(mean, abs=digits)


def test_official_figures_are_all_known_and_near_the_papers():
    assert not any(None in figures for figures in OFFICIAL.values())
    for category, figures in PAPER.items():
        for paper, official in zip(figures, OFFICIAL[category], strict=True):
            assert paper is None or paper == pytest.approx(official, abs=0.01)


def test_published_figures_stand_beside_ours_and_dashes_where_images_are_not_at_hand(job):
    table = plan("table1", job, ["bottle", "plug"], 1, {})
    rows = {line.split()[0]: line.split()[1:] for line in render(table, {table.jobs[0]: DONE}).splitlines()[2:]}
    assert list(rows) == [*CATEGORIES, "plug", MEAN]
    assert rows["bottle"] == ["0.8000", "0.988", "-0.1880", "0.9879", "0.7000", "0.951", "-0.2510", "0.9592"]
    assert rows["cable"] == ["-", "0.955", "-", "0.9575", "-", "-", "-", "0.8950"]
    assert rows["plug"] == [*"--------", "0", "of", "1", "trainings", "done"]
    assert rows[MEAN] == ["-", "0.970", "-", "0.9702", "-", "-", "-", "0.9283"]
    assert len(table.jobs) == 2


def test_mean_is_that_of_the_papers_categories_and_has_no_published_figure_for_other_data(job):
    table = plan("table2", job, [*CATEGORIES, "plug"], 1, {})
    text = render(table, {one: replace(DONE, image_auroc=0.0 if one.category == "plug" else 0.9) for one in table.jobs})
    assert text.splitlines()[-1].split() == [MEAN, "0.9000", "0.955", "-0.0550", "0.9555"]
    table = plan("table2", job, ["pcb1", "pcb2"], 1, {})
    text = render(table, dict.fromkeys(table.jobs, DONE))
    assert text.splitlines()[-1].split() == [MEAN, "0.9000", "-", "-"]
    assert "official" not in text
    table = plan("wrn50", job, list(CATEGORIES), 1, {})
    assert render(table, {}).splitlines()[-1].split()[:7] == [MEAN, "-", "0.973", "-", "-", "0.923", "-"]


def test_figures_are_written(root, tmp_path, tiny_checkpoint, capsys):
    for what, shape in (("figure1", (64 + 26, 6 * 68)), ("figure3", (684, 640))):
        path = tmp_path / f"{what}.png"
        assert main([what, "--data", str(root), "--checkpoint", str(tiny_checkpoint), "-o", str(path),
                     "--categories", "bottle"]) == 0  # fmt: skip
        assert cv2.imread(str(path)).shape[:2] == shape
    assert main(["figure1", "--data", str(root)]) == 1
    assert "give --checkpoint" in capsys.readouterr().err


def killed_once(job: Job) -> Result:
    """Kills its own worker the first time that it runs."""
    mark = Path(job.data) / "killed"
    if job.seed == 1 and not mark.exists():
        mark.touch()
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)
    return run_job(replace(job, data=str(Path(job.data) / "mvtec"), seed=0))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # ray's own
def test_two_ray_nodes_survive_a_killed_worker(root, job, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    from stfpm_edge.cluster import map_on_ray

    (tmp_path / "mvtec").symlink_to(root)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # its workers import what this test does
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes.add_node(num_cpus=1)
        jobs = [replace(job, data=str(tmp_path), seed=seed) for seed in range(3)]
        results = run_all(jobs, tmp_path / "out", lambda jobs: map_on_ray(killed_once, jobs, nodes.address, str), print)
    finally:
        nodes.shutdown()
    assert (tmp_path / "killed").exists()
    (expected,) = figures({job: run_job(job)}).values()
    # A worker has another number of threads, so that sums differ in the last digits; another seed differs by 0.1.
    assert [figures(results)[one] for one in jobs] == [pytest.approx(expected, abs=2e-3)] * 3
    assert [load_result(tmp_path / "out", one) for one in jobs] == [results[one] for one in jobs]


def test_training_takes_named_images_alone(root, job, tmp_path):
    images = sorted((root / "bottle" / "train" / "good").iterdir())[:5]
    options = TrainOptions(
        root, tmp_path / "m.safetensors", "procedural", height=64, width=64,
        recipe=replace(RECIPES["paper"], epochs=1, batch_size=2), accept_data=True,
    )  # fmt: skip
    assert train_student(options, SilentReporter(), images).spec.training["images"]["train"] == 3
