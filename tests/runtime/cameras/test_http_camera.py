"""JPEG pictures over HTTP: whole and torn ones, repeated ones, snapshots, credentials."""

from __future__ import annotations

import functools
import http.server
import threading
import time

import pytest

from .conftest import wait_for


@pytest.mark.parametrize("states_length", [True, False])
@pytest.mark.parametrize("behaviour", ["torn", "long"])
def test_torn_frame_is_an_error_and_the_next_whole_one_is_none(mjpeg, start, behaviour, states_length):
    mjpeg.states_length = states_length
    source = start(f"http://{mjpeg.address}/")
    assert source.next(5.0).image is not None
    mjpeg.behaviour = behaviour
    frame = wait_for(lambda: (found := source.next(1.0)) and found.error and found)
    for _ in range(5):
        assert frame.image is None
        assert "the frame is not whole: " in frame.error
        frame = source.next(5.0)
    mjpeg.behaviour = "noise"
    wait_for(lambda: (found := source.next(1.0)) and found.image is not None)
    assert all(source.next(5.0).image is not None for _ in range(5))


@pytest.mark.parametrize("states_length", [True, False])
@pytest.mark.parametrize("boundary", ["next", "b", "--next", "-"])
def test_whole_pictures_are_whole_whatever_the_boundary_is(mjpeg, start, states_length, boundary):
    """One that is short occurs in the data of pictures."""
    mjpeg.boundary, mjpeg.states_length = boundary, states_length
    source = start(f"http://{mjpeg.address}/")
    frames = [source.next(5.0) for _ in range(30)]
    assert {frame.error for frame in frames} == {""}
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}


@pytest.mark.parametrize("behaviour", ["same", "turns", "clock"])
def test_pictures_that_are_repeated_are_marked_at_once_and_frozen_after_a_time(mjpeg, start, events, behaviour):
    """Be it one, two in turn, or one whose comment says another time."""
    source = start(f"http://{mjpeg.address}/", frozen_after_s=1.0)
    assert not any(source.next(5.0).repeated for _ in range(10))
    mjpeg.behaviour = behaviour
    began = time.monotonic()
    wait_for(lambda: (found := source.next(1.0)) and found.repeated)
    assert time.monotonic() - began < 0.9
    wait_for(lambda: "frozen" in events.kinds())
    mjpeg.behaviour = "noise"
    wait_for(lambda: (found := source.next(1.0)) and not found.repeated)


def test_repeated_pictures_are_not_marked_where_the_check_is_off(mjpeg, start):
    mjpeg.behaviour = "same"
    source = start(f"http://{mjpeg.address}/", frozen_after_s=0)
    assert not any(source.next(5.0).repeated for _ in range(5))


def test_snapshot_is_asked_for_once_for_each_frame_that_is_wanted(mjpeg, start, events):
    mjpeg.snapshot = True
    mjpeg.delay_s = 0.25
    source = start(f"http://{mjpeg.address}/snapshot.jpg")
    source.next(5.0)  # of the request that opens it
    asked = mjpeg.asked
    for number in range(1, 4):
        time.sleep(0.3)
        before_ns = time.monotonic_ns()
        frame = wait_for(lambda: source.next(0.05))  # the camera's loop asks again and again
        assert frame.image.shape == (48, 64, 3)
        assert before_ns <= frame.arrived_ns < before_ns + 0.2e9  # when it was asked for, not when it came
        assert mjpeg.asked == asked + number
    time.sleep(1.5)  # longer than silent_after_s: nothing is wanted, so nothing is lost
    settled = mjpeg.asked
    time.sleep(0.5)
    assert mjpeg.asked == settled
    assert events.kinds() == ["opened"]


def test_snapshot_that_is_torn_is_an_error(mjpeg, start):
    mjpeg.snapshot = True
    mjpeg.behaviour = "torn"
    frame = start(f"http://{mjpeg.address}/snapshot.jpg").next(5.0)
    assert frame.image is None
    assert "the frame is not whole" in frame.error


def test_snapshot_camera_that_is_gone_is_lost(mjpeg, start, events):
    mjpeg.snapshot = True
    source = start(f"http://{mjpeg.address}/snapshot.jpg")
    source.next(5.0)
    mjpeg.stop()
    assert source.next(0.5) is None
    wait_for(lambda: events.kinds() == ["opened", "lost"])
    assert "check address" in events[1].detail


@pytest.mark.parametrize("password", ["right", "wr%6Fng"])
def test_digest_credentials_let_in_and_a_wrong_password_is_sent_once(mjpeg, start, events, password):
    mjpeg.digest = ("user", "right")
    source = start(f"http://user:{password}@{mjpeg.address}/", retry_first_s=30.0, retry_most_s=30.0, jitter=0.0)
    wait_for(lambda: events)
    if password == "right":
        assert source.next(5.0).image is not None
    else:
        assert events[0].detail == "the camera answers with HTTP status 401; check user and password"
    assert mjpeg.asked == 2


def test_other_content_than_pictures_is_opened_as_a_video(start, events, tmp_path):
    (tmp_path / "page.txt").write_text("no video")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        start(f"http://127.0.0.1:{server.server_address[1]}/page.txt")
        wait_for(lambda: events)
        server.shutdown()
    assert events[0].kind == "lost"
    assert "cannot be opened, after" in events[0].detail
