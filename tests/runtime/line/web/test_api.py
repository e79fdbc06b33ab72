"""The dashboard's API: what it tells, whom it refuses, and what no request can do to it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import csv
import dataclasses
import io
import json
import re
import socket
import sqlite3
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi import FastAPI

from stfpm_runtime.detector import Verdict
from stfpm_runtime.errors import OutputError
from stfpm_runtime.imaging.overlay import draw_overlay
from stfpm_runtime.line.config.camera import CameraOptions, RegionOptions
from stfpm_runtime.line.config.server import ServerOptions
from stfpm_runtime.line.config.toml_file import MistakeError
from stfpm_runtime.line.journal.chain.signing import write_new_key
from stfpm_runtime.line.journal.command.cli import main as journal_command
from stfpm_runtime.line.journal.labels import read_labelled
from stfpm_runtime.line.journal.reader import Period
from stfpm_runtime.line.journal.rows import seconds_of
from stfpm_runtime.line.observers.status import LatestVerdict
from stfpm_runtime.line.web.api.model_upload import router as upload_router
from stfpm_runtime.line.web.api.routes import router
from stfpm_runtime.line.web.api.setup_routes import router as setup_router
from stfpm_runtime.line.web.http.connections import MAX_CONNECTIONS
from stfpm_runtime.line.web.http.server import WebServer
from stfpm_runtime.line.web.views.jpeg_cache import QUALITY, JpegCache
from stfpm_runtime.shifts import QUARTER_S, Shifts

from ..conftest import wait_until
from .conftest import TOKEN, Client

ROUTES = [*router.routes, *setup_router.routes, *upload_router.routes]
GUARDED = [(route.path, method) for route in ROUTES for method in route.methods]


def address(path: str) -> str:
    for name, value in (("camera", "left"), ("region", "frame"), ("seq", "1"), ("name", "a.png"), ("file", "new.onnx")):
        path = path.replace(f"{{{name}}}", value)
    return path


def test_status_is_what_the_journal_holds(serve):
    client = serve()
    wait_until(lambda: len(client.running.journal.rows()) >= 30)
    client.running.finish()
    status = client.get("/api/status")
    decisions = client.running.journal.decisions
    assert status["totals"]["total"] == len(decisions)
    assert status["totals"]["rejected"] == decisions.count("reject") > 0
    assert status["totals"]["yield"] == decisions.count("pass") / len(decisions)
    last = client.running.journal.rows()[-1]
    (place,) = status["places"]
    assert place["newest"]["seq"] == last.seq
    assert place["newest"]["score"] == last.score
    assert place["newest"]["relative_score"] == last.score / 0.5
    assert place["newest"]["score_text"] == {"pass": "0.31", "reject": "2.00"}[last.decision]  # 40 / 255 and 1
    assert place["threshold"] == 0.5
    assert status["latency"]["p50_ms"] <= status["latency"]["p99_ms"]
    points = client.get("/api/scores/left/frame?last=20")["scores"]
    assert points[-1]["seq"] == last.seq
    assert [point["relative_score"] for point in points] == [point["score"] / 0.5 for point in points]
    assert {(point["decision"], point["score_text"]) for point in points} == {("pass", "0.31"), ("reject", "2.00")}
    assert {reject["score_text"] for reject in client.get("/api/rejects")["rejects"]} == {"2.00"}


def test_live_picture_is_the_newest_with_its_map_or_without(serve):
    client = serve()
    wait_until(lambda: len(client.running.line.live_status.rejects) > 0)
    client.running.finish()
    seq = client.get("/api/status")["places"][0]["newest"]["seq"]
    plain = client.ask("/api/live/left/frame?map=false")
    drawn = client.ask("/api/live/left/frame?map=true")
    assert plain.headers["content-type"] == drawn.headers["content-type"] == "image/jpeg"
    assert plain.headers["x-verdict"] == drawn.headers["x-verdict"] == str(seq)
    pixels = [cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR) for answer in (plain, drawn)]
    assert pixels[0].shape == (32, 64, 3)
    assert not np.array_equal(cv2.resize(pixels[1], (64, 32)), pixels[0])
    narrow = cv2.imdecode(np.frombuffer(client.ask("/api/live/left/frame?map=false&width=64").body, np.uint8), 1)
    assert narrow.shape[1] == 64


def test_rejects_open_their_pictures(serve, paint):
    client = serve()
    wait_until(lambda: any(reject["picture"] for reject in client.get("/api/rejects")["rejects"]))
    client.running.finish()
    reject = next(reject for reject in client.get("/api/rejects")["rejects"] if reject["picture"])
    wait_until(lambda: client.ask(f"/api/pictures/{reject['seq']}?kind=overlay").status == 200)
    answer = client.ask(f"/api/pictures/{reject['seq']}?kind=picture")
    assert answer.headers["content-type"] == "image/png"
    assert np.array_equal(cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR), paint(255))
    assert client.ask(f"/api/pictures/{reject['seq']}?kind=picture&width=64").headers["content-type"] == "image/jpeg"
    assert client.ask("/api/pictures/999999").status == 404


def test_a_name_in_the_journal_that_leads_out_of_the_folder_is_not_followed(serve, tmp_path):
    client = serve()
    (tmp_path / "secret.png").write_bytes(b"not for you")
    (tmp_path / "pictures").mkdir(exist_ok=True)
    client.running.finish()
    with contextlib.closing(sqlite3.connect(tmp_path / "line.sqlite", isolation_level=None)) as file:
        file.execute("UPDATE verdicts SET overlay = '../secret.png', picture = ? ", (str(tmp_path / "secret.png"),))
    for kind in ("overlay", "picture"):
        answer = client.ask(f"/api/pictures/1?kind={kind}")
        assert answer.status == 404
        assert b"not for you" not in answer.body


@pytest.mark.parametrize(
    "path",
    [
        "/api/pictures/../../secret.png", "/api/pictures/..%2f..%2fsecret.png", "/api/pictures/%2e%2e/secret.png",
        "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e%2f%2e%2e%2fconfig.py", "//etc/passwd",
        "/static/%00", "/api/live/..%2f..%2fetc/passwd", "/api/pictures/1%00.png",
    ],
)  # fmt: skip
def test_paths_outside_the_folder_are_refused(serve, path):
    assert serve().ask(path).status in (400, 404)


WRONG = (None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x")


def test_wrong_token_is_refused_everywhere(api, monkeypatch):
    monkeypatch.setattr("stfpm_runtime.line.web.http.authorizer.LONGEST_DELAY_S", 0.001)
    api.token = None
    assert len(GUARDED) == 33
    for path, method in GUARDED:
        for given in WRONG:
            headers = {} if given is None else {"Authorization": given}
            answer = api.ask(address(path), method, b"{}" if method == "POST" else None, **headers)
            assert answer.status == 401, (path, given)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert TOKEN.encode() not in answer.body


@pytest.fixture
def api(serve):
    return serve()


def test_pages_and_health_are_open_and_hold_no_secret(api):
    api.token = None
    for path in ("/", "/api", "/static/dashboard.js", "/static/style.css", "/openapi.json", "/healthz"):
        answer = api.ask(path)
        assert answer.status == 200, path
        assert TOKEN.encode() not in answer.body
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert b"https://" not in answer.body.replace(b"http://www.w3.org", b"")  # nothing is fetched from elsewhere


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b"[]", 400), (b"null", 400), (b"\xff\xfe", 400), (b'"' + b"[" * 3000, 400),
        (b"[" * 4000, 400), (b"{}", 400), (b'{"threshold": NaN, "who": "a"}', 400),
        (b'{"threshold": 1e999, "who": "a"}', 400), (b'{"threshold": "0.5", "who": "a"}', 400),
        (b'{"threshold": true, "who": "a"}', 400), (b'{"threshold": 0.5}', 400),
        (b'{"threshold": 0.5, "who": ""}', 400), (b'{"threshold": 0.5, "who": " "}', 400),
        (b'{"threshold": 0.5, "who": "a", "more": 1}', 400), (b'{"threshold": 0.5, "who": "a\\u0000"}', 400),
        (b'{"threshold": 0.5, "who": "a", "camera": "none"}', 404), (b"x" * 9000, 413), (b"x" * 3_000_000, 413),
    ],
)  # fmt: skip
def test_bad_bodies_are_one_clear_refusal(api, body, status):
    try:
        answer = api.ask("/api/threshold", "POST", body)
    except (BrokenPipeError, ConnectionResetError):  # of 3 MB: it did not read on
        assert len(body) > 1_000_000
        return
    assert answer.status == status
    assert answer.json["error"]
    assert api.running.line.active_model.thresholds.of("left", "frame") == 0.5


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
def test_no_method_takes_a_large_body(api, method):
    assert api.ask("/api/training", method, b'"' + b"x" * 9000 + b'"').status == 413
    chunked = {"Transfer-Encoding": "chunked"}
    assert api.ask("/api/training", method, b"2\r\n{}\r\n0\r\n\r\n", **chunked).status == 411


def test_other_content_types_are_refused(api):
    assert api.ask("/api/threshold", "POST", b"{}", **{"Content-Type": "text/plain"}).status == 415


@pytest.mark.parametrize("path", [
    "/api/rejects?last=0", "/api/rejects?last=x", "/api/rejects?more=1", "/api/live/left/frame?width=1",
    "/api/live/left/frame?map=yes", "/api/pictures/0", "/api/pictures/x", "/api/threshold",
    "/api/threshold?threshold=nan",
    "/api/threshold?threshold=inf", "/api/events?last=-1",
    "/api/history?since=today", "/api/history?model=x", "/api/history?last=201",
    "/api/history?before=0", "/api/history.csv?before=5", "/api/history/summary?decision=good",
    "/api/pictures/99999999999999999999999", "/api/report?language=fr", "/api/report?form=pdf", "/api/report?last=5",
])  # fmt: skip
def test_bad_parameters(api, path):
    answer = api.ask(path)
    assert answer.status == 400
    assert answer.json["error"]


def test_without_a_token_nothing_can_be_changed_and_other_host_names_are_refused(serve):
    client = serve(token="")
    assert client.get("/api/status")["can_change"] is False
    assert client.post("/api/threshold", threshold=0.1, who="me").status == 403
    assert client.post("/model", file="model.onnx", who="me").status == 403
    assert client.post("/api/labels", seq=1, label="good", who="me").status == 403
    assert client.ask("/api/status", Host="evil.example").status == 403


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "192.168.1.2:80", "[::]:8766"])
def test_what_others_can_reach_needs_a_token(listen):
    with pytest.raises(MistakeError, match="can be reached by others; expected the key token"):
        ServerOptions(listen)
    with pytest.raises(MistakeError, match=r"got 15 characters; expected 16 or more"):
        ServerOptions(listen, "x" * 15)
    assert ServerOptions(listen, "x" * 16).token == "x" * 16
    assert "secret" not in repr(ServerOptions(listen, "a secret of sixteen"))


@pytest.mark.parametrize("token", ["hunter2\n", " hunter2", "hunter2\u20ac", "hunter\x002"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(token):
    with pytest.raises(MistakeError, match="expected ASCII") as raised:
        ServerOptions("127.0.0.1:0", token)
    assert "hunter" not in str(raised.value)


def test_port_that_is_taken(serve):
    client = serve()
    options = ServerOptions(f"127.0.0.1:{client.port}", TOKEN)
    with pytest.raises(OutputError, match="cannot listen there"):
        WebServer(options, FastAPI()).start()


@pytest.mark.parametrize("path", ["/", "/openapi.json", "/healthz", "/api/status", "/metrics"])
def test_head_is_answered_as_get_without_its_body(serve, path):
    """Load balancers ask for the health in this way."""
    client = serve()
    answer = client.ask(path, "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 0
    assert Client(client.port, client.running, token="wrong").ask("/api/status", "HEAD").status == 401


def test_health_says_what_is_wrong(serve, monkeypatch):
    client = serve()
    client.token = None
    assert client.ask("/healthz").json == {"status": "ok", "problems": []}
    client.running.cameras["left"].lose()
    wait_until(lambda: client.ask("/healthz").json["problems"] == ["left: the camera is lost"])
    assert client.ask("/healthz").status == 200  # the line judges: it is a fault
    client.running.finish()
    client.running.line.live_status.turned_s -= 60
    answer = client.ask("/healthz")
    assert answer.status == 503
    assert "the inspection loop has not run for 6" in answer.json["problems"][0]


def test_metrics_are_those_of_the_journal(serve):
    client = serve()
    client.running.finish()
    text = client.ask("/metrics").body.decode()
    passed = client.running.journal.decisions.count("pass")
    assert f'stfpm_verdicts_total{{camera="left",decision="pass",region="frame"}} {passed:.1f}' in text
    assert 'stfpm_threshold{camera="left",region="frame"} 0.5' in text


def test_charts_do_not_begin_empty_after_a_restart(serve, run_line, make_options):
    client = serve()
    wait_until(lambda: len(client.running.journal.rows()) > 20)
    before = client.running.finish()
    options = make_options(CameraOptions("left", "0"), dashboard=ServerOptions("127.0.0.1:0"))
    again = run_line(options)
    place = again.line.live_status.places["left", "frame"]
    assert [row.seq for row in list(place.recent)][: len(before)] == [row.seq for row in before]
    assert place.decisions.total() < len(before)


def test_regions_and_cameras_each_have_a_place(serve):
    regions = (RegionOptions("cap", (0, 0, 32, 32)), RegionOptions("label", (32, 0, 32, 32), threshold=0.9))
    client = serve(CameraOptions("left", "0", region=regions), CameraOptions("right", "1"))
    places = client.get("/api/status")["places"]
    assert [(p["camera"], p["region"], p["threshold"]) for p in places] == [
        ("left", "cap", 0.5), ("left", "label", 0.9), ("right", "frame", 0.5),
    ]  # fmt: skip


def test_the_scores_behind_a_threshold_are_told(api, make_model, tmp_path):
    rows = [{"kind": "patch", "size": 0.03, "found": 1, "drawn": 2}]  # as earlier versions wrote them
    training = {"synthetic_defects": {"found": 1, "drawn": 2, "too_hard": True, "by_kind_and_size": rows}}
    make_model("new.onnx", threshold=0.4, held_out_scores=(0.3, 0.1), training=training)
    answer = api.get("/model/new.onnx")
    assert (answer["threshold"], answer["held_out"], answer["too_hard"]) == (0.4, pytest.approx([0.25, 0.75]), True)
    assert answer["synthetic_defects"] == [rows[0] | {"relative_scores": []}]
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    wrong = ([], None, {"by_kind_and_size": None}, {"by_kind_and_size": [7]}, {"by_kind_and_size": [{"found": -1}]},
             {"by_kind_and_size": [rows[0] | {"relative_scores": ["high"]}]})  # fmt: skip
    for number, found in enumerate(wrong):
        make_model(f"wrong{number}.onnx", training={"synthetic_defects": found})
    damaged = [("broken.onnx", 409, "damaged"), *((f"wrong{number}.onnx", 409, "damaged") for number in range(6))]
    for file, status, words in (("other.onnx", 404, "expected one that lies next to"), *damaged):
        refused = api.ask(f"/model/{file}")
        assert refused.status == status
        assert words in refused.json["error"]


@pytest.mark.parametrize(("action", "file"), [("activate", ""), ("rollback", "model.onnx")])
def test_an_action_on_a_model_needs_a_file_unless_it_is_a_rollback(api, action, file):
    answer = api.post("/model", action=action, file=file, who="Ada")
    assert answer.status == 409
    assert f"{action} takes" in answer.json["error"]


@pytest.mark.parametrize("threshold", [1e9, -1e9, 0.2, 1.1])
def test_a_threshold_out_of_the_configured_bounds_is_refused(api, threshold):
    answer = api.post("/api/threshold", threshold=threshold, who="Ada")
    assert answer.status == 409
    assert "expected 0.25 to 1; the key threshold_bounds of the configuration" in answer.body.decode()
    assert api.running.line.active_model.thresholds.of("left", "frame") == 0.5


def test_labels_are_written_and_refused(api):
    wait_until(lambda: len(api.running.journal.rows()) > 3)
    for earlier, (label, kind) in enumerate((("good", ""), ("defect", "scratch"))):
        answer = api.post("/api/labels", seq=2, label=label, who="Ada", kind=kind, note="at the rim")
        assert (answer.status, answer.json) == (200, {"seq": 2, "label": label, "earlier": earlier})
    ((row, label),) = read_labelled(api.running.journal.path, Period())
    assert (row.seq, label.label, label.kind, label.note) == (2, "defect", "scratch", "at the rim")
    assert api.ask("/api/labels", "POST", b'{"seq": 2.0, "label": "good", "who": "Ada"}').json["earlier"] == 2
    assert api.post("/api/labels", seq=999_999, label="good", who="Ada").status == 409
    assert api.post("/api/labels", seq=2, label="good", who="Ada", kind="scratch").status == 409
    for wrong in ({"label": "fine"}, {"seq": 0}, {"who": ""}, {"note": "a\nb"}, {"kind": "k" * 81}):
        assert api.post("/api/labels", **{"seq": 2, "label": "defect", "who": "Ada"} | wrong).status == 400
    assert len(list(read_labelled(api.running.journal.path, Period()))) == 1


def test_history_is_paged_summed_up_and_written_as_csv(api):
    wait_until(lambda: len(api.running.journal.rows()) > 45)
    api.post("/api/labels", seq=10, label="defect", who="Ada")
    rows = api.running.finish()
    found, before = [], ""
    while before is not None:
        page = api.get(f"/api/history?last=20{before and f'&before={before}'}")
        found += page["verdicts"]
        before = page["next"]
    assert [verdict["seq"] for verdict in found] == [row.seq for row in rows[::-1]]
    assert [verdict["seq"] for verdict in found if verdict["label"]] == [10]
    assert {(v["peak_x"], v["peak_y"]) for v in found if v["decision"] == "reject"} == {(0.0312, 0.0625)}
    rejects = [row for row in rows if row.decision == "reject"]
    assert [v["seq"] for v in api.get("/api/history?decision=reject")["verdicts"]] == [row.seq for row in rejects[::-1]]
    (defect,) = api.get("/api/history?label=defect&camera=left&region=frame")["verdicts"]
    assert (defect["seq"], defect["model"]) == (10, rows[9].model)
    assert api.get(f"/api/history?until={rows[0].time}")["verdicts"] == []
    summary = api.get(f"/api/history/summary?decision=reject&model={rows[0].model[:12]}&since={rows[0].time}")
    assert summary["all"]["total"] == len(rows)
    assert summary["all"]["rejected"] == len(rejects)
    assert sum(hour["total"] for hour in summary["hours"]) == sum(shift["total"] for shift in summary["shifts"])
    (region,) = summary["regions"]
    assert (region["camera"], region["rejected"], region["cumulative"]) == ("left", len(rejects), 1.0)
    assert summary["heat_maps"][0]["cells"] == [[0, 1, len(rejects)]]
    answer = api.ask("/api/history.csv?decision=reject")
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert [int(line["seq"]) for line in lines] == [row.seq for row in rejects[::-1]]


def test_csv_goes_on_over_pages_and_ends_at_its_limit(api, monkeypatch):
    wait_until(lambda: len(api.running.journal.rows()) > 10)
    rows = api.running.finish()
    monkeypatch.setattr("stfpm_runtime.line.web.views.history_view.CSV_PAGE", 2)
    monkeypatch.setattr("stfpm_runtime.line.web.views.history_view.CSV_ROWS", 6)
    lines = api.ask("/api/history.csv").body.decode().splitlines()
    assert [int(line.partition(",")[0]) for line in lines[1:]] == [row.seq for row in rows[::-1]][:6]
    assert lines[0].startswith("seq,time,")


@pytest.mark.parametrize("path", [
    "history/summary?shift=noon", "history/summary?since=2026-02-30T00:00Z", "report?shift=noon",
    "report?since=2026-02-30T00:00Z", "report?until=2026-02-20T00:00Z", "report?part=%00", "report?camera=rear",
])  # fmt: skip
def test_what_there_is_not_is_not_found(api, path):
    answer = api.ask(f"/api/{path}")
    assert answer.status == 404
    assert re.search("there is no|no verdict is of this interval|expected one that the journal", answer.json["error"])


def test_the_report_is_that_of_the_command(serve, tmp_path, capsys):
    write_new_key(tmp_path / "line.key")
    api = serve(journal_options={"signing_key": tmp_path / "line.key"})
    wait_until(lambda: len([row for row in api.running.journal.rows() if row.overlay]) > 2)
    rows = api.running.finish()
    shift = Shifts().of(int(seconds_of(rows[4].time)) // QUARTER_S)[1]
    query = f"?since={rows[4].time}&camera=left&order=Los%20%3Cb%3E&language=de&shift={shift}"
    arguments = [str(api.running.journal.path), "--since", rows[4].time.replace("Z", "+00:00"), "--camera", "left"]
    arguments += ["--order", "Los <b>", "--language", "de", "--pictures", str(tmp_path / "pictures")]
    arguments += ["--public-key", str(tmp_path / "line.key.pub"), "--shift", shift]
    for form in ("html", "csv"):
        answer = api.ask(f"/api/report{query}&form={form}")
        assert answer.headers["content-type"] == f"text/{form}; charset=utf-8"
        assert answer.headers["content-disposition"] == f'attachment; filename="report.{form}"'
        assert journal_command([*arguments, "--report", str(tmp_path / f"r.{form}")]) == 0
        assert (tmp_path / f"r.{form}").read_bytes() == answer.body
    assert "unversehrt" in capsys.readouterr().out
    assert b"signiert bis Kopf" in answer.body
    assert f"Ergebnisse,{len(rows) - 4}," in answer.body.decode()


def test_one_report_is_made_at_a_time_and_delays_no_question(api, monkeypatch):
    monkeypatch.setattr("stfpm_runtime.line.web.views.history_view.LIMIT_S", 0.01)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(api.ask, "/api/report") for _ in range(3)]
        time.sleep(0.1)
        assert api.get("/api/history?last=1")["verdicts"]
        answers = [one.result() for one in waiting]
    assert sorted(answer.status for answer in answers) == [200, 503, 503]
    refused = next(answer for answer in answers if answer.status == 503)
    assert refused.json == {"error": "another report is being made; ask again"}


def test_a_question_that_takes_too_long_is_refused_and_delays_no_other(api, monkeypatch):
    monkeypatch.setattr("stfpm_runtime.line.web.views.history_view.LIMIT_S", 0.0)
    monkeypatch.setattr("stfpm_runtime.line.journal.history.PROGRESS_STEPS", 1)
    answer = api.ask("/api/history/summary")
    assert answer.status == 503
    assert "the answer takes longer than 0 s; choose a shorter period" in answer.json["error"]
    monkeypatch.undo()
    assert api.get("/api/history/summary")["grid"] == 16


def test_a_silent_connection_does_not_delay_others(serve):
    client = serve()
    with socket.create_connection(("127.0.0.1", client.port)) as idle:
        idle.sendall(b"GET / HT")
        assert client.ask("/healthz").status == 200


def test_silent_connections_leave_room_for_health(serve):
    client = serve()
    with contextlib.ExitStack() as stack:
        for number in range(400):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", client.port), timeout=20))
            peer.sendall(b"GET / HT" if number % 2 else b"")
            if number in (150, 399):
                assert client.ask("/healthz").status == 200
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        assert descriptors < 400 + MAX_CONNECTIONS + 100  # ours, and of the server's no more than its limit


def test_a_request_that_does_not_end_is_closed(serve, monkeypatch):
    monkeypatch.setattr("stfpm_runtime.line.web.http.connections.HEADERS_S", 0.5)
    client = serve()
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as silent:
        assert silent.recv(1) == b""
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
        assert slow.recv(1) == b""


def test_a_body_that_does_not_end_is_answered(serve, monkeypatch):
    monkeypatch.setattr("stfpm_runtime.line.web.http.app.BODY_S", 0.5)
    client = serve()
    headers = f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: 900\r\n"
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as slow:
        slow.sendall(f"POST /api/threshold HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{{".encode())
        assert slow.recv(12) == b"HTTP/1.1 408"


def test_health_does_not_wait_for_pictures_that_are_drawn(serve, monkeypatch):
    drawing, begun = threading.Event(), threading.Event()

    def draw(image):
        begun.set()
        drawing.wait(30)
        return cv2.imencode(".jpg", image)[1].tobytes()

    client = serve()
    monkeypatch.setattr("stfpm_runtime.line.web.views.jpeg_cache._jpeg", draw)
    with concurrent.futures.ThreadPoolExecutor(60) as pool:  # the server has 40 threads
        pictures = [pool.submit(client.ask, f"/api/live/left/frame?width={64 + number}") for number in range(60)]
        try:
            assert begun.wait(20)
            wait_until(lambda: sum("AnyIO worker" in thread.name for thread in threading.enumerate()) == 40)
            assert client.ask("/healthz").status == 200
            assert not any(picture.done() for picture in pictures)
        finally:
            drawing.set()
    assert {picture.result().status for picture in pictures} == {200}


def test_wrong_tokens_are_counted_logged_once_and_slowed_down(serve, caplog):
    client = serve()
    began_s = time.monotonic()
    for _ in range(3):
        assert client.ask("/api/status", Authorization="Bearer wrong").status == 401
    assert time.monotonic() - began_s >= 0.1 + 0.2 + 0.4
    lines = [record.getMessage() for record in caplog.records if "token" in record.getMessage()]
    assert lines == ["a wrong token came from 127.0.0.1"]
    assert "stfpm_failed_tokens_total 3.0" in client.ask("/metrics").body.decode()


def test_without_a_token_pages_of_other_sites_are_refused(serve):
    client = serve(token="")
    assert client.ask("/api/status", Origin="http://evil.example").status == 403
    assert client.ask("/api/status", Origin=f"http://127.0.0.1:{client.port}").status == 200


def test_a_fault_without_an_image_leaves_the_older_picture_under_its_own_name(serve):
    client = serve(CameraOptions("left", "0", silent_after_s=0.5))
    client.running.cameras["left"].lose()
    wait_until(lambda: client.get("/api/status")["places"][0]["newest"]["decision"] == "fault")
    client.running.finish()
    (place,) = client.get("/api/status")["places"]
    assert place["pictured"]["decision"] in ("pass", "reject")
    assert place["pictured"]["seq"] < place["newest"]["seq"]
    answer = client.ask("/api/live/left/frame")
    assert answer.status == 200
    assert answer.headers["x-verdict"] == str(place["pictured"]["seq"])
    assert json.loads(answer.headers["x-verdict-record"]) == place["pictured"]


def test_a_picture_is_drawn_with_the_decision_after_the_debounce(serve):
    client = serve()
    row = client.running.finish()[0]
    image, heat_map = np.zeros((32, 64, 3), np.uint8), np.full((8, 16), 0.9, np.float32)
    frames_own = Verdict("reject", 0.9, 0.5, heat_map)
    drawn = JpegCache().draw(LatestVerdict(dataclasses.replace(row, decision="pass"), image, frames_own), True, 640)
    passed, rejected = (draw_overlay(image, decision, 0.9, 0.5, heat_map) for decision in ("pass", "reject"))
    assert drawn == cv2.imencode(".jpg", passed, QUALITY)[1].tobytes()
    assert drawn != cv2.imencode(".jpg", rejected, QUALITY)[1].tobytes()


def test_the_document_names_every_route_and_which_of_them_need_a_token(api):
    paths = api.get("/openapi.json")["paths"]
    operations = {(path, method.upper()): paths[path][method] for path in paths for method in paths[path]}
    assert set(operations) == {*GUARDED, ("/healthz", "GET"), ("/trigger/{camera}", "POST")}
    assert {key for key, operation in operations.items() if "security" not in operation} == {("/healthz", "GET")}
    assert all(operation["summary"].endswith(".") or operation["description"] for operation in operations.values())
