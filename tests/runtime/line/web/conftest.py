"""A line that runs, with a dashboard; its peers are real HTTP requests."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from stfpm_runtime.lifecycle import stop_all
from stfpm_runtime.line.config.server import ServerOptions
from stfpm_runtime.line.config.storage import PictureOptions
from stfpm_runtime.line.web import open_server

from ..conftest import Running, wait_until

TOKEN = "a token of ours"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Asks one dashboard."""

    port: int
    running: Running
    token: str | None = TOKEN

    def ask(self, path: str, method: str = "GET", body: bytes | dict | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        answer = self.ask(path)
        assert answer.status == 200, answer
        return answer.json

    def post(self, path: str, **body: Any) -> Answer:
        return self.ask(path, "POST", body)


@pytest.fixture
def serve(run_line, make_options, tmp_path, paint):
    """Runs a line of one camera, whose every tenth part is a reject, with a dashboard."""
    opened = []

    def serve(
        *cameras,
        token: str = TOKEN,
        options=None,
        spec=None,
        fps: float | None = 50.0,
        config=None,
        users=None,
        require_reason: bool = False,
        **changes,
    ) -> Client:
        pictures = PictureOptions(tmp_path / "pictures", free_mb=0)
        table = ServerOptions("127.0.0.1:0", token, users, require_reason)
        options = options or make_options(*cameras, dashboard=table, pictures=pictures, **changes)
        parts = {"paint": lambda index: paint(255 if index % 10 == 9 else 40), "fps": fps}
        running = run_line(options, spec=spec, **{camera.name: parts for camera in options.camera})
        server = open_server(table, running.line, options, config)
        opened.append(server)
        wait_until(lambda: all(place.newest for place in running.line.live_status.places.values()))
        return Client(server.port, running, token or None)

    yield serve
    stop_all(opened, time.monotonic() + 5.0)


@pytest.fixture
def page(tmp_path):
    """An empty page of a browser, for tests that are skipped where there is none."""
    from .browser import browse

    (tmp_path / "chromium").mkdir()
    with browse(tmp_path / "chromium") as page:
        yield page
