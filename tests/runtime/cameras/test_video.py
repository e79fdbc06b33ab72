"""Compressed video with lost and damaged data: no frame is given whose pixels were invented."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from stfpm_runtime import sources
from stfpm_runtime.errors import ImageError
from stfpm_runtime.sources import FileSource, read_frames, video_file
from stfpm_runtime.sources.address import parse_address
from stfpm_runtime.sources.base import SourceOptions
from stfpm_runtime.sources.camera import CameraLostError

from .conftest import wait_for

av = pytest.importorskip("av")
from stfpm_runtime.sources.video import VideoCamera, _luma  # noqa: E402 (it needs av)


@pytest.fixture
def encode(tmp_path):
    """Makes a video of 60 moving frames, every 20th a key frame."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")

    def make(name: str, *options: str) -> Path:
        path = tmp_path / name
        picture = "testsrc2=s=160x120:r=25:d=2.4"
        argv = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", picture, "-g", "20", "-bf", "0", *options, str(path)]
        subprocess.run(argv, check=True)
        return path

    return make


def packets(path: Path) -> list[tuple[int, int]]:
    """Position and size of the data of each packet in the file."""
    data = path.read_bytes()
    with av.open(str(path)) as container:
        found = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    return [(data.find(packet), len(packet)) for packet in found]


def packet_start(path: Path, number: int) -> int:
    """Position of a packet's first byte in a transport stream, which splits it."""
    with av.open(str(path)) as container:
        return [packet.pos for packet in container.demux(video=0) if packet.size][number]


def damage(path: Path, number: int) -> None:
    """Overwrite the second half of a packet with zeros, as of blocks that were never written."""
    position, size = packets(path)[number]
    data = bytearray(path.read_bytes())
    data[position + size // 2 : position + size] = bytes(size - size // 2)
    path.write_bytes(data)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4")])
def test_damaged_frame_and_those_that_depend_on_it_are_errors(encode, name, codec):
    path = encode(name, "-c:v", codec)
    whole = list(read_frames([path]))
    damage(path, 10)
    frames = list(read_frames([path]))
    assert all(frame.image is not None for frame in (*frames[:10], *frames[-40:]))
    broken = frames[10:-40]
    assert len(broken) >= 10
    assert all(frame.image is None and f"{name}: the frame is not whole" in frame.error for frame in broken)
    assert "it depends on a damaged one" in broken[-1].error
    np.testing.assert_array_equal(frames[-1].image, whole[-1].image)  # the next key frame makes it good again


@pytest.mark.parametrize("number", [1, 2, 21, 41])
def test_no_frame_before_a_damaged_one_that_it_depends_on_is_given(encode, number):
    """B frames are shown before the frame that they depend on; the key frame comes out after that was sent."""
    path = encode("a.mp4", "-c:v", "libx264", "-bf", "3")
    whole = {frame.image.tobytes() for frame in read_frames([path])}
    damage(path, number)
    frames = list(read_frames([path]))
    assert any(frame.error for frame in frames)
    assert all(frame.image.tobytes() in whole for frame in frames if frame.image is not None)
    assert sum(frame.image is not None for frame in frames) >= 35


def test_lost_packets_of_a_transport_stream_are_errors(encode):
    path = encode("a.ts", "-c:v", "libx264")
    data = path.read_bytes()
    cut = (packet_start(path, 10) // 188 + 2) * 188
    path.write_bytes(data[:cut] + data[cut + 4 * 188 :])
    frames = list(read_frames([path]))
    errors = [frame.index for frame in frames if frame.image is None]
    assert errors
    assert min(errors) <= 10
    assert set(range(min(errors), 19)) <= set(errors)  # up to the next key frame
    assert all(frame.image is not None for frame in frames[-35:])


def test_torn_picture_in_a_motion_jpeg_file_is_an_error(encode):
    path = encode("a.avi", "-c:v", "mjpeg")
    damage(path, 10)
    frames = list(read_frames([path]))
    assert [frame.index for frame in frames if frame.image is None] == [10]


def test_video_that_was_written_into_a_pipe_does_not_break_off(encode, tmp_path):
    whole = encode("a.mkv", "-c:v", "mjpeg")
    command = ["ffmpeg", "-loglevel", "error", "-i", str(whole), "-c", "copy", "-f", "avi", "pipe:1"]
    path = tmp_path / "piped.avi"
    path.write_bytes(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    frames, expected = list(read_frames([path])), list(read_frames([whole]))
    assert len(frames) == len(expected) > 1
    assert not any(frame.error for frame in frames)


def read_to_the_end(camera: VideoCamera, problems: list[str]) -> None:
    """Add for each frame why it is damaged, or an empty text."""
    while True:
        frame = camera.read()
        try:
            frame.decode(frame.raw)
            problems.append("")
        except ImageError as error:
            problems.append(str(error))


def test_damaged_frames_of_a_stream_are_errors(encode):
    path = encode("a.ts", "-c:v", "libx264")
    data = path.read_bytes()
    cut = (packet_start(path, 10) // 188 + 2) * 188
    path.write_bytes(data[:cut] + data[cut + 4 * 188 :])
    port = free_port()
    sender = subprocess.Popen([sys.executable, "-c", SENDER, str(port), str(path)])
    problems = []
    try:
        camera = VideoCamera(parse_address(f"tcp://127.0.0.1:{port}?listen=1"), SourceOptions(open_timeout_s=20))
        with pytest.raises(CameraLostError, match="the stream ended or broke off"):
            read_to_the_end(camera, problems)
        camera.close()
    finally:
        sender.kill()
        sender.wait()
    assert not any(problems[:9] + problems[-30:])
    assert all("the frame is not whole" in problem for problem in problems[10:19])


SENDER = """
import socket, sys, time
data = open(sys.argv[2], "rb").read()
for _ in range(100):
    try:
        peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        break
    except OSError:
        time.sleep(0.1)
for start in range(0, len(data), 1880):
    peer.sendall(data[start : start + 1880])
    time.sleep(0.02)
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_files_without_pyav_are_read_and_the_missing_check_is_reported(encode, monkeypatch, caplog):
    path = encode("a.mp4", "-c:v", "libx264")
    monkeypatch.setattr(video_file, "find_spec", lambda name: None)
    video_file._warn_unchecked.cache_clear()
    events = []
    source = FileSource([str(path)], on_event=events.append)
    assert source.next(5.0).image is not None
    assert [event.kind for event in events] == ["unchecked"]
    assert "pip install 'stfpm-edge[video]'" in events[0].detail
    assert caplog.text.count("pip install 'stfpm-edge[video]'") == 1
    source.close()


def test_streams_without_pyav_report_the_missing_check(encode, start, events, monkeypatch):
    path = encode("a.ts", "-c:v", "libx264")
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    port = free_port()
    start(f"tcp://127.0.0.1:{port}?listen=1", silent_after_s=20, open_timeout_s=20)
    sender = subprocess.Popen([sys.executable, "-c", SENDER, str(port), str(path)])
    try:
        wait_for(lambda: "opened" in events.kinds())
    finally:
        sender.kill()
        sender.wait()
    wait_for(lambda: "unchecked" in events.kinds())


def test_pixels_are_those_of_opencv(encode):
    path = encode("a.mp4", "-c:v", "libx264")
    ours = next(iter(read_frames([path]))).image
    theirs = cv2.VideoCapture(str(path)).read()[1]
    assert np.abs(ours.astype(int) - theirs).mean() < 1.0


@pytest.mark.parametrize(("layout", "size"), [("yuv420p", 36), ("yuv420p10le", 72), ("gray", 36), ("bgr24", 108)])
def test_frames_are_compared_over_their_whole_width(layout, size):
    frame = av.VideoFrame.from_ndarray(np.full((20, 36, 3), 90, np.uint8), format="bgr24").reformat(format=layout)
    assert _luma(frame).shape == (20, size)
