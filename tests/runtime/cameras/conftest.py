"""Real peers for live sources: each runs beside the test, can be killed, halted and started again."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from stfpm_runtime.sources.live import open_source
from stfpm_runtime.sources.options import SourceOptions

SYSTEM_PYTHON = "/usr/bin/python3"
QUICK = {"retry_first_s": 0.1, "retry_most_s": 0.4, "silent_after_s": 1.0, "open_timeout_s": 5.0}


class Events(list):
    """What befell a source, in order."""

    def kinds(self) -> list[str]:
        return [event.kind for event in self]


def wait_for(condition, timeout_s: float = 120.0):
    """What the condition gives, as soon as that is true."""
    until = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
    return result


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def start(events):
    """Opens a source with quick time-outs, and closes it at the end, without waiting for a peer that hangs."""
    sources = []

    def start_one(address, **options):
        sources.append(open_source(str(address), on_event=events.append, options=SourceOptions(**{**QUICK, **options})))
        return sources[-1]

    yield start_one
    for source in sources:
        began = time.monotonic()
        source.close()
        assert time.monotonic() - began < 30.0
        assert source.ended
        assert source.next(0.0) is None


class MjpegServer(http.server.ThreadingHTTPServer):
    """A camera's HTTP stream of JPEG pictures; `behaviour` says what the next picture is: `noise`, `same`, `small`,
    `stall` for none, `end` for the end of the stream. Refuses all but `password`, if that is set."""

    daemon_threads = True
    behaviour = "noise"
    period_s = 0.03
    secret = ""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Stream)
        self.stopping = False
        self.asked = 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def stop(self) -> None:
        self.stopping = True
        self.shutdown()
        self.server_close()


class _Stream(http.server.BaseHTTPRequestHandler):
    server: MjpegServer

    def do_GET(self):
        self.server.asked += 1
        if self.server.secret not in self.path + self.headers.get("Authorization", ""):
            self.send_error(401)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        rng = np.random.default_rng()
        still = rng.integers(0, 255, (48, 64, 3), np.uint8)
        while not self.server.stopping and self.server.behaviour != "end":
            time.sleep(self.server.period_s)
            behaviour = self.server.behaviour
            if behaviour == "stall":
                continue
            size = (24, 32, 3) if behaviour == "small" else (48, 64, 3)
            picture = still if behaviour == "same" else rng.integers(0, 255, size, np.uint8)
            data = cv2.imencode(".jpg", picture)[1].tobytes()
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + data + b"\r\n")
            except OSError:
                return

    def log_message(self, *arguments):
        pass


@pytest.fixture
def mjpeg():
    server = MjpegServer()
    yield server
    if not server.stopping:
        server.stop()


class Process:
    """A peer in a process of its own."""

    def __init__(self, *argv: str) -> None:
        self.argv = argv
        self.run()

    def run(self) -> None:
        self.process = subprocess.Popen(self.argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def rtsp():
    """Starts an RTSP server; gives it with its port."""
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst; Gst.init(None); "
    check += "raise SystemExit(Gst.ElementFactory.find('x264enc') is None)"
    try:
        missing = subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True, check=False).returncode
    except OSError:
        missing = 1
    if missing:
        pytest.skip("needs gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-good and -ugly, python3-gi")
    servers = []

    def serve(port: int = 0, *credentials: str):
        script = str(Path(__file__).with_name("rtsp_server.py"))
        servers.append(Process(SYSTEM_PYTHON, script, str(port), *credentials))
        return servers[-1], int(servers[-1].process.stdout.readline())

    yield serve
    for server in servers:
        if server.process.returncode is None:
            server.kill()


@pytest.fixture
def gige():
    """A GigE Vision camera on loopback."""
    program = shutil.which("arv-fake-gv-camera-0.8")
    if program is None:
        pytest.skip("needs aravis-tools and libaravis-0.8-0")
    camera = Process(program, "-i", "127.0.0.1")
    yield camera
    if camera.process.returncode is None:
        camera.kill()
