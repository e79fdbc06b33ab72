"""Triggers, stations and their meeting: which frame is judged, and what becomes of one that never comes."""

from __future__ import annotations

import dataclasses
import threading
import time

import cv2
import numpy as np
import pytest

from stfpm_runtime.errors import DataError, OptionError
from stfpm_runtime.line.cameras import worker as stationing
from stfpm_runtime.line.cameras.mailbox import FrameMailbox, TriggeredFrame, TriggerRequest
from stfpm_runtime.line.cameras.worker import CameraWorker
from stfpm_runtime.line.config.camera import CameraOptions
from stfpm_runtime.line.triggers.base import WAITING, Every, QueuedTrigger, open_trigger
from stfpm_runtime.sources import Frame
from stfpm_runtime.sources.fake import FakeCamera
from stfpm_runtime.sources.file_source import FileSource
from stfpm_runtime.sources.live import open_source
from stfpm_runtime.sources.options import SourceOptions
from stfpm_runtime.sources.watched import WatchedFolder

from ..cameras.conftest import MjpegServer
from .conftest import wait_until

CAMERA = CameraOptions("left", "0")


def shot(index: int = 0, camera: CameraOptions = CAMERA, droppable: bool = True, dropped: int = 0) -> TriggeredFrame:
    return TriggeredFrame(
        camera, Frame("fake", index, np.zeros((8, 8, 3), np.uint8), dropped=dropped), TriggerRequest(), droppable
    )


def test_newest_frame_takes_the_place_and_the_others_are_counted():
    meeting = FrameMailbox()
    for index in range(5):
        assert meeting.bring(shot(index, dropped=1))
    (taken,) = meeting.take(1)
    assert (taken.frame.index, taken.frame.dropped) == (4, 9)
    assert meeting.take(0.01) == []


def test_frames_of_several_cameras_meet():
    meeting = FrameMailbox()
    right = dataclasses.replace(CAMERA, name="right")
    meeting.bring(shot())
    meeting.bring(shot(camera=right))
    assert [taken.camera.name for taken in meeting.take(1)] == ["left", "right"]


@pytest.mark.parametrize(("first", "second"), [(False, True), (True, False), (False, False)])
def test_what_must_not_be_dropped_is_waited_for(first, second):
    meeting = FrameMailbox()
    meeting.bring(shot(0, droppable=first))
    thread = threading.Thread(target=meeting.bring, args=(shot(1, droppable=second),))
    thread.start()
    time.sleep(0.05)
    taken = [meeting.take(1)[0].frame.index, meeting.take(1)[0].frame.index]
    thread.join(120)
    assert taken == [0, 1]


def test_closed_meeting_lets_nobody_wait():
    meeting = FrameMailbox()
    meeting.bring(shot(0, droppable=False))
    brought = []
    thread = threading.Thread(target=lambda: brought.append(meeting.bring(shot(1, droppable=False))))
    thread.start()
    time.sleep(0.05)
    assert [left.frame.index for left in meeting.close()] == [0]
    thread.join(120)
    assert brought == [False]


def test_clock_fires_in_its_rhythm_and_leaves_out_what_was_missed():
    trigger = Every(0.3)
    started = time.monotonic()
    for _ in range(4):
        assert trigger.wait(60).asked
    assert time.monotonic() - started >= 0.9
    time.sleep(1.35)
    assert trigger.wait(0) is not None
    assert trigger.wait(0) is None  # four were missed: one fires
    trigger.close()
    assert trigger.wait(1) is None


def test_no_more_may_wait_than_there_is_room_for():
    trigger = QueuedTrigger()
    assert all(trigger.put(TriggerRequest(1, str(number))) for number in range(WAITING))
    assert not trigger.put(TriggerRequest(1))
    assert trigger.wait(0).part == "0"
    assert trigger.put(TriggerRequest(1, "last"))
    assert [firing.part for firing in trigger.close()] == [*map(str, range(1, WAITING)), "last"]
    assert not trigger.put(TriggerRequest(1))


def test_part_id_that_does_not_fit_becomes_a_fault_without_it():
    trigger = QueuedTrigger(part_length=8)
    for part in ("A" * 9, "A\nB", "\ud800", "A\x1dB"):
        assert trigger.put(TriggerRequest(1, part))
    firings = [trigger.wait(0) for _ in range(4)]
    assert [firing.part for firing in firings] == ["", "", "", "A\x1dB"]
    assert [bool(firing.error) for firing in firings] == [True, True, True, False]


@pytest.fixture
def start(black):
    """Starts a station with a fake camera; gives it, its meeting, the camera and the events."""
    stations = []

    def start(open_source=None, fps=200.0, paint=black, frames=None, **options):
        camera = CameraOptions("left", "0", **options)
        opened, events, meeting = [], [], FrameMailbox()

        def open_fake(camera, on_event):
            opened.append(FakeCamera(paint, fps, "fake", frames, on_event))
            return opened[-1]

        note = lambda name, event: events.append((name, event.kind, event.detail))  # noqa: E731
        station = CameraWorker(camera, open_trigger(camera), open_source or open_fake, meeting, note)
        station.start()
        stations.append((station, meeting))
        if open_source is None:
            wait_until(lambda: opened)
        return station, meeting, opened[0] if opened else None, events

    yield start
    for station, meeting in stations:
        station.close()
        meeting.close()
        wait_until(lambda: station.ended)  # noqa: B023 (called at once)


def take(meeting: FrameMailbox) -> TriggeredFrame:
    taken: list[TriggeredFrame] = []
    wait_until(lambda: taken.extend(meeting.take(0.05)) or taken)
    assert len(taken) == 1
    return taken[0]


def take_until(meeting: FrameMailbox, condition) -> TriggeredFrame:
    for _ in range(500):
        if condition(found := take(meeting)):
            return found
    raise AssertionError("it did not come")


def test_slow_loop_gets_the_newest_frame(start):
    _, meeting, _, _ = start(fps=200.0)
    take(meeting)
    slept_ns = time.monotonic_ns()
    time.sleep(0.5)
    taken = take(meeting)
    assert taken.droppable
    assert taken.frame.dropped > 1  # older ones were passed over
    assert taken.frame.arrived_ns > slept_ns


def test_frame_for_a_trigger_is_younger_than_it_and_the_delay(start):
    station, meeting, _, _ = start(trigger="http", delay_ms=50)
    time.sleep(0.05)
    at_ns = time.monotonic_ns()
    station.trigger.put(TriggerRequest(at_ns, "A-1"))
    taken = take(meeting)
    assert taken.frame.part == "A-1"
    assert not taken.droppable
    assert 50e6 <= taken.frame.arrived_ns - at_ns < 200e6
    assert meeting.take(0.05) == []  # one frame for one trigger


def test_trigger_without_a_frame_is_a_fault(start):
    station, meeting, camera, _ = start(trigger="http", timeout_ms=50)
    camera.lose()
    station.trigger.put(TriggerRequest(time.monotonic_ns(), "A-1"))
    taken = take(meeting)
    assert (taken.frame.image, taken.frame.part) == (None, "A-1")
    assert taken.frame.error == "no frame within 50 ms of the trigger"


def test_clock_takes_one_frame_each_time(start):
    _, meeting, _, _ = start(trigger="every", every_ms=40)
    indices = [take(meeting).frame.index for _ in range(4)]
    assert all(5 <= step <= 12 for step in np.diff(indices)), indices  # 8 frames of 5 ms


def test_lost_camera_is_an_event_and_one_fault(start):
    _, meeting, camera, events = start()
    take(meeting)
    camera.lose("the cable is out")
    fault = take_until(meeting, lambda taken: taken.frame.image is None)
    assert fault.frame.error == "the camera is lost (the cable is out)"
    assert not fault.droppable
    camera.regain()
    for _ in range(3):
        assert take(meeting).frame.image is not None
    assert events == [("left", "lost", "the cable is out"), ("left", "regained", "")]


def test_frames_of_a_frozen_camera_are_faults_until_it_thaws(start):
    _, meeting, camera, _ = start()
    camera.freeze()
    take_until(meeting, lambda taken: taken.frame.image is None)
    for _ in range(3):
        assert take(meeting).frame.error == "the camera is frozen (the same frame for 5 s)"
    camera.thaw()
    take_until(meeting, lambda taken: taken.frame.image is not None)
    assert take(meeting).frame.image is not None


def test_frozen_camera_that_was_lost_and_came_back_is_judged_again(start):
    station, meeting, camera, _ = start()
    camera.freeze()
    take_until(meeting, lambda taken: taken.frame.image is None)
    camera.lose()
    camera.regain()
    shots = [take(meeting) for _ in range(20)]
    assert shots[-1].frame.error == ""
    assert station.state == "regained"


def painted(index: int) -> np.ndarray:
    """Frame 3 is of another size, frame 5 grey."""
    return np.zeros({3: (16, 24, 3), 5: (16, 32)}.get(index, (16, 32, 3)), np.uint8)


def test_frame_of_another_size_or_kind_is_a_fault(start):
    _, meeting, _, _ = start(fps=None, paint=painted, frames=8, trigger="every", every_ms=1)
    shots = [take(meeting) for _ in range(8)]
    assert [taken.frame.image is None for taken in shots] == [index in (3, 5) for index in range(8)]
    assert shots[3].frame.error.startswith("got a frame of 24x16, 3 channels, the camera began with 32x16, 3 channels")
    assert "got a frame of 32x16, 1 channels" in shots[5].frame.error


def test_frames_of_any_size_where_that_is_wanted(start):
    _, meeting, _, _ = start(fps=None, paint=painted, frames=8, trigger="every", every_ms=1, same_size=False)
    assert all(take(meeting).frame.image is not None for _ in range(8))


def test_source_that_cannot_be_opened_is_a_fault_and_tried_again(start, monkeypatch, black):
    monkeypatch.setattr(stationing, "RETRY_S", (0.05, 0.1))
    attempts = []

    def open_source(camera, on_event):
        attempts.append(time.monotonic())
        if len(attempts) < 4:
            raise DataError("parts: no such folder")
        return FakeCamera(black)

    _, meeting, _, events = start(open_source)
    assert take(meeting).frame.error == "the camera is lost (parts: no such folder)"
    assert take(meeting).frame.image is not None
    assert len(attempts) == 4
    assert events == [("left", "lost", "parts: no such folder")]


def test_trigger_before_the_source_is_open_is_a_fault(start):
    def open_source(camera, on_event):
        raise DataError("parts: no such folder")

    station, meeting, _, _ = start(open_source, trigger="http")
    station.trigger.put(TriggerRequest(time.monotonic_ns(), "A-1"))
    assert take(meeting).frame.error == "the source was not opened yet"


def test_source_that_no_waiting_mends_is_told(start):
    def open_source(camera, on_event):
        raise OptionError("no such scheme")

    station, _, _, _ = start(open_source)
    wait_until(lambda: station.ended)
    assert str(station.failure) == "no such scheme"


def test_bug_in_a_source_is_a_fault_with_its_traceback(start, caplog):
    class Buggy(FakeCamera):
        def next(self, timeout_s):
            raise ZeroDivisionError

    station, meeting, _, _ = start(lambda camera, on_event: Buggy(painted))
    assert take(meeting).frame.error == "internal error: the camera's thread has ended"
    wait_until(lambda: station.ended)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("trigger", [{}, {"trigger": "every", "every_ms": 1}])
def test_files_are_given_each_once_and_then_it_ends(start, tmp_path, write, paint, trigger):
    for number in range(5):
        write(tmp_path / f"{number}.png", paint(number))
    (tmp_path / "2.png").write_bytes(b"")
    station, meeting, _, _ = start(lambda camera, on_event: FileSource([str(tmp_path)]), **trigger)
    shots = []
    wait_until(lambda: shots.extend(meeting.take(0.01)) or (station.ended and len(shots) >= 5))
    time.sleep(0.02)
    shots += meeting.take(0)
    assert [int(taken.frame.source[-5]) for taken in shots] == [0, 1, 2, 3, 4]
    assert [taken.frame.image is None for taken in shots] == [False, False, True, False, False]
    assert all(taken.frame.arrived_ns for taken in shots)


def test_source_that_has_ended_answers_triggers_with_faults(start):
    station, meeting, _, _ = start(fps=None, frames=1, trigger="http")
    for part, error in (("A", ""), ("B", "the source has ended"), ("C", "the source has ended")):
        station.trigger.put(TriggerRequest(time.monotonic_ns(), part))
        taken = take(meeting)
        assert (taken.frame.part, taken.frame.error) == (part, error)


@pytest.fixture
def start_watching(start, tmp_path):
    """Starts a station whose camera is a watched folder; gives it, its meeting and the folder."""
    (tmp_path / "in").mkdir()

    def start_one(timeout_ms=600, give_up_s=30.0, **options):
        watching = SourceOptions(watch=True, settle_s=0.05, poll_s=0.02, give_up_s=give_up_s)
        source = lambda camera, on_event: WatchedFolder(str(tmp_path / "in"), "in", on_event, watching)  # noqa: E731
        station, meeting, _, _ = start(
            source, **{"watch": True, "trigger": "http", "timeout_ms": timeout_ms, **options}
        )
        wait_until(lambda: station.state == "opened")
        return station, meeting, tmp_path / "in"

    return start_one


def put_picture(folder, name: str, level: int) -> None:
    """Write a picture whose one level says which it is, in one step."""
    whole = cv2.imencode(".png", np.full((16, 32, 3), level, np.uint8))[1].tobytes()
    (folder / f"{name}.tmp").write_bytes(whole)
    (folder / f"{name}.tmp").rename(folder / f"{name}.png")


def pulled(station, meeting, part: str) -> TriggeredFrame:
    """Fire for the part, and take what comes of it."""
    station.trigger.put(TriggerRequest(time.monotonic_ns(), part))
    return take(meeting)


def test_picture_from_before_the_trigger_is_a_fault_and_not_the_parts(start_watching):
    station, meeting, folder = start_watching()
    put_picture(folder, "stray", 10)
    stray = take(meeting)
    assert (stray.frame.image, stray.frame.part) == (None, "")
    assert stray.frame.source.endswith("stray.png")
    assert "no trigger asked for this picture" in stray.frame.error
    station.trigger.put(TriggerRequest(time.monotonic_ns(), "A"))
    time.sleep(0.05)
    put_picture(folder, "a", 20)
    first = take(meeting)
    assert (first.frame.part, int(first.frame.image[0, 0, 0])) == ("A", 20)


def test_damaged_picture_that_comes_too_late_is_a_fault_with_its_reason(start_watching):
    station, meeting, folder = start_watching(timeout_ms=200, give_up_s=0.5)
    station.trigger.put(TriggerRequest(time.monotonic_ns(), "A"))
    (folder / "a.png").write_bytes(cv2.imencode(".png", np.full((16, 32, 3), 9, np.uint8))[1].tobytes()[:-20])
    assert take(meeting).frame.error == "no frame within 200 ms of the trigger"
    late = take(meeting).frame
    assert (late.image, late.part) == (None, "")
    assert "a.png: the file ends before the picture does" in late.error


def test_picture_just_before_the_trigger_is_not_taken_for_it_however_late_it_is_seen(start_watching):
    """The look into the folder comes after the trigger; the picture came before."""
    station, meeting, folder = start_watching()
    for number in range(10):
        put_picture(folder, f"stray{number}", 10 + number)
        time.sleep(0.02)  # more than the grain of a file's time
        station.trigger.put(TriggerRequest(time.monotonic_ns(), "A"))
        shots = [take(meeting), take(meeting)]
        assert all(taken.frame.image is None for taken in shots), number


def test_stray_or_missing_picture_does_not_shift_those_of_later_parts(start_watching):
    station, meeting, folder = start_watching(timeout_ms=1500)
    judged = {}
    for number in range(6):
        if number == 1:
            put_picture(folder, "stray", 99)
            time.sleep(0.1)
        station.trigger.put(TriggerRequest(time.monotonic_ns(), str(number)))
        time.sleep(0.1)
        if number != 3:  # its picture is lost
            put_picture(folder, str(number), 10 + number)
        time.sleep(0.2)
        for taken in meeting.take(0):
            judged[taken.frame.part or "stray"] = taken.frame
    wait_until(
        lambda: judged.update({t.frame.part or "stray": t.frame for t in meeting.take(0.05)}) or len(judged) == 7
    )
    levels = {part: frame.image is not None and int(frame.image[0, 0, 0]) for part, frame in judged.items()}
    assert levels == {"0": 10, "1": 11, "2": 12, "3": False, "4": 14, "5": 15, "stray": False}
    assert judged["3"].error == "no picture came before the next trigger"


def test_picture_that_is_written_while_the_trigger_comes_is_from_before(start_watching):
    station, meeting, folder = start_watching()
    whole = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    with (folder / "slow.png").open("wb") as file:
        file.write(whole[: len(whole) // 2])
        file.flush()
        time.sleep(0.2)
        station.trigger.put(TriggerRequest(time.monotonic_ns(), "A"))
        file.write(whole[len(whole) // 2 :])
    shots = [take(meeting), take(meeting)]
    assert all(taken.frame.image is None for taken in shots)
    assert {taken.frame.part for taken in shots} == {"", "A"}


def test_same_picture_again_is_a_fault_for_a_part(start_watching):
    station, meeting, folder = start_watching()
    errors = []
    for number, level in enumerate((10, 20, 10, 30)):
        station.trigger.put(TriggerRequest(time.monotonic_ns(), str(number)))
        time.sleep(0.05)
        put_picture(folder, str(number), level)
        errors.append(take(meeting).frame.error)
    assert [bool(error) for error in errors] == [False, False, True, False]
    assert "the same picture before, to the last bit" in errors[2]


class Repeating(FakeCamera):
    """A camera that gives two pictures in turn, and knows it."""

    def next(self, timeout_s):
        frame = super().next(timeout_s)
        return frame and dataclasses.replace(frame, repeated=frame.index >= 2)


def test_repeated_picture_of_a_camera_is_a_fault_for_a_part_at_once(start, black):
    station, meeting, _, _ = start(lambda camera, on_event: Repeating(black, fps=None), trigger="http")
    errors = [pulled(station, meeting, part).frame.error for part in "ABC"]
    assert errors[:2] == ["", ""]
    assert errors[2].startswith("the camera gave the same picture before")


def test_dead_camera_thread_answers_what_was_accepted_and_refuses_what_comes(start):
    class Buggy(FakeCamera):
        def next(self, timeout_s):
            time.sleep(0.2)
            raise ZeroDivisionError

    station, meeting, _, events = start(lambda camera, on_event: Buggy(painted), trigger="http")
    for part in "ABC":
        assert station.trigger.put(TriggerRequest(time.monotonic_ns(), part))
    shots = [take(meeting) for _ in range(3)]
    assert [taken.frame.part for taken in shots] == ["A", "B", "C"]
    assert {taken.frame.error for taken in shots} == {"internal error: the camera's thread has ended"}
    wait_until(lambda: station.ended)
    assert not station.trigger.put(TriggerRequest(time.monotonic_ns(), "D"))
    assert station.state == "lost"
    assert events == [("left", "lost", "internal error: the camera's thread has ended")]


@pytest.mark.parametrize("options", [{"trigger": "mqtt", "topic": "parts"}, {"trigger": "gpio", "gpio": "chip:1"}])
def test_source_that_has_ended_answers_every_kind_of_trigger(start, options):
    station, meeting, _, _ = start(fps=None, frames=1, **options)
    assert pulled(station, meeting, "A").frame.error == ""
    time.sleep(0.3)
    assert pulled(station, meeting, "B").frame.error == "the source has ended"
    assert not station.ended


def test_every_file_is_taken_where_triggers_come_for_files(start, tmp_path, write, paint):
    """Files wait until they are asked for: nothing of them is old, and two may be alike."""
    for number in range(3):
        write(tmp_path / f"{number}.png", paint(7))
    station, meeting, _, _ = start(lambda camera, on_event: FileSource([str(tmp_path)]), trigger="http", delay_ms=20)
    assert [pulled(station, meeting, part).frame.error for part in "ABC"] == ["", "", ""]


def test_stream_that_changes_its_size_gives_faults(start):
    server = MjpegServer()
    try:
        source = lambda camera, on_event: open_source(  # noqa: E731
            f"http://{server.address}/", on_event=on_event, options=SourceOptions(frozen_after_s=0)
        )
        _, meeting, _, _ = start(source)
        assert take(meeting).frame.image is not None
        server.behaviour = "small"
        changed = take_until(meeting, lambda taken: taken.frame.image is None)
        assert "got a frame of 32x24, 3 channels, the camera began with 64x48" in changed.frame.error
    finally:
        server.stop()


def test_snapshot_camera_is_asked_once_for_each_trigger(start):
    server = MjpegServer()
    server.snapshot = True
    try:
        source = lambda camera, on_event: open_source(f"http://{server.address}/snapshot.jpg", on_event=on_event)  # noqa: E731
        station, meeting, _, events = start(source, trigger="http", delay_ms=50, timeout_ms=5000)
        wait_until(lambda: events == [("left", "opened", "64x48")])
        asked = server.asked
        for number, part in enumerate("ABC", 1):
            taken = pulled(station, meeting, part)
            assert (taken.frame.part, taken.frame.error) == (part, "")
            time.sleep(0.2)
            assert server.asked == asked + number
        server.behaviour = "torn"
        assert "the frame is not whole" in pulled(station, meeting, "D").frame.error
    finally:
        server.stop()
