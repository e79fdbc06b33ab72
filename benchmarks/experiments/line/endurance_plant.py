"""What stands around the line in `experiments.endurance`: a camera, parts, and a machine that asks for verdicts.

The camera is an HTTP server of Motion-JPEG. What it shows is known by construction: a good part, a defective one, or a
good one whose frames are cut short or damaged. Every frame has noise of its own, as a sensor's has.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from stfpm_eval.data import read_category
from stfpm_runtime.detector import Detector
from stfpm_runtime.engines import open_engine
from stfpm_runtime.errors import DataError, ImageError
from stfpm_runtime.imaging.images import read_image
from stfpm_runtime.imaging.preprocessing import Image

PERIOD_S = 0.05
"""Between two frames of the camera."""
SETTLE_S = 0.4
"""From a change of what the camera shows until it is certain that the line has no older frame."""
PATIENCE_S = 15.0
"""Longest time that a part waits before the camera for its verdict, in seconds; then the machine rejects it."""
CLEARLY_GOOD, CLEARLY_DEFECTIVE = 0.8, 1.5
"""Scores, as multiples of the threshold, of the pictures that are used."""
KINDS = ("good", "good", "defective", "torn", "good", "defective", "damaged")
NEVER_PASSED = ("defective", "torn", "damaged", "poison")
POISON = (
    b'{"part": "\\ud800"}', b'{"part": "a\\u0000b"}', b'{"part": "a\\nFORGED line"}', b"\x1b[2J", b'{"Part": "A-1"}',
    b'{"part": {"a": [1]}}', b'{"part": 1e400}', b"\xff\xfe\xfd", b"[" * 3000, b'{"part": "' + b"x" * 3000 + b'"}',
)  # fmt: skip
"""Triggers that name no part."""


@dataclass
class Part:
    """A part that the machine asked about."""

    name: str
    kind: str
    by: str
    """`http` or `mqtt`."""
    is_accepted: bool = False
    """True where the trigger was acknowledged: by a verdict over HTTP, by the broker over MQTT."""
    answer: str = ""
    """The decision that the machine got; empty if it got none in time, so that it rejects the part."""
    had_no_disk: bool = False
    """True where the journal's disk was full while the part waited for its verdict. A fault that is answered at such a
    time is not on the disk yet; it is lost if the process is killed before the disk has room again."""

    @property
    def may_be_missing(self) -> bool:
        """Return True where the journal may have no verdict of this part."""
        return self.had_no_disk and self.answer in ("", "fault")


@dataclass(frozen=True)
class Pictures:
    """What the camera shows."""

    good: list[Image]
    defective: list[Image]


def choose_pictures(model: Path, data: Path) -> Pictures:
    """Return pictures of a category that the model clearly passes and clearly rejects, as JPEG.

    Raises DataError where there are none of either, and what reading and opening raise.
    """
    engine = open_engine(model)
    detector, found = Detector(engine), Pictures([], [])
    rng = np.random.default_rng(0)
    try:
        for sample in read_category(data).samples[:80]:
            try:
                picture = read_image(sample.image)
            except ImageError:
                continue
            shown = cv2.imdecode(np.frombuffer(encode(picture, rng), np.uint8), cv2.IMREAD_COLOR)
            score = (detector.inspect(shown).score or 0.0) / detector.threshold  # type: ignore[arg-type]
            if sample.is_defective and score >= CLEARLY_DEFECTIVE:
                found.defective.append(picture)
            elif not sample.is_defective and score <= CLEARLY_GOOD:
                found.good.append(picture)
    finally:
        engine.close()
    if not found.good or not found.defective:
        raise DataError(
            f"{data}: {model.name} clearly passes {len(found.good)} of its good pictures and clearly rejects "
            f"{len(found.defective)} of its defective ones; expected some of both"
        )
    return found


def encode(picture: Image, rng: np.random.Generator) -> bytes:
    """Return a picture with a sensor's noise as JPEG."""
    noise = rng.integers(-1, 2, picture.shape, np.int16)
    noisy = np.clip(picture.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


class Camera(ThreadingHTTPServer):
    """A camera that serves the picture which `show` chose last."""

    daemon_threads = True

    def __init__(self, pictures: Pictures, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Stream)
        self.port = int(self.server_address[1])
        self.frames = {"whole": 0, "torn": 0, "damaged": 0}
        self.is_closing = False
        self._pictures, self._random = pictures, random.Random(seed)
        self._scene: tuple[Image, str] = (pictures.defective[0], "whole")
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def show(self, kind: str) -> None:
        """Put a part of that kind in front of the camera."""
        pictures = self._pictures.defective if kind in ("defective", "poison") else self._pictures.good
        self._scene = self._random.choice(pictures), kind if kind in self.frames else "whole"

    def frame(self, rng: np.random.Generator) -> bytes:
        """Return the next frame's bytes."""
        picture, fault = self._scene
        data = encode(picture, rng)
        self.frames[fault] += 1
        at = int(len(data) * rng.uniform(0.3, 0.9))
        if fault == "torn":
            return data[:at]
        return data[:at] + bytes(300) + data[at + 300 :] if fault == "damaged" else data

    def close(self) -> None:
        """End all streams."""
        self.is_closing = True
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 (as the base class has it)
        """Say nothing: the line is killed again and again."""


class _Stream(BaseHTTPRequestHandler):
    server: Camera

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        rng = np.random.default_rng()
        while not self.server.is_closing:
            data = self.server.frame(rng)
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")
            time.sleep(PERIOD_S)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class Subscriber:
    """Receives all verdicts by MQTT, in a session that the broker keeps, and publishes triggers."""

    def __init__(self, port: int, topic: str) -> None:
        self.seqs: list[int] = []
        self.decisions: dict[str, str] = {}
        """The first decision on each part."""
        self._topic, self._changed = topic, threading.Condition()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="endurance", clean_session=False)
        self._client.on_connect = self._subscribe
        self._client.on_message = self._hear
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def ask(self, topic: str, payload: bytes) -> bool:
        """Publish a trigger; returns whether the broker has it."""
        message = self._client.publish(topic, payload, qos=1)
        message.wait_for_publish(5.0)
        return message.is_published()

    def wait(self, part: str, timeout_s: float) -> str:
        """Return the decision on a part, empty where none comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: part in self.decisions, timeout_s)
            return self.decisions.get(part, "")

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribe(self, *arguments: object) -> None:
        self._client.subscribe(f"{self._topic}/verdict/#", qos=1)

    def _hear(self, client: object, data: object, message: paho.MQTTMessage) -> None:
        record = json.loads(message.payload)
        with self._changed:
            self.seqs.append(record["seq"])
            self.decisions.setdefault(record["part"], record["decision"])
            self._changed.notify_all()


@dataclass
class PartFeeder:
    """Brings one part after the other in front of the camera and asks for its verdict, until it is stopped."""

    camera: Camera
    subscriber: Subscriber
    http_port: int
    topic: str
    disk_is_full: threading.Event
    parts: list[Part] = field(default_factory=list)
    poisons: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> threading.Thread:
        """Begin, in a thread that ends after `stopping` is set."""
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            kind = KINDS[number % len(KINDS)]
            part = Part(f"{kind}-{number:06d}", kind, ("http", "mqtt")[number // 2 % 2])
            self.camera.show("defective")  # a late frame from between two parts never looks good
            if self.stopping.wait(SETTLE_S):
                return
            if number % 5 == 0:
                self._poison(POISON[number // 5 % len(POISON)])
                self.stopping.wait(SETTLE_S)
            self.camera.show(kind)
            if self.stopping.wait(SETTLE_S):
                return
            self.parts.append(part)
            part.had_no_disk = self.disk_is_full.is_set()
            self._ask(part)
            part.had_no_disk |= self.disk_is_full.is_set()

    def _ask(self, part: Part) -> None:
        body = json.dumps({"part": part.name}).encode()
        if part.by == "mqtt":
            part.is_accepted = self.subscriber.ask(self.topic, body)
            part.answer = self.subscriber.wait(part.name, PATIENCE_S)
        else:
            status, answer = self._post(body)
            if status == http.client.OK and answer.get("verdicts"):
                part.is_accepted, part.answer = True, str(answer["decision"])

    def _poison(self, payload: bytes) -> None:
        self.poisons += 1
        self._post(payload)
        self.subscriber.ask(self.topic, payload)

    def _post(self, body: bytes) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE_S)
        try:
            connection.request("POST", "/trigger/top", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):  # the line was killed, or is not there yet
            return 0, {}
        finally:
            connection.close()
