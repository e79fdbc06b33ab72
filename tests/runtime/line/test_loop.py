"""The loop as a whole, in a thread, with fake cameras and a fake engine whose answers are known."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time

import numpy as np
import pytest

from stfpm_runtime.engines.fake import failing, first_channel, not_a_number
from stfpm_runtime.errors import OptionError
from stfpm_runtime.line.cameras.worker import TriggeredFrame
from stfpm_runtime.line.config.camera import CameraOptions, RegionOptions
from stfpm_runtime.line.config.server import ServerOptions
from stfpm_runtime.line.config.storage import PictureOptions
from stfpm_runtime.line.journal.writer import Journal
from stfpm_runtime.line.loop import why_late
from stfpm_runtime.line.service import open_camera
from stfpm_runtime.line.triggers.base import TriggerRequest
from stfpm_runtime.sources import FileSource
from stfpm_runtime.sources.base import Frame

from .conftest import read_lines, wait_until
from .test_journal import fill, make_row, small_disk  # noqa: F401 (a fixture)


def levels(*values: int):
    """Return a painter of frames whose blue, and so whose score times 255, is the value; the last one is repeated."""

    def paint(index: int) -> np.ndarray:
        frame = np.zeros((16, 32, 3), np.uint8)
        frame[:, :, 0] = values[min(index, len(values) - 1)]
        return frame

    return paint


def judged_files(tmp_path, write, paint, *numbers: int):
    for number, level in enumerate(numbers):
        write(tmp_path / "parts" / f"{number:03}.png", paint(level))
    return lambda camera, on_event: FileSource([str(tmp_path / "parts")])


def test_every_file_has_its_row_and_the_line_ends(run_line, make_options, tmp_path, write, paint):
    source = judged_files(tmp_path, write, paint, 0, 255, 51)
    (tmp_path / "parts" / "001b.png").write_bytes(b"half")
    running = run_line(spec={"held_out_scores": (0.1, 0.3, 0.4)}, open_source=source)
    running.thread.join(120)
    verdicts = running.finish()
    assert [verdict.seq for verdict in verdicts] == [1, 2, 3, 4]
    assert [verdict.decision for verdict in verdicts] == ["pass", "reject", "fault", "pass"]
    assert [verdict.score for verdict in verdicts] == [0, 1, None, pytest.approx(0.2)]
    assert [verdict.p_value for verdict in verdicts] == [1, 1 / 4, None, 3 / 4]
    assert "001b.png: cannot be decoded" in verdicts[2].reason
    for verdict in verdicts:
        assert (verdict.camera, verdict.region, verdict.threshold, verdict.run) == ("left", "frame", 0.5, 1)
        assert len(verdict.model) == 64
        assert 0 <= verdict.wait_ms <= verdict.latency_ms
    assert all(verdict.infer_ms > 0 for verdict in verdicts if verdict.decision != "fault")


@pytest.mark.parametrize("bits", [None, 10])
def test_bits_of_16_bit_pictures_are_the_camera_s_or_the_model_s(run_line, make_options, tmp_path, write, bits):
    frame = np.zeros((16, 32), np.uint16)
    frame[:8] = 0x0FF0 if bits is None else 0x03FC
    write(tmp_path / "parts" / "000.png", frame)
    camera = CameraOptions("left", str(tmp_path / "parts"), bits=bits)
    running = run_line(make_options(camera), spec={"bits": 12}, open_source=open_camera)
    running.thread.join(20)
    assert [verdict.score for verdict in running.finish()] == [1.0]


def test_files_that_a_line_leaves_out_are_an_event(run_line, make_options, tmp_path, write, paint):
    write(tmp_path / "parts" / "000.png", paint())
    (tmp_path / "parts" / "notes.txt").touch()
    running = run_line(make_options(CameraOptions("left", str(tmp_path / "parts"))), open_source=open_camera)
    running.thread.join(20)
    assert [verdict.decision for verdict in running.finish()] == ["pass"]
    assert ("skipped", f"1 not inspected; files named *.txt are not read: {tmp_path}/parts/notes.txt") in [
        (event.kind, event.detail) for event in running.journal.events()
    ]


def test_file_whose_name_is_no_unicode_is_judged(run_line, tmp_path, write, paint):
    source = judged_files(tmp_path, write, paint, 0, 0)
    os.rename(tmp_path / "parts" / "001.png", os.fsencode(tmp_path / "parts") + b"/b\xff.png")  # noqa: PTH104 (bytes)
    (tmp_path / "parts" / os.fsdecode(b"c\xfe.png")).write_bytes(b"half")
    running = run_line(open_source=source)
    running.thread.join(120)
    verdicts = running.finish()
    assert [verdict.decision for verdict in verdicts] == ["pass", "pass", "fault"]
    assert verdicts[1].source.endswith("/b\\udcff.png")
    assert "c\\udcfe.png" in verdicts[2].reason


def test_frames_that_wait_together_are_judged_in_one_batch(run_line, make_options):
    cameras = [CameraOptions(name, "0") for name in ("a", "b", "c")]

    def slow(images):  # longer than a frame of each takes
        time.sleep(0.1)
        return first_channel(images)

    arguments = {camera.name: {"fps": 20.0} for camera in cameras}
    running = run_line(make_options(*cameras), answer=slow, **arguments)
    wait_until(lambda: len(running.journal.rows()) > 12)
    running.finish()
    assert max(running.engine.batch_sizes) == 3


def test_slow_engine_never_works_on_stale_frames(run_line):
    """20 ms for a frame, 500 frames a second: each is at most one turn old when it is taken."""

    def slow(images):
        time.sleep(0.02)
        return first_channel(images)

    running = run_line(answer=slow, left={"fps": 500.0})
    wait_until(lambda: len(running.journal.rows()) > 30)
    verdicts = running.finish()
    assert np.median([verdict.wait_ms for verdict in verdicts[1:]]) < 5
    assert np.median([verdict.dropped for verdict in verdicts[1:]]) >= 5


@pytest.mark.parametrize(("answer", "reason"), [(failing, "told to fail"), (not_a_number, "the score is nan")])
def test_engine_that_fails_makes_faults_and_the_loop_goes_on(run_line, answer, reason):
    broken = threading.Event()
    broken.set()
    running = run_line(answer=lambda images: (answer if broken.is_set() else first_channel)(images))
    wait_until(lambda: len(running.journal.rows()) >= 3)
    broken.clear()
    wait_until(lambda: running.journal.decisions[-1] == "pass")
    verdicts = running.finish()
    assert [verdict.decision for verdict in verdicts[:3]] == ["fault"] * 3
    assert reason in verdicts[0].reason


def test_debounce(run_line, make_options):
    camera = CameraOptions("left", "0", debounce=(2, 3), trigger="every", every_ms=1)
    running = run_line(
        make_options(camera), left={"fps": None, "frames": 8, "paint": levels(0, 255, 0, 0, 255, 255, 0)}
    )
    running.thread.join(120)
    verdicts = running.finish()
    assert "".join(verdict.decision[0] for verdict in verdicts) == "ppppprrp"
    assert [verdict.score for verdict in verdicts] == [0, 1, 0, 0, 1, 1, 0, 0]
    assert verdicts[1].reason == "debounced: 1 of the last 2 frames not passed (2); 2 make a reject"
    assert verdicts[6].reason == "debounced: 2 of the last 3 frames not passed (5, 6); 2 make a reject"


def test_regions_are_separate_parts(run_line, make_options, tmp_path, write, paint):
    source = judged_files(tmp_path, write, paint, 255, 0)
    regions = (RegionOptions("top-left", (0, 0, 32, 16)), RegionOptions("bottom", (0, 16, 64, 16)))
    running = run_line(make_options(CameraOptions("left", "0", region=regions)), open_source=source)
    running.thread.join(120)
    found = [(verdict.region, verdict.decision) for verdict in running.finish()]
    assert found == [("top-left", "reject"), ("bottom", "pass"), ("top-left", "pass"), ("bottom", "pass")]
    assert running.engine.batch_sizes == [2, 2]


def test_lines_and_pictures_agree_with_the_journal(run_line, make_options, tmp_path, write, paint):
    source = judged_files(tmp_path, write, paint, *([0, 255] * 20))
    lines = tmp_path / "line.jsonl"
    pictures = PictureOptions(tmp_path / "pictures", free_mb=0, queue=100)
    options = make_options(journal_options={"json_lines": lines}, pictures=pictures)
    running = run_line(options, open_source=source)
    running.thread.join(120)
    verdicts = running.finish()
    assert read_lines(lines) == running.journal.sent()
    kept = {path.relative_to(pictures.folder).as_posix() for path in pictures.folder.rglob("*.*")}
    assert kept == {name for verdict in verdicts for name in (verdict.picture, verdict.overlay) if name}
    assert [bool(verdict.picture) for verdict in verdicts] == [False, True] * 20


def test_outputs_that_hang_do_not_delay_the_loop(run_line, make_options, tmp_path, monkeypatch):
    """Pictures and JSON lines hang; the verdicts go on, and are written later."""
    go_on = threading.Event()

    def hang(*arguments):
        assert go_on.wait(120)

    monkeypatch.setattr("stfpm_runtime.line.outputs.picture_folder.PictureFolder.write", hang)
    from stfpm_runtime.line.outputs.json_lines import JsonLinesOutput

    send_verdicts = JsonLinesOutput.send_verdicts
    monkeypatch.setattr(JsonLinesOutput, "send_verdicts", lambda self, records: hang() or send_verdicts(self, records))
    lines = tmp_path / "line.jsonl"
    pictures = PictureOptions(tmp_path / "pictures", save="all", free_mb=0, queue=2)
    options = make_options(journal_options={"json_lines": lines}, pictures=pictures)
    running = run_line(options, left={"fps": 300.0})
    wait_until(lambda: len(running.journal.rows()) > 150)
    assert lines.read_text() == ""
    assert np.percentile([verdict.latency_ms for verdict in running.journal.rows()], 90) < 50
    go_on.set()
    verdicts = running.finish()
    assert [line["seq"] for line in read_lines(lines)] == [verdict.seq for verdict in verdicts]
    assert sum(bool(verdict.picture) for verdict in verdicts[:150]) == 2
    assert any(event.kind == "pictures" for event in running.journal.events())


def test_line_on_a_full_disk_passes_nothing_and_recovers(run_line, make_options, small_disk, journal):  # noqa: F811
    journal.path = small_disk / "line.sqlite"
    running = run_line(make_options(), left={"fps": 300.0})
    wait_until(lambda: len(journal.rows()) > 3)
    ballast = fill(small_disk)
    wait_until(lambda: not running.line.recorder.works)
    before = running.line.summary.decisions["pass"]
    time.sleep(0.3)
    assert running.line.summary.decisions["pass"] == before
    assert running.line.summary.decisions["fault"] > 10
    ballast.unlink()
    wait_until(lambda: running.line.summary.decisions["pass"] > before)
    verdicts = running.finish()
    assert [verdict.seq for verdict in verdicts] == list(range(1, len(verdicts) + 1))
    assert {verdict.decision for verdict in verdicts} == {"pass", "fault"}
    assert len(verdicts) == running.line.summary.total
    assert all("could not be journalled" in verdict.reason for verdict in verdicts if verdict.decision == "fault")


def test_source_that_can_never_be_opened_ends_the_line_with_its_reason(run_line):
    def open_source(camera, on_event):
        raise OptionError("got an unknown scheme")

    running = run_line(open_source=open_source)
    running.thread.join(120)
    assert [str(error) for error in running.errors] == ["got an unknown scheme"]


def test_driver_that_hangs_does_not_delay_the_stop(run_line, black):
    hanging, go_on = threading.Event(), threading.Event()

    class Hanging(FileSource):
        def __init__(self) -> None:
            self._name, self._frames, self._ended = "hanging", iter(()), False

        def next(self, timeout_s):
            hanging.set()
            go_on.wait(600)

    running = run_line(open_source=lambda camera, on_event: Hanging())
    assert hanging.wait(120)
    running.stop.set()
    running.thread.join(120)
    assert not running.thread.is_alive()
    go_on.set()


def test_second_run_goes_on_with_the_numbers(run_line, make_options, tmp_path, write, paint):
    source = judged_files(tmp_path, write, paint, 0, 0)
    for _ in range(2):
        running = run_line(open_source=source)
        running.thread.join(120)
        running.finish()
    assert [(verdict.seq, verdict.run) for verdict in running.journal.rows()] == [(1, 1), (2, 1), (3, 2), (4, 2)]


def test_observer_that_raises_ends_nothing_and_is_counted(run_line, make_options, tmp_path, monkeypatch, caplog):
    """Drift, live status, summary, thresholds, model swap, systemd and pictures, all at once."""

    def broken(*arguments, **more):
        raise RuntimeError("told to fail")

    for name in (
        "observers.drift.DriftWatch.observe", "observers.status.LiveStatus.observe",
        "observers.status.LiveStatus.do_maintenance", "observers.summary.Summary.do_maintenance",
        "observers.systemd.Notifier.do_maintenance", "outputs.pictures.Pictures.prepare",
        "loop.apply_threshold_changes", "models.swap.ModelSwap.apply_pending",
    ):  # fmt: skip
        monkeypatch.setattr(f"stfpm_runtime.line.{name}", broken)
    answers = []
    camera = CameraOptions("left", "0", trigger="http")
    options = make_options(
        camera,
        dashboard=ServerOptions("127.0.0.1:0"),
        pictures=PictureOptions(tmp_path / "pictures", save="all", free_mb=0),
    )
    running = run_line(options)
    trigger = running.line.cameras[0].trigger
    for number in range(20):
        assert trigger.put(TriggerRequest(time.monotonic_ns(), f"A-{number}", answers.append))
        wait_until(lambda number=number: len(answers) > number)
    verdicts = running.finish()
    assert running.errors == []
    assert [verdict.part for verdict in verdicts] == [f"A-{number}" for number in range(20)]
    assert {verdict.decision for verdict in verdicts} == {"pass"}
    failures = running.line.guard.failures
    assert set(failures) == {"drift", "live_status", "summary", "thresholds", "model", "systemd", "pictures"}
    assert failures["drift"] == failures["pictures"] == 20
    assert sum(record.message.startswith("drift: internal error") for record in caplog.records) == 1
    assert sum(event.detail.startswith("drift: RuntimeError") for event in running.journal.events()) == 1


def test_loop_that_breaks_answers_what_it_has_accepted(run_line, make_options, monkeypatch):
    answers = []
    camera = CameraOptions("left", "0", trigger="http", delay_ms=5000, timeout_ms=5000)
    running = run_line(make_options(camera, dashboard=ServerOptions("127.0.0.1:0")))
    trigger = running.line.cameras[0].trigger
    assert all(trigger.put(TriggerRequest(time.monotonic_ns(), part, answers.append)) for part in ("A-1", "A-2"))

    def broken(*arguments):
        raise RuntimeError("a bug of the loop itself")

    monkeypatch.setattr("stfpm_runtime.line.loop.do_maintenance", broken)
    running.thread.join(20)
    assert [str(error) for error in running.errors] == ["a bug of the loop itself"]
    assert sorted(records[0]["part"] for records in answers) == ["A-1", "A-2"]
    assert running.journal.decisions == ["fault", "fault"]


def test_part_that_waits_for_a_driver_that_hangs_is_a_fault(run_line, make_options):
    hanging, go_on = threading.Event(), threading.Event()

    class Hanging(FileSource):
        def __init__(self) -> None:
            self._name, self._frames, self._ended = "hanging", iter(()), False

        def next(self, timeout_s):
            hanging.set()
            go_on.wait(30)

    answers = []
    camera = CameraOptions("left", "0", trigger="http")
    running = run_line(
        make_options(camera, dashboard=ServerOptions("127.0.0.1:0")), open_source=lambda camera, on_event: Hanging()
    )
    running.line.cameras[0].trigger.put(TriggerRequest(time.monotonic_ns(), "A-1", answers.append))
    assert hanging.wait(20)
    verdicts = running.finish()
    go_on.set()
    assert [(verdict.part, verdict.decision) for verdict in verdicts] == [("A-1", "fault")]
    assert [records[0]["part"] for records in answers] == ["A-1"]


@pytest.mark.parametrize("part", ["\ud800", "A\nfake line", "A" * 201, "\x1b[2J"])
def test_part_id_that_cannot_be_journalled_is_a_fault_and_the_line_goes_on(run_line, make_options, part):
    answers = []
    camera = CameraOptions("left", "0", trigger="http")
    running = run_line(make_options(camera, dashboard=ServerOptions("127.0.0.1:0")))
    trigger = running.line.cameras[0].trigger
    for number, each in enumerate((part, "A-2")):
        assert trigger.put(TriggerRequest(time.monotonic_ns(), each, answers.append))
        wait_until(lambda number=number: len(answers) > number)
    verdicts = running.finish()
    assert running.errors == []
    assert [(verdict.part, verdict.decision) for verdict in verdicts] == [("", "fault"), ("A-2", "pass")]
    assert "part id" in verdicts[0].reason
    assert verdicts[0].reason.isprintable()


def test_decision_that_cannot_be_made_is_a_fault(run_line, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("told to fail")

    monkeypatch.setattr("stfpm_runtime.line.decide.Decider.p_value", broken)
    running = run_line()
    wait_until(lambda: len(running.journal.rows()) >= 2)
    verdicts = running.finish()
    assert running.errors == []
    assert {(verdict.decision, verdict.score, verdict.reason) for verdict in verdicts} == {
        ("fault", None, "internal error: RuntimeError: told to fail")
    }


def test_stop_has_one_budget_for_all(run_line, make_options, tmp_path, monkeypatch):
    """Pictures and JSON lines hang: together they delay the stop for its budget, not each for its own."""
    monkeypatch.setattr("stfpm_runtime.lifecycle.STOP_S", 1.0)
    go_on = threading.Event()
    monkeypatch.setattr(
        "stfpm_runtime.line.outputs.picture_folder.PictureFolder.write", lambda *arguments: go_on.wait(30)
    )
    monkeypatch.setattr(
        "stfpm_runtime.line.outputs.json_lines.JsonLinesOutput.send_verdicts", lambda *arguments: go_on.wait(30)
    )
    options = make_options(
        journal_options={"json_lines": tmp_path / "line.jsonl"},
        pictures=PictureOptions(tmp_path / "pictures", save="all", free_mb=0),
    )
    running = run_line(options)
    wait_until(lambda: len(running.journal.rows()) > 3)
    started = time.monotonic()
    running.stop.set()
    running.thread.join(20)
    assert time.monotonic() - started < 4
    go_on.set()


def test_damage_in_the_middle_of_the_journal_is_found(run_line, make_options, journal):
    with contextlib.closing(Journal(journal.path, "normal")) as writer:
        for _ in range(3000):
            writer.write(make_row(reason="x" * 100))
    pages = journal.path.stat().st_size // 4096
    with journal.path.open("r+b") as file:
        file.seek(pages // 2 * 4096)
        file.write(b"\xff" * 4096)
    running = run_line(make_options(dashboard=ServerOptions("127.0.0.1:0")))
    wait_until(lambda: running.line.integrity.problem)
    from stfpm_runtime.line.web.views.view import LineView

    assert any("is damaged inside" in problem for problem in LineView(running.line, make_options()).health()[0])
    wait_until(lambda: any("is damaged inside" in event.detail for event in running.journal.events()))
    running.stop.set()
    running.thread.join(20)


def test_a_decision_after_the_deadline_is_a_fault(run_line, make_options):
    def slow(images):
        time.sleep(0.05)
        return first_channel(images)

    camera = CameraOptions("left", "0", deadline_ms=20)
    running = run_line(make_options(camera), answer=slow)
    wait_until(lambda: len(running.journal.rows()) >= 3)
    verdicts = running.finish()
    assert {verdict.decision for verdict in verdicts} == {"fault"}
    assert all(
        re.fullmatch(r"decided [\d.]+ ms after its trigger; .*deadline_ms", verdict.reason) for verdict in verdicts
    )
    assert {(verdict.score, verdict.peak_x) for verdict in verdicts} == {(None, None)}


@pytest.mark.parametrize(("age_ms", "late"), [(48.9, False), (49.0, False), (49.1, True), (50.1, True)])
def test_the_time_of_the_answer_is_kept_free_before_the_deadline(age_ms, late):
    frame = TriggeredFrame(CameraOptions("left", "0", deadline_ms=50), Frame("left"), TriggerRequest(10**9))
    assert bool(why_late(frame, 10**9 + round(age_ms * 1e6))) is late


def test_an_answer_after_the_deadline_is_a_fault_whatever_the_journal_holds(run_line, make_options, monkeypatch):
    camera = CameraOptions("left", "0", trigger="http", deadline_ms=300, timeout_ms=5000)
    running = run_line(make_options(camera, dashboard=ServerOptions("127.0.0.1:0")))
    answers, keep = [], running.line.recorder.keep
    (worker,) = running.line.cameras

    def ask() -> None:
        assert worker.trigger.put(TriggerRequest(time.monotonic_ns(), "A-1", answers.append))
        wait_until(lambda: answers)

    ask()
    assert [one["decision"] for one in answers.pop()] == ["pass"]
    monkeypatch.setattr(running.line.recorder, "keep", lambda row: (time.sleep(0.4), keep(row))[1])  # a slow disk
    ask()
    ((late,),) = answers
    assert (late["decision"], late["reason"].startswith("answered ")) == ("fault", True)
    assert running.finish()[-1].decision == "pass"
    assert [event.camera for event in running.journal.events() if event.kind == "late"] == ["left"]
