"""Real peers for live sources: each runs during the test, and can be killed, halted and started again."""

from __future__ import annotations

import hashlib
import http.server
import shutil
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from stfpm_runtime.sources import SourceOptions, open_source

SYSTEM_PYTHON = "/usr/bin/python3"
QUICK = {"retry_first_s": 0.1, "retry_most_s": 0.4, "silent_after_s": 1.0, "open_timeout_s": 5.0}


class Events(list):
    """The events of a source, in order."""

    def kinds(self) -> list[str]:
        return [event.kind for event in self]


def wait_for(condition, timeout_s: float = 120.0):
    """Return the value of the condition, as soon as that is true."""
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
    `torn` for one that is cut off, `long` for one cut off whose length is stated as that of the whole, `turns` for two
    that alternate, `clock` for one whose comment changes, `stall` for none, `end` for the end of the stream. Refuses
    all but `secret`, if that is set, and all but `digest` (user and password). `snapshot`: one picture a request."""

    daemon_threads = True
    behaviour = "noise"
    period_s = 0.03
    secret = ""
    digest: tuple[str, str] | None = None
    snapshot = False
    states_length = True
    boundary = "next"
    delay_s = 0.0
    """Of a snapshot: how long its answer takes."""

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
        if self.server.digest and not self._is_let_in(*self.server.digest):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Digest realm="camera", nonce="abc", qop="auth", algorithm=MD5')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.rng = np.random.default_rng()
        if self.server.snapshot:
            time.sleep(self.server.delay_s)
            data = self._picture(self.server.behaviour)
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={self.server.boundary}")
        self.end_headers()
        while not self.server.stopping and self.server.behaviour != "end":
            time.sleep(self.server.period_s)
            behaviour = self.server.behaviour
            if behaviour == "stall":
                continue
            data = self._picture(behaviour)
            stated = 2 * len(data) if behaviour == "long" else len(data)
            length = f"Content-Length: {stated}\r\n" if self.server.states_length else ""
            try:
                self.wfile.write(
                    f"--{self.server.boundary}\r\nContent-Type: image/jpeg\r\n{length}\r\n".encode() + data + b"\r\n"
                )
            except OSError:
                return

    def _picture(self, behaviour: str) -> bytes:
        self.count = getattr(self, "count", 0) + 1
        size = (24, 32, 3) if behaviour == "small" else (48, 64, 3)
        rng = {
            "same": np.random.default_rng(1),
            "clock": np.random.default_rng(1),
            "turns": np.random.default_rng(self.count % 2),
        }.get(behaviour, self.rng)
        data = cv2.imencode(".jpg", rng.integers(0, 255, size, np.uint8))[1].tobytes()
        if behaviour == "clock":
            comment = f"{self.count:08}".encode()
            data = data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]
        return data[: len(data) * 45 // 100] if behaviour in ("torn", "long") else data

    def _is_let_in(self, user: str, password: str) -> bool:
        """RFC 7616 with MD5 and qop auth."""
        values = urllib.request.parse_keqv_list(
            urllib.request.parse_http_list(self.headers.get("Authorization", "").removeprefix("Digest "))
        )
        hashed = lambda text: hashlib.md5(text.encode()).hexdigest()  # noqa: E731
        first, second = hashed(f"{user}:camera:{password}"), hashed(f"GET:{self.path}")
        middle = ":".join(str(values.get(name)) for name in ("nonce", "nc", "cnonce", "qop"))
        return values.get("response") == hashed(f"{first}:{middle}:{second}")

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
