"""Triggers, camera workers and the mailbox: which frame is judged, and what happens when none comes."""

from __future__ import annotations

import dataclasses
import threading
import time

import cv2
import numpy as np
import pytest

from stfpm_runtime.errors import DataError, OptionError
from stfpm_runtime.line.cameras import worker as worker_module
from stfpm_runtime.line.cameras.worker import CameraWorker, TriggeredFrame
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.triggers.base import WAITING, IntervalTrigger, QueuedTrigger, TriggerRequest, open_trigger
from stfpm_runtime.sources import FileSource, Frame, SourceOptions, open_source
from stfpm_runtime.sources.fake import FakeCamera
from stfpm_runtime.sources.mailbox import FrameMailbox

from ..cameras.conftest import MjpegServer
from .conftest import wait_until

CAMERA = CameraOptions("left", "0")


def make_frame(index: int = 0, droppable: bool = True, dropped: int = 0) -> TriggeredFrame:
    frame = Frame("fake", index, np.zeros((8, 8, 3), np.uint8))
    return TriggeredFrame(CAMERA, frame, TriggerRequest(), droppable=droppable, dropped=dropped)


def test_newest_frame_replaces_the_others_and_counts_them():
    mailbox = FrameMailbox()
    for index in range(5):
        assert mailbox.put("left", make_frame(index, dropped=1))
    (taken,) = mailbox.pop_all(1)
    assert (taken.frame.index, taken.dropped) == (4, 9)
    assert mailbox.pop_all(0.01) == []


def test_frames_that_were_cleared_are_counted_with_the_next_one():
    mailbox = FrameMailbox()
    for index in range(3):
        mailbox.put("left", make_frame(index))
    mailbox.clear("left")
    assert mailbox.pop_all(0) == []
    mailbox.put("left", make_frame(3))
    assert [(taken.frame.index, taken.dropped) for taken in mailbox.pop_all(0)] == [(3, 3)]


def test_a_request_for_a_frame_lasts_until_one_is_put():
    mailbox = FrameMailbox()
    assert not mailbox.wait_until_wanted(0.0)
    assert mailbox.pop_all(0.0) == []
    assert mailbox.wait_until_wanted(0.0)
    mailbox.put("left", make_frame())
    assert not mailbox.wait_until_wanted(0.0)
    assert mailbox.pop_all(0.0)
    assert not mailbox.wait_until_wanted(0.0)


def test_frames_of_all_cameras_are_taken_together():
    mailbox = FrameMailbox()
    mailbox.put("left", make_frame(0))
    mailbox.put("right", make_frame(1))
    assert [taken.frame.index for taken in mailbox.pop_all(1)] == [0, 1]


@pytest.mark.parametrize(("first", "second"), [(False, True), (True, False), (False, False)])
def test_frame_that_must_not_be_dropped_is_waited_for(first, second):
    mailbox = FrameMailbox()
    mailbox.put("left", make_frame(0, droppable=first))
    thread = threading.Thread(target=mailbox.put, args=("left", make_frame(1, droppable=second)))
    thread.start()
    time.sleep(0.05)
    taken = [mailbox.pop_all(1)[0].frame.index, mailbox.pop_all(1)[0].frame.index]
    thread.join(120)
    assert taken == [0, 1]


def test_closed_mailbox_ends_all_waiting():
    mailbox = FrameMailbox()
    mailbox.put("left", make_frame(0, droppable=False))
    accepted = []
    thread = threading.Thread(target=lambda: accepted.append(mailbox.put("left", make_frame(1, droppable=False))))
    thread.start()
    time.sleep(0.05)
    assert [left.frame.index for left in mailbox.close()] == [0]
    thread.join(120)
    assert accepted == [False]


def test_interval_trigger_keeps_its_rhythm_and_leaves_out_what_was_missed():
    trigger = IntervalTrigger(0.3)
    started = time.monotonic()
    for _ in range(4):
        assert trigger.wait(60).asked
    assert time.monotonic() - started >= 0.9
    time.sleep(1.35)
    assert trigger.wait(0) is not None
    assert trigger.wait(0) is None  # four were missed: one is made
    trigger.close()
    assert trigger.wait(1) is None


def test_request_is_refused_when_too_many_wait():
    trigger = QueuedTrigger()
    assert all(trigger.put(TriggerRequest(1, str(number))) for number in range(WAITING))
    assert not trigger.put(TriggerRequest(1))
    assert trigger.wait(0).part == "0"
    assert trigger.put(TriggerRequest(1, "last"))
    assert [request.part for request in trigger.close()] == [*map(str, range(1, WAITING)), "last"]
    assert not trigger.put(TriggerRequest(1))


def test_part_id_that_does_not_fit_becomes_a_fault_without_it():
    trigger = QueuedTrigger(part_length=8)
    for part in ("A" * 9, "A\nB", "\ud800", "A\x1dB"):
        assert trigger.put(TriggerRequest(1, part))
    requests = [trigger.wait(0) for _ in range(4)]
    assert [request.part for request in requests] == ["", "", "", "A\x1dB"]
    assert [bool(request.error) for request in requests] == [True, True, True, False]


@pytest.fixture
def start(black):
    """Starts a worker with a fake camera; returns it, its mailbox, the camera and the events."""
    workers = []

    def start(open_source=None, fps=200.0, paint=black, frames=None, **options):
        camera = CameraOptions("left", "0", **options)
        opened, events, mailbox = [], [], FrameMailbox()

        def open_fake(camera, on_event):
            opened.append(FakeCamera(paint, fps, "fake", frames, on_event))
            return opened[-1]

        report = lambda name, event: events.append((name, event.kind, event.detail))  # noqa: E731
        worker = CameraWorker(camera, open_trigger(camera), open_source or open_fake, mailbox, report)
        worker.start()
        workers.append((worker, mailbox))
        if open_source is None:
            wait_until(lambda: opened)
        return worker, mailbox, opened[0] if opened else None, events

    yield start
    for worker, mailbox in workers:
        worker.request_stop()
        mailbox.close()
        worker.stop(time.monotonic() + 60)
        assert worker.ended


def take(mailbox: FrameMailbox) -> TriggeredFrame:
    taken: list[TriggeredFrame] = []
    wait_until(lambda: taken.extend(mailbox.pop_all(0.05)) or taken)
    assert len(taken) == 1
    return taken[0]


def take_until(mailbox: FrameMailbox, condition) -> TriggeredFrame:
    for _ in range(500):
        if condition(found := take(mailbox)):
            return found
    raise AssertionError("it did not come")


def test_slow_loop_gets_the_newest_frame(start):
    _, mailbox, _, _ = start(fps=200.0)
    take(mailbox)
    slept_ns = time.monotonic_ns()
    time.sleep(0.5)
    taken = take(mailbox)
    assert taken.droppable
    assert taken.dropped > 1  # older ones were passed over
    assert taken.frame.arrived_ns > slept_ns


def test_frame_for_a_trigger_is_younger_than_it_and_the_delay(start):
    worker, mailbox, _, _ = start(trigger="http", delay_ms=50)
    time.sleep(0.05)
    at_ns = time.monotonic_ns()
    worker.trigger.put(TriggerRequest(at_ns, "A-1"))
    taken = take(mailbox)
    assert taken.frame.part == "A-1"
    assert not taken.droppable
    assert 50e6 <= taken.frame.arrived_ns - at_ns < 200e6
    assert mailbox.pop_all(0.05) == []  # one frame for one trigger


def test_trigger_without_a_frame_is_a_fault(start):
    worker, mailbox, camera, _ = start(trigger="http", timeout_ms=50)
    camera.lose()
    worker.trigger.put(TriggerRequest(time.monotonic_ns(), "A-1"))
    taken = take(mailbox)
    assert (taken.frame.image, taken.frame.part) == (None, "A-1")
    assert taken.frame.error == "no frame within 50 ms of the trigger"


def test_interval_trigger_takes_one_frame_each_time(start):
    _, mailbox, _, _ = start(trigger="every", every_ms=40)
    indices = [take(mailbox).frame.index for _ in range(11)]
    assert indices[-1] - indices[0] >= 10 * 6, indices  # 8 frames of 5 ms each; a busy machine is late at some


def test_lost_camera_is_an_event_and_one_fault(start):
    _, mailbox, camera, events = start()
    take(mailbox)
    camera.lose("the cable is out")
    fault = take_until(mailbox, lambda taken: taken.frame.image is None)
    assert fault.frame.error == "the camera is lost (the cable is out)"
    assert not fault.droppable
    camera.regain()
    for _ in range(3):
        assert take(mailbox).frame.image is not None
    assert events == [("left", "lost", "the cable is out"), ("left", "regained", "")]


def test_frames_of_a_frozen_camera_are_faults_until_it_thaws(start):
    _, mailbox, camera, _ = start()
    camera.freeze()
    take_until(mailbox, lambda taken: taken.frame.image is None)
    for _ in range(3):
        assert take(mailbox).frame.error == "the camera is frozen (the same frame for 5 s)"
    camera.thaw()
    take_until(mailbox, lambda taken: taken.frame.image is not None)
    assert take(mailbox).frame.image is not None


def test_frozen_camera_that_was_lost_and_came_back_is_judged_again(start):
    worker, mailbox, camera, _ = start()
    camera.freeze()
    take_until(mailbox, lambda taken: taken.frame.image is None)
    camera.lose()
    camera.regain()
    frames = [take(mailbox) for _ in range(20)]
    assert frames[-1].frame.error == ""
    assert worker.state == "regained"


def painted(index: int) -> np.ndarray:
    """Frame 3 is of another size, frame 5 grey."""
    return np.zeros({3: (16, 24, 3), 5: (16, 32)}.get(index, (16, 32, 3)), np.uint8)


def test_frame_of_another_size_or_kind_is_a_fault(start):
    _, mailbox, _, _ = start(fps=None, paint=painted, frames=8, trigger="every", every_ms=1)
    frames = [take(mailbox) for _ in range(8)]
    assert [taken.frame.image is None for taken in frames] == [index in (3, 5) for index in range(8)]
    assert frames[3].frame.error.startswith("got a frame of 24x16, 3 channels, the camera began with 32x16, 3 channels")
    assert "got a frame of 32x16, 1 channels" in frames[5].frame.error


def test_frames_of_any_size_where_that_is_wanted(start):
    _, mailbox, _, _ = start(fps=None, paint=painted, frames=8, trigger="every", every_ms=1, same_size=False)
    assert all(take(mailbox).frame.image is not None for _ in range(8))


def test_source_that_cannot_be_opened_is_a_fault_and_tried_again(start, monkeypatch, black):
    monkeypatch.setattr(worker_module, "RETRY_S", (0.05, 0.1))
    attempts = []

    def open_source(camera, on_event):
        attempts.append(time.monotonic())
        if len(attempts) < 4:
            raise DataError("parts: no such folder")
        return FakeCamera(black)

    _, mailbox, _, events = start(open_source)
    assert take(mailbox).frame.error == "the camera is lost (parts: no such folder)"
    assert take(mailbox).frame.image is not None
    assert len(attempts) == 4
    assert events == [("left", "lost", "parts: no such folder")]


def test_trigger_before_the_source_is_open_is_a_fault(start):
    def open_source(camera, on_event):
        raise DataError("parts: no such folder")

    worker, mailbox, _, _ = start(open_source, trigger="http")
    worker.trigger.put(TriggerRequest(time.monotonic_ns(), "A-1"))
    assert take(mailbox).frame.error == "the source was not opened yet"


def test_source_that_can_never_be_opened_is_a_failure(start):
    def open_source(camera, on_event):
        raise OptionError("no such scheme")

    worker, _, _, _ = start(open_source)
    wait_until(lambda: worker.ended)
    assert str(worker.failure) == "no such scheme"


def test_bug_in_a_source_is_a_fault_with_its_traceback(start, caplog):
    class Buggy(FakeCamera):
        def next(self, timeout_s):
            raise ZeroDivisionError

    worker, mailbox, _, _ = start(lambda camera, on_event: Buggy(painted))
    assert take(mailbox).frame.error == "internal error: the camera's thread has ended"
    wait_until(lambda: worker.ended)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("trigger", [{}, {"trigger": "every", "every_ms": 1}])
def test_files_are_given_each_once_and_then_it_ends(start, tmp_path, write, paint, trigger):
    for number in range(5):
        write(tmp_path / f"{number}.png", paint(number))
    (tmp_path / "2.png").write_bytes(b"")
    worker, mailbox, _, _ = start(lambda camera, on_event: FileSource([str(tmp_path)]), **trigger)
    frames = []
    wait_until(lambda: frames.extend(mailbox.pop_all(0.01)) or (worker.ended and len(frames) >= 5))
    time.sleep(0.02)
    frames += mailbox.pop_all(0)
    assert [int(taken.frame.source[-5]) for taken in frames] == [0, 1, 2, 3, 4]
    assert [taken.frame.image is None for taken in frames] == [False, False, True, False, False]
    assert all(taken.frame.arrived_ns for taken in frames)


def test_source_that_has_ended_answers_triggers_with_faults(start):
    worker, mailbox, _, _ = start(fps=None, frames=1, trigger="http")
    for part, error in (("A", ""), ("B", "the source has ended"), ("C", "the source has ended")):
        worker.trigger.put(TriggerRequest(time.monotonic_ns(), part))
        taken = take(mailbox)
        assert (taken.frame.part, taken.frame.error) == (part, error)


@pytest.fixture
def start_watching(start, tmp_path):
    """Starts a worker whose camera is a watched folder; returns it, its mailbox and the folder."""
    (tmp_path / "in").mkdir()

    def start_one(timeout_ms=600, give_up_s=30.0, **options):
        watching = SourceOptions(watch=True, settle_s=0.05, poll_s=0.02, give_up_s=give_up_s)
        source = lambda camera, on_event: open_source(str(tmp_path / "in"), on_event=on_event, options=watching)  # noqa: E731
        worker, mailbox, _, _ = start(source, **{"watch": True, "trigger": "http", "timeout_ms": timeout_ms, **options})
        wait_until(lambda: worker.state == "opened")
        return worker, mailbox, tmp_path / "in"

    return start_one


def put_picture(folder, name: str, level: int) -> None:
    """Write a picture whose one level says which it is, in one step."""
    whole = cv2.imencode(".png", np.full((16, 32, 3), level, np.uint8))[1].tobytes()
    (folder / f"{name}.tmp").write_bytes(whole)
    (folder / f"{name}.tmp").rename(folder / f"{name}.png")


def request_frame(worker, mailbox, part: str) -> TriggeredFrame:
    """Request a verdict on the part, and take the frame for it."""
    worker.trigger.put(TriggerRequest(time.monotonic_ns(), part))
    return take(mailbox)


def test_picture_from_before_the_trigger_is_a_fault_and_not_the_parts(start_watching):
    worker, mailbox, folder = start_watching()
    put_picture(folder, "stray", 10)
    stray = take(mailbox)
    assert (stray.frame.image, stray.frame.part) == (None, "")
    assert stray.frame.source.endswith("stray.png")
    assert "no trigger asked for this picture" in stray.frame.error
    worker.trigger.put(TriggerRequest(time.monotonic_ns(), "A"))
    time.sleep(0.05)
    put_picture(folder, "a", 20)
    first = take(mailbox)
    assert (first.frame.part, int(first.frame.image[0, 0, 0])) == ("A", 20)


def test_damaged_picture_that_comes_too_late_is_a_fault_with_its_reason(start_watching):
    worker, mailbox, folder = start_watching(timeout_ms=200, give_up_s=0.5)
    worker.trigger.put(TriggerRequest(time.monotonic_ns(), "A"))
    (folder / "a.png").write_bytes(cv2.imencode(".png", np.full((16, 32, 3), 9, np.uint8))[1].tobytes()[:-20])
    assert take(mailbox).frame.error == "no frame within 200 ms of the trigger"
    late = take(mailbox).frame
    assert (late.image, late.part) == (None, "")
    assert "a.png: the file ends before the picture does" in late.error


def test_picture_just_before_the_trigger_is_not_taken_for_it_however_late_it_is_seen(start_watching):
    """The scan of the folder comes after the trigger; the picture came before."""
    worker, mailbox, folder = start_watching()
    for number in range(10):
        put_picture(folder, f"stray{number}", 10 + number)
        time.sleep(0.02)  # more than the grain of a file's time
        worker.trigger.put(TriggerRequest(time.monotonic_ns(), "A"))
        frames = [take(mailbox), take(mailbox)]
        assert all(taken.frame.image is None for taken in frames), number


def test_stray_or_missing_picture_does_not_shift_those_of_later_parts(start_watching):
    worker, mailbox, folder = start_watching(timeout_ms=1500)
    judged = {}
    for number in range(6):
        if number == 1:
            put_picture(folder, "stray", 99)
            time.sleep(0.1)
        worker.trigger.put(TriggerRequest(time.monotonic_ns(), str(number)))
        time.sleep(0.1)
        if number != 3:  # its picture is lost
            put_picture(folder, str(number), 10 + number)
        time.sleep(0.2)
        for taken in mailbox.pop_all(0):
            judged[taken.frame.part or "stray"] = taken.frame
    wait_until(
        lambda: judged.update({t.frame.part or "stray": t.frame for t in mailbox.pop_all(0.05)}) or len(judged) == 7
    )
    levels = {part: frame.image is not None and int(frame.image[0, 0, 0]) for part, frame in judged.items()}
    assert levels == {"0": 10, "1": 11, "2": 12, "3": False, "4": 14, "5": 15, "stray": False}
    assert judged["3"].error == "no picture came before the next trigger"


def test_picture_that_is_written_while_the_trigger_comes_is_from_before(start_watching):
    worker, mailbox, folder = start_watching()
    whole = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    with (folder / "slow.png").open("wb") as file:
        file.write(whole[: len(whole) // 2])
        file.flush()
        time.sleep(0.2)
        worker.trigger.put(TriggerRequest(time.monotonic_ns(), "A"))
        file.write(whole[len(whole) // 2 :])
    frames = [take(mailbox), take(mailbox)]
    assert all(taken.frame.image is None for taken in frames)
    assert {taken.frame.part for taken in frames} == {"", "A"}


def test_same_picture_again_is_a_fault_for_a_part(start_watching):
    worker, mailbox, folder = start_watching()
    errors = []
    for number, level in enumerate((10, 20, 10, 30)):
        worker.trigger.put(TriggerRequest(time.monotonic_ns(), str(number)))
        time.sleep(0.05)
        put_picture(folder, str(number), level)
        errors.append(take(mailbox).frame.error)
    assert [bool(error) for error in errors] == [False, False, True, False]
    assert "the same picture before, to the last bit" in errors[2]


class Repeating(FakeCamera):
    """A camera that gives two pictures in turn, and knows it."""

    def next(self, timeout_s):
        frame = super().next(timeout_s)
        return frame and dataclasses.replace(frame, repeated=frame.index >= 2)


def test_repeated_picture_of_a_camera_is_a_fault_for_a_part_at_once(start, black):
    worker, mailbox, _, _ = start(lambda camera, on_event: Repeating(black, fps=None), trigger="http")
    errors = [request_frame(worker, mailbox, part).frame.error for part in "ABC"]
    assert errors[:2] == ["", ""]
    assert errors[2].startswith("the camera gave the same picture before")


def test_dead_camera_thread_answers_what_was_accepted_and_refuses_what_comes(start):
    class Buggy(FakeCamera):
        def next(self, timeout_s):
            time.sleep(0.2)
            raise ZeroDivisionError

    worker, mailbox, _, events = start(lambda camera, on_event: Buggy(painted), trigger="http")
    for part in "ABC":
        assert worker.trigger.put(TriggerRequest(time.monotonic_ns(), part))
    frames = [take(mailbox) for _ in range(3)]
    assert [taken.frame.part for taken in frames] == ["A", "B", "C"]
    assert {taken.frame.error for taken in frames} == {"internal error: the camera's thread has ended"}
    wait_until(lambda: worker.ended)
    assert not worker.trigger.put(TriggerRequest(time.monotonic_ns(), "D"))
    assert worker.state == "lost"
    assert events == [("left", "lost", "internal error: the camera's thread has ended")]


@pytest.mark.parametrize("options", [{"trigger": "mqtt", "topic": "parts"}, {"trigger": "gpio", "gpio": "chip:1"}])
def test_source_that_has_ended_answers_every_kind_of_trigger(start, options):
    worker, mailbox, _, _ = start(fps=None, frames=1, **options)
    assert request_frame(worker, mailbox, "A").frame.error == ""
    time.sleep(0.3)
    assert request_frame(worker, mailbox, "B").frame.error == "the source has ended"
    assert not worker.ended


def test_every_file_is_taken_where_triggers_come_for_files(start, tmp_path, write, paint):
    """Files wait until they are asked for: nothing of them is old, and two may be alike."""
    for number in range(3):
        write(tmp_path / f"{number}.png", paint(7))
    worker, mailbox, _, _ = start(lambda camera, on_event: FileSource([str(tmp_path)]), trigger="http", delay_ms=20)
    assert [request_frame(worker, mailbox, part).frame.error for part in "ABC"] == ["", "", ""]


def test_stream_that_changes_its_size_gives_faults(start):
    server = MjpegServer()
    try:
        source = lambda camera, on_event: open_source(  # noqa: E731
            f"http://{server.address}/", on_event=on_event, options=SourceOptions(frozen_after_s=0)
        )
        _, mailbox, _, _ = start(source)
        assert take(mailbox).frame.image is not None
        server.behaviour = "small"
        changed = take_until(mailbox, lambda taken: taken.frame.image is None)
        assert "got a frame of 32x24, 3 channels, the camera began with 64x48" in changed.frame.error
    finally:
        server.stop()


def test_snapshot_camera_is_asked_once_for_each_trigger(start):
    server = MjpegServer()
    server.snapshot = True
    try:
        source = lambda camera, on_event: open_source(f"http://{server.address}/snapshot.jpg", on_event=on_event)  # noqa: E731
        worker, mailbox, _, events = start(source, trigger="http", delay_ms=50, timeout_ms=5000)
        wait_until(lambda: events == [("left", "opened", "64x48")])
        asked = server.asked
        for number, part in enumerate("ABC", 1):
            taken = request_frame(worker, mailbox, part)
            assert (taken.frame.part, taken.frame.error) == (part, "")
            time.sleep(0.2)
            assert server.asked == asked + number
        server.behaviour = "torn"
        assert "the frame is not whole" in request_frame(worker, mailbox, "D").frame.error
    finally:
        server.stop()
