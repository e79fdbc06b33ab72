"""Live sources on a real HTTP server: the newest frame only, loss and reconnection, silence, frozen pictures."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import time

import cv2
import pytest

from stfpm_runtime.errors import DataError, OptionError
from stfpm_runtime.sources import open_source

from .conftest import MjpegServer, wait_for


def test_frames_come_numbered_and_fresh(mjpeg, start, events):
    source = start(f"http://{mjpeg.address}/")
    frames = [source.next(5.0) for _ in range(10)]
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 10
    assert all(later.index == frame.index + 1 + later.dropped for frame, later in itertools.pairwise(frames))
    assert source.live
    assert frames[0].source == source.name == f"http://{mjpeg.address}/"
    assert events.kinds() == ["opened"]
    assert events[0].detail == "64x48"


def test_slow_reader_gets_fresh_frames_and_the_count_of_those_it_missed(mjpeg, start):
    source = start(f"http://{mjpeg.address}/")
    source.next(5.0)
    ages_ms, dropped = [], 0
    for _ in range(8):
        time.sleep(0.3)  # ten times the period
        frame = source.next(5.0)
        ages_ms.append((time.monotonic_ns() - frame.arrived_ns) / 1e6)
        dropped += frame.dropped
    assert dropped > 8  # a reader that takes every frame in turn drops none
    assert sorted(ages_ms)[4] < 300  # most are of their own round, which begins 0.3 s before, not of an earlier one


def test_frames_that_change_size_are_just_frames(mjpeg, start, events):
    source = start(f"http://{mjpeg.address}/")
    assert source.next(5.0).image is not None
    mjpeg.behaviour = "small"
    time.sleep(0.3)
    assert source.next(5.0).image is not None
    assert wait_for(lambda: source.next(1.0)).error == ""


def test_server_that_is_gone_is_lost_and_regained(mjpeg, start, events):
    source = start(f"http://{mjpeg.address}/")
    first = source.next(5.0)
    mjpeg.stop()
    wait_for(lambda: "lost" in events.kinds())
    assert source.next(0.3) is None
    again = MjpegServer(mjpeg.server_address[1])
    try:
        frame = source.next(10.0)
        assert frame.index > first.index
        wait_for(lambda: events.kinds() == ["opened", "lost", "regained"])
    finally:
        again.stop()


def test_end_of_a_stream_is_a_loss_of_the_camera(mjpeg, start, events):
    source = start(f"http://{mjpeg.address}/")
    source.next(5.0)
    mjpeg.behaviour = "end"
    wait_for(lambda: "lost" in events.kinds())
    assert events[1].detail == "the stream ended or broke off"
    assert not source.ended


def test_attempts_to_reconnect_become_rarer(mjpeg, start, events):
    mjpeg.secret = "never"
    start(f"http://{mjpeg.address}/", retry_first_s=0.1, retry_most_s=60.0, jitter=0.0)
    time.sleep(2.5)
    assert 3 <= mjpeg.asked <= 5  # at 0, 0.1, 0.3, 0.7, 1.5, then at 3.1
    assert events.kinds() == ["lost"]


def test_silent_camera_is_lost_in_time_and_regained(mjpeg, start, events):
    source = start(f"http://{mjpeg.address}/")
    source.next(5.0)
    mjpeg.behaviour = "stall"
    began = time.monotonic()
    wait_for(lambda: "lost" in events.kinds())
    assert time.monotonic() - began > 0.5
    assert "no frame for 1." in events[1].detail
    mjpeg.behaviour = "noise"
    wait_for(lambda: source.next(0.1))
    wait_for(lambda: events.kinds() == ["opened", "lost", "regained"])


def test_frozen_camera_is_an_event_and_its_frames_are_not_given(mjpeg, start, events):
    source = start(f"http://{mjpeg.address}/", frozen_after_s=0.4)
    source.next(5.0)
    mjpeg.behaviour = "same"
    wait_for(lambda: "frozen" in events.kinds())
    source.next(0.0)
    assert source.next(0.3) is None
    mjpeg.behaviour = "noise"
    assert source.next(5.0).image is not None
    wait_for(lambda: events.kinds() == ["opened", "frozen", "thawed"])


def test_picture_from_before_a_loss_is_repeated_when_it_comes_again_after_it(mjpeg, start, events):
    mjpeg.behaviour = "same"
    source = start(f"http://{mjpeg.address}/", frozen_after_s=60.0)
    assert not source.next(5.0).repeated
    mjpeg.behaviour = "end"
    wait_for(lambda: "lost" in events.kinds())
    mjpeg.behaviour = "same"
    wait_for(lambda: "regained" in events.kinds())
    assert source.next(5.0).repeated


def test_camera_that_was_frozen_before_a_loss_and_still_is_gives_nothing_after_it(mjpeg, start, events):
    mjpeg.behaviour = "same"
    source = start(f"http://{mjpeg.address}/", frozen_after_s=1.0)
    wait_for(lambda: "frozen" in events.kinds())
    mjpeg.behaviour = "stall"
    wait_for(lambda: "lost" in events.kinds())
    mjpeg.behaviour = "same"
    wait_for(lambda: "regained" in events.kinds())
    assert source.next(0.5) is None
    assert events.kinds() == ["opened", "frozen", "lost", "regained", "frozen"]


def test_still_pictures_are_given_where_the_freeze_detector_is_off(mjpeg, start, events):
    mjpeg.behaviour = "same"
    source = start(f"http://{mjpeg.address}/", frozen_after_s=0)
    source.next(5.0)
    time.sleep(0.6)
    assert source.next(1.0).image is not None
    assert events.kinds() == ["opened"]


def test_closing_takes_less_than_a_second_when_the_peer_hangs(start):
    with socket.create_server(("127.0.0.1", 0)) as peer:  # takes connections and says nothing
        start(f"http://127.0.0.1:{peer.getsockname()[1]}/", open_timeout_s=2.0)
        time.sleep(0.3)  # the fixture closes it, and looks at the clock


def test_device_that_is_missing_is_waited_for(start, events):
    source = start("/dev/video987")
    wait_for(lambda: events)
    assert events.kinds() == ["lost"]
    assert "no such device" in events[0].detail
    assert source.next(0.3) is None


def test_v4l2_camera(start):
    devices = sorted(__import__("pathlib").Path("/dev").glob("video*"))
    if not devices:
        pytest.skip("needs a V4L2 camera, /dev/video*")
    assert start(devices[0], open_timeout_s=10.0).next(10.0).image is not None


def test_gstreamer_pipeline(start, events):
    pipeline = "gstreamer:videotestsrc is-live=true pattern=snow ! video/x-raw,format=BGR,width=64,height=48 ! appsink"
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        with pytest.raises(OptionError, match=r"built without GSTREAMER.*apt install python3-opencv"):
            start(pipeline)
        pytest.skip("this OpenCV is built without GStreamer; that it says so is tested")
    assert start(pipeline).next(10.0).image.shape == (48, 64, 3)


def test_files_are_read_to_their_end(start, tmp_path, write, paint, events):
    for name in ("b.png", "a.png"):
        write(tmp_path / name, paint())
    source = open_source(str(tmp_path), on_event=events.append)
    assert [source.next(1.0).source[-5:] for _ in range(2)] == ["a.png", "b.png"]
    assert source.next(1.0) is None
    assert source.ended
    with pytest.raises(DataError, match="no such file"):
        open_source(str(tmp_path / "missing.png"), on_event=events.append)


@pytest.mark.parametrize("place", ["user:secret@{}/", "{}/?password=secret", "user:wrong-secret@{}/?pw=secret-too"])
@pytest.mark.parametrize("state", ["there", "refusing", "gone"])
def test_credentials_are_seen_nowhere(mjpeg, place, state):
    mjpeg.secret = "another-secret" if state == "refusing" else ""
    if state == "gone":
        mjpeg.stop()
    code = """if True:
        import logging, sys, threading, time
        from stfpm_runtime.sources import SourceOptions, open_source
        logging.basicConfig(level=0)
        options = SourceOptions(retry_first_s=0.1, open_timeout_s=2.0)
        source = open_source(sys.argv[1], on_event=lambda event: print(event, flush=True), options=options)
        frame = source.next(1.0)
        time.sleep(0.5)
        print(source.name, source, frame and (frame.source, frame.error), [vars(t) for t in threading.enumerate()])
        source.close()
    """
    argv = [sys.executable, "-c", code, "http://" + place.format(mjpeg.address)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert ("opened" if state == "there" else "lost") in done.stdout
    assert mjpeg.address in done.stdout
    assert "secret" not in done.stdout + done.stderr
