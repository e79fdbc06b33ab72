"""Model swaps on a running line, and the shadow model: real files, real ONNX Runtime."""

from __future__ import annotations

import dataclasses
import itertools
import signal
import threading
import time

import cv2
import numpy as np
import pytest

from stfpm_runtime.artifact.golden import Golden, golden_path, save_golden
from stfpm_runtime.engines.fake import failing, first_channel
from stfpm_runtime.errors import ArtifactError, EngineError, OptionError, StfpmError
from stfpm_runtime.files import sha256
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.loop import STOPPED
from stfpm_runtime.line.models import active_model, swap

from .conftest import wait_until
from .test_service import configure, count, parts, start  # noqa: F401 (fixtures)

PARITY = {"map_max_error": 1e-7, "failures": []}


def prove(model, spec, wrong: float = 0.0) -> None:
    """Write golden results next to a model, which it repeats unless they are `wrong`."""
    images = np.random.default_rng(0).integers(0, 256, (2, spec.height, spec.width, 3), np.uint8)
    maps, scores = first_channel(images)
    save_golden(Golden(images, maps + np.float32(wrong), scores, sha256(model)), golden_path(model))


@pytest.fixture
def make_proven(make_model, make_spec):
    def make(file: str = "new.onnx", kind: str = "first_channel", wrong: float = 0.0, **changes):
        changes = {"parity": PARITY, **changes}
        path = make_model(file, kind, **changes)
        prove(path, make_spec(**changes), wrong)
        return path

    return make


@pytest.fixture
def line(run_line, paint):
    """Every tenth part has a level of 0.4, which the first model passes."""
    return run_line(left={"paint": lambda index: paint(102 if index % 10 == 9 else 0), "fps": 200.0})


def details(journal, kind: str) -> list[str]:
    return [event.detail for event in journal.events() if event.kind == kind]


def test_swap_loses_no_frame_and_the_journal_names_who(line, journal, make_proven):
    path = make_proven(threshold=0.3)
    wait_until(lambda: len(journal.rows()) > 40)
    line.line.model_swap.load_and_swap(path, "Ada")
    at = len(journal.rows())
    wait_until(lambda: len(journal.rows()) > at + 40)
    rows = line.finish()
    for before, row in itertools.pairwise(rows):
        assert row.frame == before.frame + 1 + row.dropped
    models = [row.model for row in rows]
    first = models.index(sha256(path))
    assert first >= 40
    assert set(models[first:]) == {sha256(path)}
    assert {row.decision for row in rows[:first]} == {"pass"}
    assert {row.threshold for row in rows[first:]} == {0.3}
    assert {row.decision for row in rows[first:]} == {"pass", "reject"}
    (said,) = details(journal, "model")
    assert "-> new.onnx (bottle, fp32, " in said
    assert said.endswith(", by Ada")


def test_ten_swaps_under_load_lose_no_frame(line, journal, make_proven):
    for number in range(10):
        line.line.model_swap.load_and_swap(
            make_proven(f"{number % 2}.onnx", threshold=0.3 + number / 100), f"hand {number}"
        )
    rows = line.finish()
    assert len(details(journal, "model")) == 10
    assert "fault" not in {row.decision for row in rows}
    for before, row in itertools.pairwise(rows):
        assert row.frame == before.frame + 1 + row.dropped
    with pytest.raises(EngineError, match="the engine was closed"):  # the first model is
        line.engine.infer(np.zeros((1, *line.engine.spec.input_shape), np.uint8))


BROKEN = {
    "another product": ({"name": "screw"}, "is for the product 'screw'; expected one for 'bottle'"),
    "another size": ({"width": 64}, "expected 16x8"),
    "no certificate": ({"parity": {}}, "carries no parity report"),
    "failed certificate": ({"parity": {"failures": ["too far"]}}, "its parity with PyTorch has failed (too far)"),
    "no threshold": ({"threshold": None}, "has no threshold"),
    "another resize": ({"resize": "nearest"}, "was trained with the resize 'nearest'"),
    "other golden results": ({"wrong": 0.01}, "its anomaly map is 0.01 away from PyTorch's"),
    "not a number": ({"wrong": float("nan")}, "its results are not finite"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_model_that_fails_the_check_is_refused(line, journal, make_proven, case):
    changes, message = BROKEN[case]
    model = line.line.active_model.model
    with pytest.raises(StfpmError) as caught:
        line.line.model_swap.load_and_swap(make_proven(**changes), "Ada")
    assert message in str(caught.value)
    check_line_is_unchanged(line, journal, model, message)


def check_line_is_unchanged(line, journal, model, message: str) -> None:
    at = len(journal.rows())
    wait_until(lambda: len(journal.rows()) > at + 10)
    assert line.line.active_model.model is model
    assert set(journal.decisions) == {"pass"}
    wait_until(lambda: details(journal, "model"))
    assert details(journal, "model")[-1].startswith("refused, by Ada: ")
    assert message in details(journal, "model")[-1]


@pytest.mark.parametrize("damage", ["missing", "truncated", "text", "golden missing", "golden of another", "golden"])
def test_broken_model_file_is_refused(line, journal, make_proven, tmp_path, damage):
    model, path = line.line.active_model.model, make_proven()
    golden = golden_path(path)
    if damage == "missing":
        path.unlink()
    elif damage in ("truncated", "text"):
        path.write_bytes(path.read_bytes()[:100] if damage == "truncated" else b"not a model")
    elif damage == "golden missing":
        golden.unlink()
    elif damage == "golden of another":
        golden.write_bytes(golden_path(make_proven("other.onnx", threshold=0.1)).read_bytes())
    else:
        save_golden(Golden(np.zeros((2, 16, 32, 3), np.uint8), np.zeros((1, 16, 32)), np.zeros(2), "x"), golden)
    with pytest.raises(StfpmError) as caught:
        line.line.model_swap.load_and_swap(path, "Ada")
    check_line_is_unchanged(line, journal, model, str(caught.value))


def test_a_model_that_passes_a_known_defect_is_refused(run_line, make_options, journal, make_proven, tmp_path):
    (folder := tmp_path / "known_defects").mkdir()
    for name, level in (("dent.png", 180), ("scratch.png", 255)):
        cv2.imwrite(str(folder / name), np.full((16, 32, 3), level, np.uint8))
    options = dataclasses.replace(make_options(), known_defects=folder)
    line = run_line(options)
    wait_until(lambda: journal.rows())
    weak, able = make_proven("weak.onnx", threshold=0.8), make_proven("able.onnx", threshold=0.6)
    with pytest.raises(StfpmError, match=r"weak.onnx: 1 of 2 known defects are not rejected \(dent.png\)"):
        line.line.model_swap.load_and_swap(weak, "Ada")
    wait_until(lambda: details(journal, "model"))
    assert "refused, by Ada: weak.onnx: 1 of 2 known defects" in details(journal, "model")[-1]
    line.line.model_swap.load_and_swap(able, "Ada")
    (folder / "scratch.png").write_bytes(b"no picture")
    with pytest.raises(StfpmError, match=r"scratch\.png"):
        line.line.model_swap.load_and_swap(make_proven("third.onnx", threshold=0.6), "Ada")


def test_second_swap_at_the_same_time_is_refused(line, journal, make_proven, monkeypatch):
    path, held = make_proven(), threading.Event()
    load = active_model.load_checked
    monkeypatch.setattr(active_model, "load_checked", lambda *some: (held.wait(20), load(*some))[1])
    first = threading.Thread(target=line.line.model_swap.load_and_swap, args=(path, "Ada"))
    first.start()
    try:
        wait_until(line.line.model_swap._busy.locked)
        with pytest.raises(OptionError, match="another model is being loaded"):
            line.line.model_swap.load_and_swap(path, "Bob")
    finally:
        held.set()
        first.join(120)
    assert line.line.active_model.model.path == path
    wait_until(lambda: len(details(journal, "model")) == 2)
    assert details(journal, "model")[0].startswith("refused, by Bob: another model is being loaded")


def test_stopped_line_keeps_its_model(line, journal, make_proven, monkeypatch):
    monkeypatch.setattr(swap, "SWAP_S", 0.1)
    line.finish()
    model = line.line.active_model.model
    with pytest.raises(ArtifactError, match="did not take it over within"):
        line.line.model_swap.load_and_swap(make_proven(), "Ada")
    assert line.line.active_model.model is model
    assert line.line.model_swap.apply_pending() is None


def test_thresholds_of_operators_end_with_their_model(line, journal, make_proven):
    line.line.active_model.thresholds.change("left", "frame", 0.2)
    line.line.model_swap.load_and_swap(make_proven(threshold=0.3), "Ada")
    assert line.line.active_model.thresholds.of("left", "frame") == 0.3
    wait_until(lambda: details(journal, "model"))
    assert details(journal, "model")[-1].endswith("the thresholds that operators set for 1 places end with it")


def test_sighup_swaps_the_model_file_and_refuses_a_broken_one(configure, start, make_proven, journal, parts):  # noqa: F811
    path = make_proven("model.onnx")
    first = sha256(path)
    config = configure(str(parts), 'trigger = "every"\nevery_ms = 200')
    process = start(config)
    wait_until(lambda: count(journal) > 5)
    path.write_bytes(b"half a mo")
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: details(journal, "model"))
    assert details(journal, "model")[0].startswith("refused, by SIGHUP: ")
    second = sha256(make_proven("model.onnx", threshold=0.25))
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: journal.rows()[-1].model == second)  # its event comes before its first part
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 0
    models = [row.model for row in journal.rows()]
    assert list(dict.fromkeys(models)) == [first, second]
    assert {row.reason for row in journal.rows() if row.decision == "fault"} <= {STOPPED}


def test_shadow_reports_differences_and_changes_no_verdict(run_line, make_options, make_proven, journal, paint):
    options = make_options(shadow=make_proven("shadow.onnx", threshold=0.3))
    stream = {"paint": lambda index: paint(102 if index % 10 == 9 else 0), "fps": 100.0}
    running = run_line(options, spec={"parity": PARITY}, left=stream)
    wait_until(lambda: running.line.shadow.counts.compared > 40)
    rows = running.finish()
    wait_until(lambda: running.thread.is_alive() is False)
    assert {row.decision for row in rows} == {"pass"}
    assert {row.model for row in rows} == {running.line.active_model.model.sha256}
    counts = running.line.shadow.counts
    expected = [row.seq for row in rows if row.score > 0.3]
    assert counts.compared + counts.left_out == len(rows)
    assert counts.disagreed == counts.would_reject == len(details(journal, "shadow"))
    assert set(reported := [int(text.split("(")[1].split(")")[0]) for text in details(journal, "shadow")]) <= set(
        expected
    )
    assert len(reported) >= len(expected) - counts.left_out
    assert details(journal, "shadow")[0].startswith("left/frame (")
    assert ": pass (0.4, threshold 0.5), the shadow says reject (0.4, threshold 0.3)" in details(journal, "shadow")[0]


def test_slow_or_broken_shadow_does_not_delay_the_line(run_line, make_options, make_proven, journal, black):
    options = make_options(shadow=make_proven("shadow.onnx"))
    running = run_line(options, left={"fps": None, "frames": 200, "live": False})
    shadow = running.line.shadow

    def hang(images):
        time.sleep(0.3)
        return failing(images)

    shadow.model.detector.engine.infer = hang
    running.thread.join(120)
    rows = journal.rows()
    assert [row.decision for row in rows] == ["pass"] * 200
    assert shadow._left_out > 100
    assert max(row.latency_ms for row in rows) < 250


def test_shadow_of_another_product_is_refused_before_the_first_frame(run_line, make_options, make_proven, journal):
    with pytest.raises(ArtifactError, match="is for the product 'screw'"):
        run_line(make_options(CameraOptions("left", "0"), shadow=make_proven("shadow.onnx", name="screw")))
    assert journal.rows() == []
