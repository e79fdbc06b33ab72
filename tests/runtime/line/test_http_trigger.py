"""Triggers by real HTTP requests to a running line."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import socket
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from fastapi import FastAPI

from stfpm_runtime.engines.fake import first_channel
from stfpm_runtime.errors import MissingExtraError, OutputError
from stfpm_runtime.lifecycle import stop_all
from stfpm_runtime.line.config.camera import CameraOptions, RegionOptions
from stfpm_runtime.line.config.server import ServerOptions
from stfpm_runtime.line.journal.rows import to_record
from stfpm_runtime.line.triggers.base import WAITING, QueuedTrigger
from stfpm_runtime.line.triggers.http import make_trigger_router
from stfpm_runtime.line.web.http.app import make_app
from stfpm_runtime.line.web.http.connections import MAX_CONNECTIONS
from stfpm_runtime.line.web.http.server import WebServer

from .conftest import wait_until

LEFT = CameraOptions("left", "0", trigger="http", timeout_ms=300)


def post(port: int, body: bytes = b"", path: str = "/trigger/left", **headers: str) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    if body:
        headers.setdefault("Content-Type", "application/json")
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@pytest.fixture
def serve():
    """A server without a line: no camera worker takes its triggers."""
    servers = []

    def serve(answer_s: float = 0.05, **options) -> tuple[int, QueuedTrigger]:
        trigger = QueuedTrigger()
        table = ServerOptions("127.0.0.1:0", **options)
        server = WebServer(table, make_app(table, [make_trigger_router({"left": trigger}, answer_s)]))
        servers.append(server)
        server.start()
        return server.port, trigger

    yield serve
    stop_all(servers, time.monotonic() + 5.0)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def start(run_line, make_options, port):
    def start(*cameras: CameraOptions, **arguments):
        options = make_options(*(cameras or (LEFT,)), dashboard=ServerOptions(f"127.0.0.1:{port}"))
        return run_line(options, **arguments)

    return start


def test_each_trigger_gets_its_verdict_from_the_journal(start, port):
    running = start(CameraOptions("left", "0", trigger="http", timeout_ms=20_000), left={"fps": 500.0})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        parts = [f"A-{number}" for number in range(40)]
        answers = list(pool.map(lambda part: post(port, json.dumps({"part": part}).encode()), parts))
    assert {status for status, _ in answers} == {200}
    assert [answer["verdicts"][0]["part"] for _, answer in answers] == parts
    rows = running.finish()
    answered = {answer["verdicts"][0]["seq"]: answer["verdicts"][0] for _, answer in answers}
    assert answered == {row.seq: to_record(row, running.journal.id) for row in rows}
    assert {row.decision for row in rows} == {"pass"}


def test_answer_is_the_worst_of_the_regions(start, port, paint):
    regions = (RegionOptions("bad", (0, 0, 32, 16)), RegionOptions("good", (32, 16, 32, 16)))
    running = start(
        CameraOptions("left", "0", trigger="http", region=regions), left={"paint": lambda index: paint(255)}
    )
    status, answer = post(port, b'{"part": "A-1"}')
    assert (status, answer["decision"]) == (200, "reject")
    found = [(verdict["region"], verdict["decision"], verdict["part"]) for verdict in answer["verdicts"]]
    assert found == [("bad", "reject", "A-1"), ("good", "pass", "A-1")]
    assert len(running.finish()) == 2


def test_camera_that_is_gone_is_a_fault(start, port):
    running = start()
    running.cameras["left"].lose()
    status, answer = post(port)
    assert (status, answer["decision"]) == (200, "fault")
    assert answer["verdicts"][0]["reason"] == "no frame within 300 ms of the trigger"
    assert running.finish()[0].reason == "no frame within 300 ms of the trigger"


def test_triggers_that_the_stop_leaves_unjudged_are_faults_in_the_journal(start, port):
    running = start(CameraOptions("left", "0", trigger="http", timeout_ms=60_000))
    running.cameras["left"].lose()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(post, port, b'{"part": "A"}') for _ in range(3)]
        trigger = running.line.cameras[0].trigger
        while len(trigger._waiting) < 2:  # the third is waiting for its frame
            pass
        rows = running.finish()
        assert {answer.result()[1]["decision"] for answer in answers} == {"fault"}
    assert [row.decision for row in rows] == ["fault"] * 3
    assert {row.part for row in rows} == {"A"}


def test_token(serve):
    port, _ = serve(token="a secret")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "a secret"}):
        status, answer = post(port, **headers)
        assert (status, answer) == (401, {"error": "expected the header Authorization: Bearer TOKEN"})
    assert post(port, Authorization="Bearer a secret")[0] == 504


@pytest.mark.parametrize(
    ("body", "path", "status", "message"),
    [
        (b"", "/trigger/right", 404, "expected one of /trigger/left"),
        (b"", "/", 404, "there is no /; see /api"),
        (b"", "/trigger/../trigger/left", 404, "there is no /trigger/../trigger/left; see /api"),
        (b"not JSON", "/trigger/left", 400, "which is not JSON"),
        (b"[1]", "/trigger/left", 400, "expected a text or a whole number"),
        (b'{"part": [7]}', "/trigger/left", 400, "expected a text or a whole number"),
        (b'{"Part": "A"}', "/trigger/left", 400, "without the key part"),
        (b'{"part": "two\\nlines"}', "/trigger/left", 400, "printable"),
        (b'{"part": "\\ud800"}', "/trigger/left", 400, "printable"),
        (json.dumps({"part": "x" * 201}).encode(), "/trigger/left", 400, "up to 200"),
        (b"\xff\xfe", "/trigger/left", 400, "not UTF-8"),
        (b"x" * 9000, "/trigger/left", 413, "expected a body of up to 8192 bytes"),
        (b"", "/trigger/left?part=A", 400, "got a query"),
        (b'{"part": "A"}', "/trigger/left?x=1", 400, "got a query"),
        (b'{"part": "A"}', "/trigger/left", 504, "no verdict within 0.05 s; look into the journal"),
        (b'{"part": "A\\u001d7"}', "/trigger/left", 504, "no verdict within 0.05 s; look into the journal"),
    ],
)
def test_bad_requests(serve, body, path, status, message):
    port, trigger = serve()
    found, answer = post(port, body, path)
    assert found == status
    assert message in answer["error"]
    assert len(trigger.close()) == (status == 504)


@pytest.mark.parametrize(
    ("length", "status"), [("-1", 400), ("many", 400), ("1_0", 400), ("99999999999999999999", 413)]
)
def test_bad_lengths(serve, length, status):
    port, trigger = serve()
    assert post(port, b"", **{"Content-Length": length})[0] == status
    assert trigger.close() == []


@pytest.mark.parametrize(
    ("headers", "rest", "status"),
    [
        ("Transfer-Encoding: chunked\r\n", b'd\r\n{"part": "A"}\r\n0\r\n\r\n', b"411"),
        ("Content-Length: 0\r\nContent-Length: 13\r\n", b'{"part": "A"}', b"400"),
        ("Content-Length: 20\r\n", b'{"part": "A"}', b"400"),  # and then the peer closes its side
    ],
)
def test_bodies_of_unknown_length_trigger_nothing(serve, headers, rest, status):
    port, trigger = serve()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        head = f"POST /trigger/left HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}\r\n"
        peer.sendall(head.encode() + rest)
        peer.shutdown(socket.SHUT_WR)
        assert peer.makefile("rb").readline().split()[1] == status
    assert trigger.close() == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example:80"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:8765", "Origin": "http://localhost:8765"}, 504),
        ({"Content-Type": "application/json; charset=utf-8"}, 504),
    ],
)
def test_pages_of_other_sites_trigger_nothing(serve, headers, status):
    port, trigger = serve()
    assert post(port, b'{"part": "A"}', **headers)[0] == status
    assert len(trigger.close()) == (status == 504)


def test_a_form_of_another_site_without_fields_triggers_nothing(serve):
    port, trigger = serve()
    assert post(port, **{"Content-Type": "application/x-www-form-urlencoded"})[0] == 415
    assert trigger.close() == []


HEAD = b"POST /trigger/left HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("start", [b"POST /trigger/left HT", HEAD + b"Content-Length: 13\r\n\r\n{"])
def test_silent_connections_leave_room_for_a_trigger(serve, start):
    port, _ = serve()
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            peer.sendall(start)
        time.sleep(0.5)  # the server has read what they sent
        assert post(port, b'{"part": "A"}')[0] == 504
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        assert descriptors < 300 + MAX_CONNECTIONS // 2 + 100  # ours, and the server's: one address has half of them


@pytest.mark.parametrize("request_", [b"", b"POST /trig", b"POST /trigger/left HTTP/1.1\r\nHost: localhost\r\nX-"])
def test_a_request_that_does_not_end_is_closed(serve, monkeypatch, request_):
    monkeypatch.setattr("stfpm_runtime.line.web.http.connections.HEADERS_S", 0.5)
    port, _ = serve()
    assert drips(port, request_) < 15.0


def test_a_body_that_does_not_end_is_closed(serve, monkeypatch):
    monkeypatch.setattr("stfpm_runtime.line.web.http.app.BODY_S", 0.5)
    port, trigger = serve()
    head = (
        b"POST /trigger/left HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n"
    )
    assert drips(port, head + b"\r\n") < 15.0
    assert trigger.close() == []


def drips(port: int, start: bytes) -> float:
    """Send a start and then a byte now and then; return after how many seconds the server ended the connection."""
    began_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(start)
        peer.settimeout(0.1)
        while (took_s := time.monotonic() - began_s) < 20.0:
            with contextlib.suppress(TimeoutError):
                try:
                    peer.sendall(b"x" if start else b"")
                    if not peer.recv(4096):
                        break
                except (ConnectionError, BrokenPipeError):
                    break
    return took_s


def test_wrong_tokens_are_logged_once_and_slowed_down(serve, caplog):
    port, _ = serve(token="the right token, long")
    began_s = time.monotonic()
    for _ in range(4):
        assert post(port, Authorization="Bearer wrong")[0] == 401
    assert time.monotonic() - began_s >= 0.1 + 0.2 + 0.4 + 0.8
    lines = [record.getMessage() for record in caplog.records if "token" in record.getMessage()]
    assert lines == ["a wrong token came from 127.0.0.1"]
    began_s = time.monotonic()
    assert post(port, Authorization="Bearer the right token, long")[0] == 504  # at once, in spite of them
    assert time.monotonic() - began_s < 0.8 + 0.05


def test_wrong_tokens_leave_room_for_the_right_one(serve):
    port, _ = serve(token="the right token, long")
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            peer.sendall(HEAD + b"Authorization: Bearer wrong\r\n\r\n")
        assert post(port, Authorization="Bearer the right token, long")[0] == 504


def test_trigger_is_dated_when_its_request_begins(serve):
    """A body that comes late does not make a picture from after the request too old."""
    port, trigger = serve(answer_s=5.0)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        peer.sendall(HEAD + b"Content-Length: 13\r\n\r\n")
        time.sleep(0.5)
        body_ns = time.monotonic_ns()
        peer.sendall(b'{"part": "A"}')
        request = trigger.wait(5.0)
        assert request is not None
        assert request.at_ns < body_ns
        request.answer([{"decision": "pass"}])
        assert peer.recv(12) == b"HTTP/1.1 200"


def test_requests_that_the_stop_finds_are_answered(start, port):
    running = start(CameraOptions("left", "0", trigger="http", timeout_ms=60_000))
    running.cameras["left"].lose()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(post, port, b'{"part": "A"}') for _ in range(8)]
        wait_until(lambda: len(running.line.cameras[0].trigger.unanswered()) == 8)
        rows = running.finish()
        assert [answer.result()[0] for answer in answers] == [200] * 8
        assert {answer.result()[1]["decision"] for answer in answers} == {"fault"}
    assert len(rows) == 8


def test_too_many_are_refused_at_once(serve):
    port, trigger = serve()
    with concurrent.futures.ThreadPoolExecutor(WAITING) as pool:
        assert {status for status, _ in pool.map(lambda _: post(port), range(WAITING))} == {504}
    assert post(port)[0] == 503
    assert len(trigger.close()) == WAITING
    assert post(port)[0] == 503


def test_connection_is_used_again(start, port):
    start(left={"fps": 500.0})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for _ in range(3):
        connection.request("POST", "/trigger/left", b'{"part": "A"}', {"Content-Type": "application/json"})
        assert json.loads(connection.getresponse().read())["decision"] == "pass"
    connection.close()


def test_answer_does_not_wait_for_the_acknowledgement_of_its_headers(start, port):
    start(left={"fps": 500.0})
    took_s = []
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        for _ in range(40):
            began_s = time.monotonic()
            connection.request("POST", "/trigger/left")
            connection.getresponse().read()
            took_s.append(time.monotonic() - began_s)
    assert sorted(took_s)[10] < 0.035  # without TCP_NODELAY nearly all of them take 40 ms or more


def test_missing_extra_is_named_with_the_command_that_installs_it(start, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "stfpm_runtime.line.web.http.app")
    with pytest.raises(MissingExtraError, match=r"pip install 'stfpm-edge\[dashboard\]'"):
        start()


def test_port_that_is_taken_is_an_error(serve):
    port, _ = serve()
    with pytest.raises(OutputError, match=f"127.0.0.1:{port}: cannot listen there"):
        WebServer(ServerOptions(f"127.0.0.1:{port}"), FastAPI()).start()


def test_verdict_is_answered_only_after_it_is_in_the_journal(start, port, run_line, journal):
    seen = []

    def look(images):
        seen.append(len(journal.rows()))
        return first_channel(images)

    start(answer=look, left={"fps": 500.0})
    for number in range(3):
        _, answer = post(port)
        assert len(journal.rows()) == number + 1 == answer["verdicts"][0]["seq"]
    assert seen == [0, 1, 2]
