"""Cameras that are real, or as good as: started, killed and started again by the test."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stfpm_runtime.errors import OptionError
from stfpm_runtime.sources.addresses import kind_of, shown
from stfpm_runtime.sources.base import Event, Frame
from stfpm_runtime.sources.camera import CameraError
from stfpm_runtime.sources.live import LiveOptions, LiveSource, open_source

HERE = Path(__file__).parent
DEBIAN_PYTHON = "/usr/bin/python3"


def wait_until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def next_frame(source, timeout_s: float = 20.0) -> Frame:
    frame = None

    def come() -> bool:
        nonlocal frame
        frame = source.next(0.1)
        return frame is not None

    wait_until(come, timeout_s)
    return frame


def has_gi(namespace: str, version: str) -> bool:
    code = f"import gi; gi.require_version('{namespace}', '{version}')"
    with contextlib.suppress(OSError):
        return subprocess.run([DEBIAN_PYTHON, "-c", code], capture_output=True, check=False).returncode == 0
    return False


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def start(port):
    """Starts a server as a process; stop it by what is returned."""
    with contextlib.ExitStack() as stack:

        def start(*argv: object) -> Callable[[], None]:
            process = subprocess.Popen([str(part) for part in argv], stderr=subprocess.DEVNULL)

            def stop() -> None:
                process.kill()
                process.wait()

            stack.callback(stop)

            def listens() -> bool:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                    return True
                return False

            wait_until(listens)
            return stop

        yield start


@pytest.fixture
def opened():
    """Opens sources; gives them with the events that they tell of, and closes them."""
    with contextlib.ExitStack() as stack:

        def opened(address: str, **options):
            events: list[Event] = []
            source = open_source(address, on_event=events.append, **options)
            stack.callback(source.close)
            return source, events

        yield opened


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def killed_and_started_again(source, events, stop, restart) -> None:
    frame = next_frame(source)
    assert frame.image.shape[2] == 3
    assert kinds(events) == ["opened"]
    stop()
    wait_until(lambda: kinds(events) == ["opened", "lost"])
    assert source.next(0.05) is None or source.next(0.05) is None
    time.sleep(0.5)
    restart()
    later = next_frame(source, 40)
    assert kinds(events) == ["opened", "lost", "regained"]
    assert later.index > frame.index
    started = time.monotonic()
    source.close()
    assert time.monotonic() - started < 1.2
    assert source.ended


def test_rtsp_killed_and_started_again(start, opened, port):
    if not has_gi("GstRtspServer", "1.0"):
        pytest.skip("no RTSP server: apt install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good")

    def serve():
        return start(DEBIAN_PYTHON, HERE / "peer_rtsp.py", port)

    stop = serve()
    source, events = opened(f"rtsp://127.0.0.1:{port}/stream", silent_after_s=2.0)
    killed_and_started_again(source, events, stop, serve)


def test_http_killed_and_started_again(start, opened, port):
    def serve():
        return start(sys.executable, HERE / "peer_mjpeg.py", port, "plain")

    stop = serve()
    source, events = opened(f"http://user:secret@127.0.0.1:{port}/video?password=secret&x=1", silent_after_s=2.0)
    killed_and_started_again(source, events, stop, serve)
    assert source.name == f"http://127.0.0.1:{port}/video?password=***&x=1"
    assert "secret" not in repr(events)


def test_a_stream_that_stalls_is_lost(start, opened, port):
    start(sys.executable, HERE / "peer_mjpeg.py", port, "stall")
    source, events = opened(f"http://127.0.0.1:{port}/", silent_after_s=1.0)
    next_frame(source)
    wait_until(lambda: "lost" in kinds(events), 10)
    started = time.monotonic()
    source.close()
    assert time.monotonic() - started < 1.2


def test_a_stream_that_freezes_and_thaws(start, opened, port):
    start(sys.executable, HERE / "peer_mjpeg.py", port, "freeze")
    source, events = opened(f"http://127.0.0.1:{port}/", frozen_after_s=0.5)
    wait_until(lambda: "frozen" in kinds(events), 10)
    assert kinds(events) == ["opened", "frozen"]
    assert events[1].detail == "the same frame for 0.5 s"
    assert next_frame(source).image is not None


def test_a_slow_reader_gets_fresh_frames_and_knows_what_it_missed(start, opened, port):
    start(sys.executable, HERE / "peer_mjpeg.py", port, "plain")
    source, _ = opened(f"http://127.0.0.1:{port}/")
    frames = []
    for _ in range(5):
        frames.append(next_frame(source))
        age_s = (time.monotonic_ns() - frames[-1].arrived_ns) / 1e9
        assert age_s < 0.3, "a frame period of 0.02 s, and what a busy machine adds"
        time.sleep(0.3)
    for before, frame in itertools.pairwise(frames):
        assert frame.dropped == frame.index - before.index - 1 > 0


@pytest.mark.parametrize("address", ["97", "/dev/video97", "http://127.0.0.1:9/", "rtsp://127.0.0.1:9/a"])
def test_a_camera_that_is_not_there_is_lost_once_and_tried_for_ever(opened, address):
    source, events = opened(address)
    wait_until(lambda: events, 15)
    assert source.next(0.3) is None
    assert kinds(events) == ["lost"]
    assert not source.ended


def test_a_pipeline_without_gstreamer_is_one_line(opened):
    from stfpm_runtime.sources.opencv_camera import _has_gstreamer

    if _has_gstreamer():
        source, _ = opened("videotestsrc is-live=true ! videoconvert ! video/x-raw,format=BGR ! appsink drop=1")
        assert next_frame(source).image.shape[2] == 3
        return
    with pytest.raises(OptionError, match=r"rtspsrc location=rtsp://h/a user-pw=\*\*\* ! .*built without GStreamer"):
        opened("rtspsrc location=rtsp://u:secret@h/a user-pw=secret ! decodebin ! appsink")


class Script:
    """A camera that does what it is told: images, None, errors; then nothing."""

    def __init__(self, *steps) -> None:
        self.steps, self.opened, self.closed = list(steps), 0, 0

    def open(self) -> None:
        self.opened += 1

    def read(self):
        time.sleep(0.01)
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, CameraError):
            raise step
        return step

    def close(self) -> None:
        self.closed += 1


def image(level: int, *shape: int) -> np.ndarray:
    return np.full(shape or (4, 4, 3), level, np.uint8)


def test_each_loss_is_told_once_and_the_camera_made_anew():
    script = Script(image(1), CameraError("cable"), CameraError("still"), image(2))
    events: list[Event] = []
    options = LiveOptions(first_pause_s=0.01, longest_pause_s=0.02)
    source = LiveSource("cam", lambda: script, events.append, options)
    wait_until(lambda: kinds(events) == ["opened", "lost", "regained"])
    assert events[1].detail == "cable"
    assert script.opened == script.closed + 1 == 3
    source.close()
    wait_until(lambda: script.closed == 3)


def test_silence_is_a_loss():
    events: list[Event] = []
    options = LiveOptions(silent_after_s=0.2, first_pause_s=0.01, longest_pause_s=0.02)
    source = LiveSource("cam", lambda: Script(image(1)), events.append, options)
    wait_until(lambda: "lost" in kinds(events))
    assert events[1].detail == "no frame for 0.2 s"
    source.close()


def test_frozen_and_thawed():
    steps = [image(1)] * 40 + [image(2)]
    events: list[Event] = []
    source = LiveSource("cam", lambda: Script(*steps), events.append, LiveOptions(frozen_after_s=0.15))
    wait_until(lambda: kinds(events) == ["opened", "frozen", "thawed"])
    source.close()


def test_pauses_grow_and_are_bounded():
    times: list[float] = []

    class Dead:
        def open(self) -> None:
            times.append(time.monotonic())
            raise CameraError("no")

        def close(self) -> None:
            pass

    events: list[Event] = []
    source = LiveSource("cam", Dead, events.append, LiveOptions(first_pause_s=0.05, longest_pause_s=0.2))
    wait_until(lambda: len(times) >= 6)
    source.close()
    gaps = np.diff(times)
    assert gaps[0] < 0.1
    assert max(gaps) < 0.4
    assert gaps[-1] > gaps[0]
    assert kinds(events) == ["lost"]


def test_a_driver_that_hangs_does_not_hold_up_the_end():
    class Hanging(Script):
        def read(self):
            time.sleep(5)

    source = LiveSource("cam", Hanging, lambda event: None, LiveOptions())
    time.sleep(0.1)
    started = time.monotonic()
    source.close()
    source.close()
    assert time.monotonic() - started < 2.5


def test_frames_that_change_size_are_frames():
    script = Script(image(1, 4, 4, 3), image(1, 8, 6))
    source = LiveSource("cam", lambda: script, lambda event: None, LiveOptions())
    wait_until(lambda: not script.steps)
    assert next_frame(source).image.shape == (8, 6)
    source.close()


@pytest.mark.parametrize(
    ("address", "kind", "name"),
    [
        ("0", "v4l2", "0"),
        ("/dev/video2", "v4l2", "/dev/video2"),
        ("rtsp://user:p@ss@host:554/a", "url", "rtsp://host:554/a"),
        ("http://host/v?user=x&pwd=y&fps=5", "url", "http://host/v?user=***&pwd=***&fps=5"),
        ("aravis:Basler-1234", "aravis", "aravis:Basler-1234"),
        ("aravis:", "aravis", "aravis:"),
        ("v4l2src ! appsink", "gstreamer", "v4l2src ! appsink"),
        ("rtspsrc location=rtsp://u:p@h/a ! appsink", "gstreamer", "rtspsrc location=rtsp://h/a ! appsink"),
        ("parts/*.png", "files", "parts/*.png"),
        ("C:/parts", "files", "C:/parts"),
    ],
)
def test_addresses(address, kind, name):
    assert kind_of(address) == kind
    assert shown(address) == name


def test_only_folders_are_watched(opened):
    with pytest.raises(OptionError, match=r"got watch with rtsp://h/a; expected a folder"):
        opened("rtsp://u:secret@h/a", watch=True)


@pytest.fixture
def fake_camera(start, port):
    """Aravis's own GigE Vision camera on loopback; the test's Python borrows Debian's GObject introspection."""
    if shutil.which("arv-fake-gv-camera-0.8") is None or not has_gi("Aravis", "0.8"):
        pytest.skip("no Aravis: apt install aravis-tools python3-gi gir1.2-aravis-0.8")
    version = subprocess.run([DEBIAN_PYTHON, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    if version.split(".")[:2] != [str(part) for part in sys.version_info[:2]]:
        pytest.skip(f"Aravis's bindings are for Python {version}, this is another")
    processes = []

    def start_camera() -> Callable[[], None]:
        process = subprocess.Popen(["arv-fake-gv-camera-0.8", "-i", "127.0.0.1", "-s", "STFPM01"])
        processes.append(process)
        time.sleep(1.0)

        def stop() -> None:
            process.kill()
            process.wait()

        return stop

    yield start_camera
    for process in processes:
        process.kill()
        process.wait()


def test_a_gige_vision_camera_killed_and_started_again(fake_camera, tmp_path):
    """In a process of its own, whose path has Debian's gi and nothing else of Debian's."""
    (tmp_path / "gi").symlink_to("/usr/lib/python3/dist-packages/gi")
    stop = fake_camera()
    code = """
import sys, time
sys.path.append(sys.argv[1])
from stfpm_runtime.sources.live import open_source
source = open_source("aravis:Aravis-Fake-STFPM01", on_event=lambda event: print(event.kind, event.detail, flush=True),
                     silent_after_s=2.0, frozen_after_s=0)
until = time.monotonic() + 40
count = 0
while time.monotonic() < until:
    frame = source.next(0.2)
    if frame is not None:
        count += 1
        if count % 5 == 1:
            print("frame", frame.image.shape, frame.image.dtype, flush=True)
"""
    path = ":".join(part for part in sys.path if part)
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": path, "PATH": "/usr/bin"},
    )
    said: list[str] = []

    def hear(word: str) -> None:
        while True:
            line = process.stdout.readline()
            assert line, said
            said.append(line.strip())
            if line.startswith(word):
                return

    try:
        hear("opened")
        hear("frame (")
        stop()
        hear("lost")
        fake_camera()
        hear("regained")
        hear("frame (")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_pixel_formats_become_bgr_or_grey(tmp_path, monkeypatch):
    module = f"_gi.cpython-{sys.version_info[0]}{sys.version_info[1]}-*.so"
    if not has_gi("Aravis", "0.8") or not list(Path("/usr/lib/python3/dist-packages/gi").glob(module)):
        pytest.skip("no Aravis for this Python")
    (tmp_path / "gi").symlink_to("/usr/lib/python3/dist-packages/gi")
    code = """
import sys
sys.path.append(sys.argv[1])
import numpy as np
from stfpm_runtime.sources.aravis_camera import decode
from stfpm_runtime.sources.camera import CameraError
grey = np.arange(16, dtype=np.uint8).reshape(4, 4)
assert (decode(grey.tobytes() + b"tail", "Mono8", 4, 4) == grey).all()
twelve = (np.arange(16, dtype=np.uint16) * 273).reshape(4, 4)
assert decode(twelve.tobytes(), "Mono12", 4, 4).max() == 4095 << 4
colour = np.zeros((4, 4, 3), np.uint8); colour[..., 0] = 200
assert (decode(colour.tobytes(), "BGR8", 4, 4)[..., 0] == 200).all()
assert (decode(colour.tobytes(), "RGB8", 4, 4)[..., 2] == 200).all()
# a red picture through each mosaic: the red cells alone are bright
for name, (row, column) in {"BayerRG8": (0, 0), "BayerGR8": (0, 1), "BayerGB8": (1, 0), "BayerBG8": (1, 1)}.items():
    mosaic = np.zeros((8, 8), np.uint8); mosaic[row::2, column::2] = 255
    blue, green, red = decode(mosaic.tobytes(), name, 8, 8)[2:6, 2:6].reshape(-1, 3).mean(0)
    assert red > 200 and blue < 30 and green < 30, (name, blue, green, red)
for bad in (("YUV422_8", 4, 4), ("Mono8", 400, 400)):
    try:
        decode(grey.tobytes(), *bad)
    except CameraError as error:
        print(error)
    else:
        raise SystemExit("accepted " + str(bad))
"""
    path = ":".join(part for part in sys.path if part)
    argv = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(
        argv, capture_output=True, text=True, env={"PYTHONPATH": path, "PATH": "/usr/bin"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "sends YUV422_8; expected one of Mono8" in done.stdout
    assert "sent 16 bytes for 400x400 Mono8" in done.stdout
